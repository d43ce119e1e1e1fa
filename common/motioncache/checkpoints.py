"""Checks that the loaders share: JSON files, sizes, indices of shards, and the names and values of tensors."""

import json
import sys
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open

from motioncache.errors import ConfigError, MotionCacheError
from motioncache.field_types import shown

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
"""Dtypes that weights may have in a file."""

_STEMS = {".safetensors": ("model", "diffusion_pytorch_model"), ".bin": ("pytorch_model", "diffusion_pytorch_model")}
"""Names of weight files, by suffix; transformers and diffusers prefer the first suffix."""


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds a mapping.

    Raises:
        ConfigError: if the file is missing, is not JSON in UTF-8, is nested too deep, or holds anything but a mapping.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"the configuration {path} cannot be read ({error}); download it again") from None
    except (ValueError, RecursionError) as error:  # text in another encoding is a ValueError, too
        raise ConfigError(f"{path} is damaged and cannot be read as JSON ({error}); download it again") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a mapping, not {shown(values)}; download it again")
    return cast("dict[str, Any]", values)


def require_value(where: str, value: object, holds: bool, allowed: str) -> None:
    """Refuse a value of a model's configuration if its condition does not hold.

    Args:
        where: the file and the field.
        holds: whether the value is allowed.
        allowed: the allowed values, in words.
    """
    if not holds:
        in_file = list(cast("tuple[Any, ...]", value)) if isinstance(value, tuple) else value  # as JSON has it
        raise ConfigError(f"{where} must be {allowed}, not {shown(in_file)}; use the file that came with the weights")


def is_whole(value: object, least: int = 1) -> bool:
    """Tell whether a value is a whole number of 64 bits and not too small; true and false are no numbers."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**63


def is_number(value: object) -> bool:
    """Tell whether a value is a finite number; true and false are no numbers."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def check_sizes(where: str, values: Mapping[str, Any], names: Iterable[str]) -> None:
    """Refuse sizes that are present and are not whole numbers above 0."""
    for name in names:
        if name in values:
            require_value(f"{where}: {name}", values[name], is_whole(values[name]), "a whole number above 0")


def read_index(index: Path) -> dict[str, Path]:
    """Find the file of each tensor that an index of shards lists; all of them lie beside the index."""
    values = read_mapping(index)
    weight_map = values.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        found = shown(values.get("weight_map"))
        raise ConfigError(f"{index}: weight_map must map tensors to files, not {found}; download it again")
    files: dict[str, Path] = {}
    for name, shard in cast("dict[str, Any]", weight_map).items():
        if not isinstance(shard, str) or not shard or Path(shard).name != shard:
            raise ConfigError(
                f"{index}: weight_map: {name} must name a file in the folder of the index, not {shown(shard)}; "
                "download it again"
            )
        files[name] = index.parent / shard
    return files


def check_dtypes(folder: Path) -> None:
    """Refuse weights of diffusers or transformers that are no floats of 16 or 32 bits, from the heads of the files."""
    for suffix, stems in _STEMS.items():
        files = {path for stem in stems for path in _weight_files(folder, f"{stem}{suffix}")}
        for path in sorted(files):
            for name, dtype in _dtypes(path).items():
                check_dtype(path, name, dtype)
        if files:
            return


def check_dtype(path: Path, name: str, dtype: torch.dtype) -> None:
    """Refuse a tensor that holds no floats of 16 or 32 bits."""
    if dtype not in FLOATS:
        raise MotionCacheError(
            f"{path}: {name} is {dtype}, not a float of 16 or 32 bits: take the checkpoint that is not quantised"
        )


def check_report(where: Path, report: Mapping[str, Any], *, unused: tuple[str, ...] = ()) -> None:
    """Refuse tensors that diffusers or transformers report as missing, unexpected, or of another shape.

    Args:
        where: the folder of the weights.
        report: the `output_loading_info` of `from_pretrained`.
        unused: beginnings of names that may be there without being used.
    """
    for kind in ("missing", "mismatched", "unexpected"):
        keys = sorted(key if isinstance(key, str) else str(key[0]) for key in report.get(f"{kind}_keys") or ())
        keys = [key for key in keys if not (kind == "unexpected" and key.startswith(unused))]
        if keys:
            raise ConfigError(
                f"{where} has {len(keys)} {kind} tensors, {keys[0]} among them: its weights are damaged or do not "
                "belong to its config.json; download both again"
            )


def check_finite(where: Path, name: str, tensor: torch.Tensor) -> None:
    """Refuse a weight with a value that is NaN or infinite; tensors without memory and quantised ones pass."""
    if tensor.is_meta or tensor.dtype not in FLOATS or not tensor.numel():
        return
    least, greatest = tensor.detach().aminmax()  # forty times as fast as `isfinite`; a NaN makes both NaN
    if not (least.isfinite() and greatest.isfinite()):
        raise MotionCacheError(
            f"{where}: {name} has values that are NaN or infinite in {tensor.dtype}: download it again, or compute in "
            "float32 or bfloat16 if its values are too large for float16"
        )


def _weight_files(folder: Path, name: str) -> set[Path]:
    """Find the file of this name, or the shards that an index beside it lists."""
    index = folder / f"{name}.index.json"
    files = set(read_index(index).values()) if index.is_file() else {folder / name}
    return {path for path in files if path.is_file()}


def _dtypes(path: Path) -> dict[str, torch.dtype]:
    """Read the dtypes of a file's tensors without reading the tensors."""
    if path.suffix == ".safetensors":
        with cast("Any", safe_open)(path, framework="pt") as file:
            return {name: file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118  (mapped, not read)
    tensors = torch.load(path, map_location="meta", mmap=zipfile.is_zipfile(path), weights_only=True)
    return {name: tensor.dtype for name, tensor in tensors.items() if isinstance(tensor, torch.Tensor)}
