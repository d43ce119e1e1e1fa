"""The moment at which a window of SkyReels-V2 takes the most memory, in closed form."""

from collections.abc import Iterator
from dataclasses import dataclass

from motioncache.config import KVStorage, PolicyConfig
from motioncache.forecast.budget import ForecastConfig
from motioncache.policies.none import NoCacheConfig
from motioncache.policies.teacache import TeaCacheConfig
from motioncache_skyreels.packed import MOST_ROWS

HEAD = 128
"""Values of a head in all released models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptKeys:
    """What is kept of the keys and values of a window.

    Attributes:
        kv: how.
        all_chunks: every chunk that is computed; else those that have finished.
        synchronous: all chunks finish at the same time, with the window.
        residuals: whether chunks keep residuals besides.
    """

    kv: KVStorage = KVStorage.model
    all_chunks: bool = True
    synchronous: bool = False
    residuals: bool = True


def kept_keys(policy: PolicyConfig, *, synchronous: bool) -> KeptKeys:
    """What a policy keeps; see `Policy.computes_together`."""
    residuals = not isinstance(policy, NoCacheConfig | ForecastConfig)
    together = not residuals or (isinstance(policy, TeaCacheConfig) and synchronous)
    return KeptKeys(kv=policy.kv, all_chunks=not together, synchronous=synchronous, residuals=residuals)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The sizes of a model and of a window.

    Attributes:
        tokens: of all CFG branches.
        passes: 1 where all branches are computed side by side, else their number.
    """

    layers: int
    width: int
    ffn: int
    tokens: int
    chunks: int
    branches: int
    passes: int
    itemsize: int

    @property
    def layer(self) -> int:
        """Bytes of all keys and values of a layer."""
        return 2 * self.tokens * self.width * self.itemsize


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Shares of the chunks of a window in one model call.

    Attributes:
        computed: those that run through the blocks.
        kept: those whose keys and values are kept.
        read: those whose keys and values are seen, and not computed whole.
    """

    computed: float
    kept: float
    read: float


def peak(kept: KeptKeys, sizes: Sizes) -> tuple[int, int]:
    """Bytes of keys and values, and of activations, when they take the most together."""
    found = [both for moment in moments(kept, sizes.chunks) for both in _within(moment, kept, sizes)]
    return max(found, key=sum)


def moments(kept: KeptKeys, chunks: int) -> Iterator[Moment]:
    """The model calls that may take the most: while all chunks run, and each time that one has finished."""
    if kept.all_chunks:
        yield Moment(computed=1.0, kept=1.0, read=1.0)
        return
    yield Moment(computed=1.0, kept=0.0, read=0.0)
    for finished in range(1, 1 if kept.synchronous else chunks):
        computed = chunks - finished + 1  # the one that has just finished is computed once more
        yield Moment(computed=computed / chunks, kept=finished / chunks, read=(finished - 1) / chunks)


def _within(moment: Moment, kept: KeptKeys, sizes: Sizes) -> Iterator[tuple[int, int]]:
    """Keys and values, and activations, before, during and after attention; the factors were measured."""
    width, item = sizes.width, sizes.itemsize
    rows = sizes.tokens * moment.computed / sizes.passes
    unit, part = rows * width * item, min(rows, MOST_ROWS)
    always = sizes.tokens / sizes.branches * (moment.computed * width * item + 8 * HEAD)
    always += rows * 8 * HEAD + sizes.tokens * 192  # rotary tables in float32; latents and outputs
    always += unit * (sizes.passes > 1)  # what the last branch has come to
    stays = sizes.layers * sizes.layer * moment.kept * _share(kept.kv, item)
    comes = sizes.layer * moment.read / sizes.passes if kept.kv is KVStorage.host else 0
    copies = kept.kv is not KVStorage.model or not kept.all_chunks
    beside = sizes.layer / sizes.branches if copies and moment.read else 0
    if kept.kv is KVStorage.host:
        beside /= 2  # what has come goes as it is put beside the rest, keys before values
    yield int(stays + comes), int(4 * unit + part * (20 + 3 * item) * width + always)  # hidden, query, key, value
    yield int(stays + 2 * comes + beside), int(5 * unit + always)  # and what was attended
    yield int(stays + comes), int(3 * unit + part * ((10 + 3 * item) * width + 2 * sizes.ffn * item) + always)


def _share(kv: KVStorage, itemsize: int) -> float:
    """What stays on the GPU of what is kept."""
    return {KVStorage.model: 1.0, KVStorage.int8: (1 + itemsize / HEAD) / itemsize, KVStorage.host: 0.0}[kv]
