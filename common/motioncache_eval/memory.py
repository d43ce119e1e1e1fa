"""What a video takes of a GPU's memory, in closed form."""

from collections.abc import Sequence
from dataclasses import dataclass

GIB = 2**30

CARDS = (24, 32, 48, 80, 96, 141)
"""Sizes of GPUs, in GiB."""

RESERVE = GIB
"""What CUDA, its libraries and fragments take of a GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Bytes that sampling one video takes with the cache on.

    This is an estimate at once; `motioncache memory` runs the code, and tests compare the two.

    Attributes:
        name: the model and the size of the video.
        transformer, text_encoder, autoencoder: weights.
        kv_cache: keys and values of a window.
        text_kv: keys and values of the prompts.
        outputs: the residuals or velocities that the cache keeps.
        activations: the rest, while all chunks of a window are computed; the factors are those that were measured.
        decoding: what decoding takes besides weights; 0 where that is always less than sampling.
        encoding: what encoding a prompt takes, where the text encoder is on the GPU for that alone.
        transformer_stays: whether the transformer stays on the GPU when the other parts are offloaded.
    """

    name: str
    transformer: int
    text_encoder: int
    autoencoder: int
    kv_cache: int
    text_kv: int
    outputs: int
    activations: int
    decoding: int = 0
    encoding: int = 0
    transformer_stays: bool = False

    @property
    def sampling(self) -> int:
        """Transformer, caches and activations."""
        return self.transformer + self.kv_cache + self.text_kv + self.outputs + self.activations

    def total(self, *, offload: bool) -> int:
        """The peak: with `offload`, of one part of the model at a time."""
        if not offload:
            stages = max(self.sampling, self.transformer + self.decoding, self.transformer + self.encoding)
            return stages + self.text_encoder + self.autoencoder
        others = max(self.text_encoder, self.autoencoder + self.decoding, self.encoding)
        return max(self.sampling, others + (self.transformer if self.transformer_stays else 0))


def memory_table(footprints: Sequence[Footprint], cards: Sequence[int] = CARDS) -> list[str]:
    """Which videos fit which GPU: `yes`, `offload` (with `cpu_offload=true`), or nothing.

    Args:
        cards: their memory in GiB.
    """
    width = max(len(one.name) for one in footprints)
    header = f"{'':{width}s}    K/V  total" + "".join(f"{card:>6d} GiB" for card in cards)
    return [header, *(_row(one, width, cards) for one in footprints)]


def _row(one: Footprint, width: int, cards: Sequence[int]) -> str:
    figures = f"{one.kv_cache / GIB:7.1f}{one.total(offload=False) / GIB:7.1f}"
    return f"{one.name:{width}s}{figures}" + "".join(f"{_fits(one, card):>10s}" for card in cards)


def _fits(one: Footprint, card: int) -> str:
    if one.total(offload=False) + RESERVE <= card * GIB:
        return "yes"
    return "offload" if one.total(offload=True) + RESERVE <= card * GIB else "-"
