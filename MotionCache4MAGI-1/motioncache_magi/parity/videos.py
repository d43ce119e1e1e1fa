"""Golden videos: whole runs of the official sampling loop."""

from collections.abc import Callable

import torch

from motioncache_eval.parity import FileReport
from motioncache_magi.model.config import MagiConfig
from motioncache_magi.parity.golden import FLOAT, Golden
from motioncache_magi.parity.model import build_dit, embed_words, null_text, settings
from motioncache_magi.sampling.sampler import Sampler, Settings


def check_video(golden: Golden, create: Callable[..., Sampler] = Sampler) -> FileReport:
    """Latents of all chunks that the sampler yields, from the golden noise and text."""
    report = FileReport(golden.name)
    config = MagiConfig.from_dict(golden.about["config"], where=golden.name)
    latents = sampled(golden_sampler(golden, config, create), golden)
    report.compare("latents", latents, golden.tensors["latents"], FLOAT)
    return report


def golden_sampler(golden: Golden, config: MagiConfig, create: Callable[..., Sampler] = Sampler) -> Sampler:
    """A sampler with the noise, the text and the prefix of a golden file."""
    tensors = golden.tensors
    model = build_dit(golden.sibling(golden.about["weights"]), config)
    fixed = golden_settings(golden, config)
    return create(
        model,
        fixed,
        tensors["noise"][0].clone(),
        prefix=tensors["prefix_latents"][0] if "prefix_latents" in tensors else None,
        captions=[embed_words(model, tensors["caption_embs"], tensors["caption_mask"])] * fixed.schedule.chunks,
        null=null_text(model),
    )


def golden_settings(golden: Golden, config: MagiConfig) -> Settings:
    """The settings of the whole video of a golden file."""
    chunks = golden.tensors["noise"].shape[2] // config.runtime.chunk_width
    return settings(config, chunks=chunks, prefix_frames=_given(golden))


def sampled(sampler: Sampler, golden: Golden) -> torch.Tensor:
    """All latents that are new, `[1, channels, frames, height, width]`; an image counts as new."""
    given = _given(golden)
    video = []
    for chunk, latents in sampler:
        first = 0 if given == 1 else max(given - chunk * latents.shape[1], 0)
        video.append(latents[:, first:].clone())
    return torch.cat(video, dim=1)[None]


def _given(golden: Golden) -> int:
    """Latent frames of the prefix."""
    return golden.tensors["prefix_latents"].shape[2] if "prefix_latents" in golden.tensors else 0
