"""Reads official checkpoints of the DiT and the VAE strictly, tensor by tensor from memory-mapped files."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from torch import nn

from motioncache.checkpoints import check_dtype, check_finite, read_index, read_mapping
from motioncache.errors import MotionCacheError
from motioncache_magi.model.config import MagiConfig, ModelConfig
from motioncache_magi.model.dit import VideoDiT, parameter_dtype
from motioncache_magi.model.fp8 import FP8, dequantise, fp8_layers, hold_fp8
from motioncache_magi.vae.config import VaeConfig
from motioncache_magi.vae.vit import ViTVAE

Model = TypeVar("Model", bound=nn.Module)

_INDEX, _SINGLE = "model.safetensors.index.json", "model.safetensors"
_STACKED = "videodit_blocks.layers.self_attention."
_SCALES = ("weight_scale", "input_scale", "smooth_scale")
"""Ends of the names of what belongs to fp8 weights."""

_VAE_FILE = "diffusion_pytorch_model.safetensors"


def weight_folder(variant: Path, config: MagiConfig) -> Path:
    """Name the folder of a variant's weights; base, distilled and fp8 weights have folders of their own."""
    fp8, distilled = (".fp8" if config.engine.fp8_quant else ""), (".distill" if config.engine.distill else "")
    return variant / f"inference_weight{fp8}{distilled}"


def load_dit(variant: Path, config: MagiConfig, device: str = "cpu", *, keep_fp8: bool = False) -> VideoDiT:
    """Load the DiT of a variant folder such as `ckpt/magi/4.5B_distill`, in the dtypes that it computes in.

    Args:
        keep_fp8: keep the weights of an fp8 checkpoint as they are, until they are applied.

    Raises:
        MotionCacheError: if the checkpoint is stacked, or no fp8 checkpoint where its weights are to be kept, if a file
            is missing or damaged, or if a tensor is missing, unexpected, of another shape or kind, or holds a NaN or an
            infinity; the message names it.
    """
    if keep_fp8 and not config.engine.fp8_quant:
        raise MotionCacheError(
            f"weights=fp8 keeps those of an fp8 checkpoint, and {variant.name} is none: take 4.5B_distill_quant or "
            "24B_distill_quant, or leave weights out"
        )
    folder = weight_folder(variant, config)
    if not folder.is_dir():
        raise MotionCacheError(f"there is no folder {folder}; it should hold {_SINGLE} or {_INDEX}")
    files = _tensor_files(folder)
    if any(name.startswith(_STACKED) for name in files):
        raise MotionCacheError(
            f"{folder} holds stacked layers, the layout of magi1.1, which the published code cannot load either: take "
            "a checkpoint from ckpt/magi"
        )
    if config.engine.fp8_quant:
        return load_fp8(config.model, files, device, keep=keep_fp8)
    return load_weights(
        lambda: VideoDiT(config.model), files, lambda name: parameter_dtype(name, config.model.dtype), device
    )


def load_fp8(config: ModelConfig, files: dict[str, Path], device: str, *, keep: bool) -> VideoDiT:
    """Load an fp8 checkpoint, and keep its weights so or turn them into the model's dtype."""
    with torch.device("meta"):
        in_fp8 = {f"{name}.weight" for name in fp8_layers(hold_fp8(VideoDiT(config)))}

    def dtype(name: str) -> torch.dtype:
        if name in in_fp8:
            return FP8
        return torch.float32 if name.endswith(_SCALES) else parameter_dtype(name, config.dtype)

    model = load_weights(lambda: hold_fp8(VideoDiT(config)), files, dtype, device)
    for name, layer in fp8_layers(model).items():
        if not (layer.divisor.is_meta or (layer.divisor > 0).all()):
            raise MotionCacheError(f"{_where(files)}: scales of {name} are not above 0; download it again")
    return model if keep else dequantise(model)


