"""Loads a diffusion-forcing pipeline strictly: one error says what is missing, damaged or wrong in a checkpoint."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, SkyReelsV2DiffusionForcingPipeline, SkyReelsV2Transformer3DModel
from transformers import UMT5EncoderModel

from motioncache.checkpoints import check_dtypes, check_finite, check_report, read_mapping
from motioncache.errors import MotionCacheError
from motioncache_eval.settings import check_device
from motioncache_skyreels.guards import VideoSize, check_chunks, check_windows
from motioncache_skyreels.job.checkpoint import check_configs
from motioncache_skyreels.job.config import JobConfig
from motioncache_skyreels.job.convolution import flatten_convolutions

PIPELINE = "SkyReelsV2DiffusionForcingPipeline"
PARTS: dict[str, Any] = {
    "transformer": SkyReelsV2Transformer3DModel,
    "vae": AutoencoderKLWan,
    "text_encoder": UMT5EncoderModel,
}
UNUSED = {"text_encoder": ("decoder.", "lm_head.")}
"""Tensors that a part may hold without using them: a whole UMT5 serves as a text encoder."""


def load_pipeline(job: JobConfig) -> SkyReelsV2DiffusionForcingPipeline:
    """Load a job's pipeline from a folder or the hub, and put it on its device. The autoencoder stays in float32.

    Raises:
        MotionCacheError: if the model does not exist or has another class, if a file is damaged, if a tensor is
            missing, unexpected, of another shape or kind, or holds a NaN or an infinity, or if the job asks for CUDA
            and the machine has none.
    """
    check_device(job.device, job.cpu_offload)
    check_folder(job.model)
    try:
        pipeline = _load(job)
    except MotionCacheError:
        raise
    except Exception as error:  # loading fails in as many ways as there are libraries involved
        raise MotionCacheError(f"the model {job.model} cannot be loaded: {_one_line(error)}") from error
    if job.flow_shift is not None:
        pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, flow_shift=job.flow_shift)
    if job.cpu_offload:
        pipeline.enable_model_cpu_offload(device=job.device)
    else:
        pipeline.to(job.device)
    if job.device == "cpu":
        flatten_convolutions(pipeline.vae)
    return pipeline


def _load(job: JobConfig) -> SkyReelsV2DiffusionForcingPipeline:
    folder = Path(job.model)
    if not folder.exists():
        folder = Path(SkyReelsV2DiffusionForcingPipeline.download(job.model))
        check_folder(str(folder))
    check_configs(folder)
    dtype: torch.dtype = getattr(torch, job.dtype)
    parts = {
        name: _load_part(cls, folder / name, torch.float32 if name == "vae" else dtype) for name, cls in PARTS.items()
    }
    return SkyReelsV2DiffusionForcingPipeline.from_pretrained(folder, **parts, dtype=dtype)


def check_size(pipeline: SkyReelsV2DiffusionForcingPipeline, job: JobConfig) -> None:
    """Refuse a job whose frames or windows do not divide into chunks, before anything is sampled."""
    size = video_size(pipeline, job)
    check_windows(size)
    check_chunks(size)


def video_size(pipeline: SkyReelsV2DiffusionForcingPipeline, job: JobConfig) -> VideoSize:
    """The length of a job's video, and of its windows and chunks."""
    factor = pipeline.vae_scale_factor_temporal
    size = VideoSize(num_frames=job.num_frames, chunk=job.causal_block_size, factor=factor)
    if not job.long or job.overlap_history is None:
        return size
    base, overlap = ((frames - 1) // factor + 1 for frames in (job.base_num_frames, job.overlap_history))
    return replace(size, base=base, overlap=overlap)


def check_folder(model: str) -> None:
    """Refuse a folder that does not exist or holds another kind of model; a hub id is accepted."""
    folder = Path(model)
    if not folder.exists():
        if model.count("/") == 1 and not model.startswith((".", "/", "~")):
            return
        raise MotionCacheError(
            f"there is no model folder {model}; pass a folder in diffusers' format, or a hub id such as "
            "Skywork/SkyReels-V2-DF-1.3B-540P-Diffusers"
        )
    index = folder / "model_index.json"
    if not index.is_file():
        raise MotionCacheError(f"{model} is not a pipeline in diffusers' format: it has no model_index.json")
    name = read_mapping(index).get("_class_name")
    if name != PIPELINE:
        raise MotionCacheError(f"{model} holds a {name}; this needs a {PIPELINE}: pass the folder of one")


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
