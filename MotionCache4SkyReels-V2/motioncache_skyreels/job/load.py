"""Loads a job's diffusion-forcing pipeline, and checks what the job asks of it."""

from dataclasses import replace

from diffusers import SkyReelsV2DiffusionForcingPipeline

from motioncache_diffusers.loading import place
from motioncache_eval.settings import check_device
from motioncache_skyreels.guards import VideoSize, check_chunks, check_windows
from motioncache_skyreels.job.checkpoint import CHECKPOINT
from motioncache_skyreels.job.config import JobConfig


def load_pipeline(job: JobConfig) -> SkyReelsV2DiffusionForcingPipeline:
    """Load a job's pipeline from a folder or the hub, and put it on its device; see `Checkpoint.load`.

    Raises:
        MotionCacheError: if it cannot be loaded, or if the job asks for CUDA and the machine has none.
    """
    check_device(job.device, job.cpu_offload)
    pipeline = CHECKPOINT.load(job.model, job.dtype)
    if job.flow_shift is not None:
        pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, flow_shift=job.flow_shift)
    place(pipeline, job.device, cpu_offload=job.cpu_offload)
    return pipeline


def check_size(pipeline: SkyReelsV2DiffusionForcingPipeline, job: JobConfig) -> None:
    """Refuse a job whose frames or windows do not divide into chunks, before anything is sampled."""
    factor = pipeline.vae_scale_factor_temporal
    size = VideoSize(num_frames=job.num_frames, chunk=job.causal_block_size, factor=factor)
    if job.long and job.overlap_history is not None:
        base, overlap = ((frames - 1) // factor + 1 for frames in (job.base_num_frames, job.overlap_history))
        size = replace(size, base=base, overlap=overlap)
    check_windows(size)
    check_chunks(size)