def load_vae(folder: Path, dtype: torch.dtype, device: str = "cpu") -> ViTVAE:
    """Load the autoencoder of a folder such as `ckpt/vae`."""
    where = folder / "config.json"
    config = VaeConfig.from_official(read_mapping(where), where=str(where))
    path = folder / _VAE_FILE
    return load_weights(lambda: ViTVAE(config), dict.fromkeys(_names(path), path), lambda name: dtype, device)


def load_weights(
    create: Callable[[], Model], files: dict[str, Path], dtype: Callable[[str], torch.dtype], device: str
) -> Model:
    """Create a model without memory and give it the tensors of `files`, one at a time.

    Args:
        create: makes the model; it runs on torch's `meta` device.
        files: the file that holds each tensor.
        dtype: returns the dtype of a tensor, from its name.
    """
    try:
        with torch.device("meta"):
            model = create()
    except (RuntimeError, TypeError, OverflowError) as error:  # sizes whose products are too large for torch
        reason = str(error).partition("\n")[0]
        raise MotionCacheError(
            f"{_where(files)}: no model has the sizes of its configuration ({reason}); use the one that came with it"
        ) from None
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    _check_names(expected.keys(), files)
    weights: dict[str, torch.Tensor] = {}
    for path in sorted(set(files.values())):
        with _opened(path) as file:
            for name in (name for name, holder in files.items() if holder == path):
                tensor = file.get_tensor(name)
                _check_tensor(name, tensor, expected[name], path, fp8=dtype(name) is FP8)
                weights[name] = tensor.to(device, dtype(name))
                check_finite(path, name, weights[name].float() if dtype(name) is FP8 else weights[name])
    model.load_state_dict(weights, assign=True)
    return model.eval().requires_grad_(False)


def _tensor_files(folder: Path) -> dict[str, Path]:
    """Find the file that holds each tensor."""
    index = folder / _INDEX
    if not index.exists():
        single = folder / _SINGLE
        return dict.fromkeys(_names(single), single)
    files = read_index(index)
    for path in sorted(set(files.values())):
        if not path.exists() and path.with_name(f"{path.name}.zst").exists():
            raise MotionCacheError(f"{path.name} is compressed: run `zstd -d {path}.zst` first")
        present = set(_names(path))
        missing = sorted(name for name, holder in files.items() if holder == path and name not in present)
        if missing:
            raise MotionCacheError(f"{path} lacks {_some(missing)}, which its index promises; download it again")
    return files


def _names(path: Path) -> list[str]:
    with _opened(path) as file:
        return list(file.keys())


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Map a file of tensors into memory."""
    if not path.exists():
        raise MotionCacheError(f"there is no file {path}; download it again")
    try:
        file = safe_open(path, framework="pt")
    except Exception as error:  # safetensors raises its own error types for damaged files
        raise MotionCacheError(f"{path} is damaged or incomplete ({error}); download it again") from None
    with file:
        yield file


def _check_names(expected: Any, files: dict[str, Path]) -> None:
    missing, unexpected = sorted(expected - files.keys()), sorted(files.keys() - expected)
    problems: list[str] = []
    if missing:
        problems.append(f"lacks {_some(missing)}")
    if unexpected:
        problems.append(f"has unexpected {_some(unexpected)}")
    if problems:
        raise MotionCacheError(
            f"{_where(files)} {' and '.join(problems)}: does the configuration belong to these weights?"
        )


def _where(files: dict[str, Path]) -> str:
    return str(next(iter(files.values())).parent) if files else "the checkpoint"


def _check_tensor(name: str, tensor: torch.Tensor, shape: torch.Size, path: Path, *, fp8: bool) -> None:
    if tensor.shape != shape:
        raise MotionCacheError(
            f"{path}: {name} has the shape {tuple(tensor.shape)}, and the configuration asks for {tuple(shape)}"
        )
    if not fp8:
        check_dtype(path, name, tensor.dtype)
    elif tensor.dtype is not FP8:
        raise MotionCacheError(f"{path}: {name} is {tensor.dtype}, and an fp8 checkpoint holds {FP8} there")


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
