"""Golden videos: whole runs of the official sampling loop."""

import torch

from motioncache_eval.parity import FileReport
from motioncache_magi.config import MagiConfig
from motioncache_magi.parity.golden import FLOAT, Golden
from motioncache_magi.parity.model import build_dit, embed_words, null_text, settings
from motioncache_magi.sampler import Sampler


def check_video(golden: Golden) -> FileReport:
    """Latents of all chunks that the sampler yields, from the golden noise and text."""
    report, tensors = FileReport(golden.name), golden.tensors
    config = MagiConfig.from_dict(golden.about["config"], where=golden.name)
    model = build_dit(golden.sibling(golden.about["weights"]), config)
    prefix = tensors["prefix_latents"][0] if "prefix_latents" in tensors else None
    given = 0 if prefix is None else prefix.shape[1]
    noise, width = tensors["noise"][0], config.runtime.chunk_width
    chunks = noise.shape[1] // width
    sampler = Sampler(
        model,
        settings(config, chunks=chunks, prefix_frames=given),
        noise.clone(),
        prefix=prefix,
        captions=[embed_words(model, tensors["caption_embs"], tensors["caption_mask"])] * chunks,
        null=null_text(model),
    )
    video = [latents[:, _first_new(chunk * width, given) :].clone() for chunk, latents in sampler]
    report.compare("latents", torch.cat(video, dim=1)[None], tensors["latents"], FLOAT)
    return report


def _first_new(start: int, given: int) -> int:
    """First frame within a chunk that is emitted: given frames are not, except for an image."""
    return 0 if given == 1 else max(given - start, 0)
