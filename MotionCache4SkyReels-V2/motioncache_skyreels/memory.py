"""Estimates what SkyReels-V2 takes of a GPU's memory, see `motioncache_eval.memory.Footprint`."""

from typing import Any

import torch
from diffusers import SkyReelsV2Transformer3DModel

from motioncache.config import PolicyConfig
from motioncache_eval.memory import Footprint
from motioncache_skyreels.cost import SkyReelsCost
from motioncache_skyreels.job.config import JobConfig
from motioncache_skyreels.peak import KeptKeys, Sizes, kept_keys, peak

TEXT_ENCODER_PARAMETERS = 5_680_910_336
"""Of the encoder of google/umt5-xxl: 256384 x 4096 for words, 24 layers of 4 x 4096^2 + 3 x 4096 x 10240 and norms."""

AUTOENCODER_PARAMETERS = 126_892_531
"""Of Wan2.1's autoencoder, which stays in float32."""

_SMALL: dict[str, Any] = {"num_layers": 30, "num_attention_heads": 12, "ffn_dim": 8960}
_LARGE: dict[str, Any] = {"num_layers": 40, "num_attention_heads": 40, "ffn_dim": 13824}
RELEASED = {
    "1.3B-540P": (_SMALL, (544, 960)),
    "14B-540P": (_LARGE, (544, 960)),
    "14B-720P": (_LARGE, (720, 1280)),
}
"""The released models: their sizes, and the height and width that they are made for."""

DECODER_BYTES_PER_PIXEL = 19_553
"""Of a frame; measured. The autoencoder decodes frame by frame, and puts frames of float32 side by side."""

TEXT_LENGTH = 512

WAYS: tuple[dict[str, Any], ...] = (
    {},
    {"kv": "int8"},
    {"kv": "host"},
    {"kv": "host", "split_guidance": True},
    {"kv": "host", "weights": "int8"},
)
"""Settings of `motioncache memory` that take less and less memory."""

PRESETS: tuple[dict[str, Any], ...] = (
    {"preset": "exact"},
    {"preset": "forecast"},
    {"preset": "exact", "kv": "int8"},
    {"preset": "exact", "synchronous": True},
    {"gpus": 2},
    {"gpus": 4},
    {"gpus": 2, "parallel": "cfg"},
)
"""Settings whose memory the documents show besides."""

_WINDOWS = (57, 77, 97)
"""Frames of a window (`base_num_frames`); a longer video takes no more."""


def released_footprints() -> list[Footprint]:
    """The released models in bfloat16 with guidance, for windows of several lengths."""
    return [
        memory(
            create_empty(sizes),
            f"SkyReels-V2 {name}, {height}x{width}, {frames} frames",
            height=height,
            width=width,
            num_frames=frames,
        )
        for name, (sizes, (height, width)) in RELEASED.items()
        for frames in _WINDOWS
    ]


def create_empty(sizes: dict[str, Any]) -> SkyReelsV2Transformer3DModel:
    """A transformer without memory."""
    with torch.device("meta"):
        return SkyReelsV2Transformer3DModel(text_dim=4096, freq_dim=256, inject_sample_info=False, **sizes)


def memory_of_job(transformer: SkyReelsV2Transformer3DModel, job: JobConfig, policy: PolicyConfig) -> Footprint:
    """The footprint of a job with a policy."""
    dtype: torch.dtype = getattr(torch, job.dtype)
    frames = min(job.num_frames, job.base_num_frames)
    return memory(
        transformer,
        job.model,
        height=job.height,
        width=job.width,
        num_frames=frames,
        decoded_frames=job.num_frames,
        branches=2 if job.guidance_scale > 1 else 1,
        itemsize=dtype.itemsize,
        chunks=((frames - 1) // 4 + 1) // job.causal_block_size,
        kept=kept_keys(policy, synchronous=job.ar_step == 0),
        split_guidance=policy.split_guidance,
    )


def memory(
    transformer: SkyReelsV2Transformer3DModel,
    name: str,
    *,
    height: int,
    width: int,
    num_frames: int,
    decoded_frames: int = 97,
    branches: int = 2,
    itemsize: int = 2,
    chunks: int | None = None,
    kept: KeptKeys | None = None,
    split_guidance: bool = False,
) -> Footprint:
    """The footprint of a window of `num_frames` frames, with every chunk that denoises computed at once.

    Args:
        decoded_frames: frames of the whole video.
        branches: CFG branches: 2 with guidance.
        itemsize: bytes of a number: 2 in bfloat16.
        chunks: of the window; None for chunks of 5 latent frames.
        kept: None keeps the keys and values of all chunks.
    """
    cost, latent_frames, kept = SkyReelsCost.of(transformer), (num_frames - 1) // 4 + 1, kept or KeptKeys()
    _, rows, columns = transformer.config.patch_size
    tokens = latent_frames * (height // (8 * rows)) * (width // (8 * columns)) * branches
    chunks, passes = chunks or max(latent_frames // 5, 1), branches if split_guidance else 1
    sizes = Sizes(
        layers=cost.layers, width=cost.width, ffn=cost.ffn, tokens=tokens, chunks=chunks, branches=branches,
        passes=passes, itemsize=itemsize,
    )  # fmt: skip
    kv_cache, activations = peak(kept, sizes)
    return Footprint(
        name=name,
        transformer=sum(parameter.numel() for parameter in transformer.parameters()) * itemsize,
        text_encoder=TEXT_ENCODER_PARAMETERS * itemsize,
        autoencoder=AUTOENCODER_PARAMETERS * 4,
        kv_cache=kv_cache,
        text_kv=2 * cost.layers * branches * TEXT_LENGTH * cost.width * itemsize,
        outputs=tokens * (cost.width if kept.residuals else 2 * cost.patch_out) * itemsize,
        activations=activations,
        decoding=height * width * (DECODER_BYTES_PER_PIXEL + 3 * 4 * decoded_frames),
    )
