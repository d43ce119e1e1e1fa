"""Estimates what SkyReels-V2 takes of a GPU's memory, see `motioncache_eval.memory.Footprint`."""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import SkyReelsV2Transformer3DModel

from motioncache.config import KVStorage, PolicyConfig
from motioncache.forecast.budget import ForecastConfig
from motioncache.policies.none import NoCacheConfig
from motioncache.policies.teacache import TeaCacheConfig
from motioncache_eval.memory import Footprint
from motioncache_skyreels.cost import SkyReelsCost

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

HEAD = 128
"""Values of a head in all released models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptKeys:
    """What is kept of the keys and values of a window.

    Attributes:
        kv: how.
        all_chunks: every chunk that is computed; else those that have finished.
        synchronous: all chunks finish at the same time, with the window.
    """

    kv: KVStorage = KVStorage.model
    all_chunks: bool = True
    synchronous: bool = False

    def peak(
        self, layer: int, layers: int, chunks: int, activations: int, branches: int, itemsize: int
    ) -> tuple[int, float]:
        """Bytes of keys and values, and the share of chunks that are computed, when both together take the most.

        Args:
            layer: bytes of all keys and values of a layer.
            activations: bytes, while all chunks are computed.
        """
        if self.all_chunks:
            return self._bytes(layer, layers, branches, itemsize, 1.0), 1.0
        moments = [(0, 1.0)]
        for finished in range(1, 1 if self.synchronous else chunks):
            kept = self._bytes(layer, layers, branches, itemsize, finished / chunks)
            moments.append((kept, (chunks - finished + 1) / chunks))
        return max(moments, key=lambda moment: moment[0] + moment[1] * activations)

    def _bytes(self, layer: int, layers: int, branches: int, itemsize: int, share: float) -> int:
        """Bytes on the GPU, where so much of all keys and values is kept."""
        together = layer // branches  # those of one branch, side by side while they are used
        kept = {
            KVStorage.model: layers * layer * share,
            KVStorage.int8: layers * layer * share / itemsize * (1 + itemsize / HEAD),
            KVStorage.host: min(2, layers) * layer * share,
        }[self.kv]
        if self.kv is KVStorage.model and self.all_chunks:
            return int(kept)
        return int(kept) + together


def kept_keys(policy: PolicyConfig, *, synchronous: bool) -> KeptKeys:
    """What a policy keeps; see `Policy.computes_together`."""
    together = isinstance(policy, NoCacheConfig | ForecastConfig)
    together |= isinstance(policy, TeaCacheConfig) and synchronous
    return KeptKeys(kv=policy.kv, all_chunks=not together, synchronous=synchronous)


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
    kept: KeptKeys = KeptKeys(),
    split_guidance: bool = False,
) -> Footprint:
    """The footprint of a window of `num_frames` frames, with every chunk that denoises computed at once.

    Args:
        decoded_frames: frames of the whole video.
        branches: CFG branches: 2 with guidance.
        itemsize: bytes of a number: 2 in bfloat16.
        chunks: of the window; None for chunks of 5 latent frames.
    """
    cost, latent_frames = SkyReelsCost.of(transformer), (num_frames - 1) // 4 + 1
    _, rows, columns = transformer.config.patch_size
    tokens = latent_frames * (height // (8 * rows)) * (width // (8 * columns)) * branches
    per_token = _values_per_token(cost.width, cost.ffn) * itemsize // (branches if split_guidance else 1)
    layer = 2 * tokens * cost.width * itemsize
    kv, share = kept.peak(
        layer, cost.layers, chunks or max(latent_frames // 5, 1), tokens * per_token, branches, itemsize
    )
    return Footprint(
        name=name,
        transformer=sum(parameter.numel() for parameter in transformer.parameters()) * itemsize,
        text_encoder=TEXT_ENCODER_PARAMETERS * itemsize,
        autoencoder=AUTOENCODER_PARAMETERS * 4,
        kv_cache=kv,
        text_kv=2 * cost.layers * branches * TEXT_LENGTH * cost.width * itemsize,
        outputs=tokens * cost.width * itemsize,
        activations=int(tokens * per_token * share),
        decoding=height * width * (DECODER_BYTES_PER_PIXEL + 3 * 4 * decoded_frames),
    )


def _values_per_token(width: int, feed_forward: int) -> int:
    """What is alive of a token at the peak: rows of its width, the wide layer twice, and rotary tables."""
    return int(6.5 * width) + 2 * feed_forward + 768
