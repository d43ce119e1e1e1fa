"""Loads a pipeline strictly: one error says what is missing, damaged or wrong in a checkpoint."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from motioncache.checkpoints import check_dtypes, check_finite, check_report, read_mapping
from motioncache.errors import MotionCacheError
from motioncache_diffusers.convolution import flatten_convolutions

UNUSED = {"text_encoder": ("decoder.", "lm_head.")}
"""Tensors that a part may hold without using them: a whole UMT5 serves as a text encoder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A kind of checkpoint in diffusers' format.

    Attributes:
        pipeline: the pipeline's class.
        parts: classes of its models, by folder.
        check_configs: refuses sizes that no model of the kind can have, before weights are loaded.
        example: a hub id of one.
    """

    pipeline: Any
    parts: Mapping[str, Any]
    check_configs: Callable[[Path], None]
    example: str

    def load(self, model: str, dtype: str) -> Any:
        """Load a folder or a hub id. The autoencoder stays in float32.

        Raises:
            MotionCacheError: if the model does not exist or has another class, if a file is damaged, or if a tensor is
                missing, unexpected, of another shape or kind, or holds a NaN or an infinity.
        """
        self.check_folder(model)
        try:
            return self._load(model, getattr(torch, dtype))
        except MotionCacheError:
            raise
        except Exception as error:  # loading fails in as many ways as there are libraries involved
            raise MotionCacheError(f"the model {model} cannot be loaded: {_one_line(error)}") from error

    def _load(self, model: str, dtype: torch.dtype) -> Any:
        folder = Path(model)
        if not folder.exists():
            folder = Path(self.pipeline.download(model))
            self.check_folder(str(folder))
        self.check_configs(folder)
        parts = {
            name: _load_part(cls, folder / name, torch.float32 if name == "vae" else dtype)
            for name, cls in self.parts.items()
        }
        return self.pipeline.from_pretrained(folder, **parts, dtype=dtype)

    def check_folder(self, model: str) -> None:
        """Refuse a folder that does not exist or holds another kind of model; a hub id is accepted."""
        folder, wanted = Path(model), self.pipeline.__name__
        if not folder.exists():
            if model.count("/") == 1 and not model.startswith((".", "/", "~")):
                return
            raise MotionCacheError(
                f"there is no model folder {model}; pass a folder in diffusers' format, or a hub id such as "
                f"{self.example}"
            )
        index = folder / "model_index.json"
        if not index.is_file():
            raise MotionCacheError(f"{model} is not a pipeline in diffusers' format: it has no model_index.json")
        name = read_mapping(index).get("_class_name")
        if name != wanted:
            raise MotionCacheError(f"{model} holds a {name}; this needs a {wanted}: pass the folder of one")


def place(pipeline: Any, device: str, *, cpu_offload: bool) -> None:
    """Put a pipeline on its device."""
    if cpu_offload:
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.to(device)
    if device == "cpu":
        flatten_convolutions(pipeline.vae)


def _load_part(cls: Any, folder: Path, dtype: torch.dtype) -> Any:
    """Load one part of the pipeline; its tensors are those of the model, and hold finite floats.

    A part with a `quantization_config` has dtypes, and tensors beside its weights, that only its quantiser knows.
    """
    quantised = bool(read_mapping(folder / "config.json").get("quantization_config"))
    if not quantised:
        check_dtypes(folder)
    part, report = cls.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    check_report(folder, {**report, "unexpected_keys": ()} if quantised else report, unused=UNUSED.get(folder.name, ()))
    for name, parameter in part.named_parameters():
        check_finite(folder, name, parameter)
    return part


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"
