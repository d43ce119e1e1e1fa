"""Chunks that are kept in any form give a pass what it would read from one buffer."""

from dataclasses import dataclass

import pytest
import torch

from motioncache.chunk_store import ChunkStore
from motioncache.config import KVStorage
from motioncache.kept import FORMS, KeptInInt8, quantise
from motioncache.kv_cache import KVCache
from motioncache.kv_store import KVStore

LAYERS, HEADS, DIM, LENGTH, CHUNKS = 3, 2, 8, 4, 3
ROWS = LENGTH * CHUNKS

Chosen = dict[tuple[str, int], list[int] | None]
"""The due tokens of chunks by branch and number, None for all of them; clean chunks have a number below zero."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One chunk of a pass, or a part of it."""

    branch: str
    start: int
    stop: int
    chunk: slice
    attended: slice
    clean: bool


@dataclass(frozen=True)
class Rows:
    """A pass."""

    segments: list[Segment]
    cache_rows: torch.Tensor


def make_pass(chosen: Chosen) -> Rows:
    segments, rows, stop = [], [], 0
    for (branch, number), due in chosen.items():
        offset, chunk, clean = ROWS * (branch == "uncond"), abs(number + (number < 0)), number < 0
        first = offset + chunk * LENGTH
        tokens = torch.arange(LENGTH) if due is None else torch.tensor(due)
        rows.append(first + tokens)
        start, stop = stop, stop + len(tokens)
        segments.append(
            Segment(
                branch=branch,
                start=start,
                stop=stop,
                chunk=slice(first, first + LENGTH),
                attended=slice(offset, first + LENGTH),
                clean=clean,
            )
        )
    return Rows(segments, torch.cat(rows))


def clean(chunk: int) -> int:
    return -chunk - 1


def seen(store: KVStore, passes: list[Chosen], dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """All that the segments of some passes attend to, layer by layer."""
    torch.manual_seed(0)
    found: list[torch.Tensor] = []
    for chosen in passes:
        rows = make_pass(chosen)
        for layer in range(LAYERS):
            key, value = torch.randn(2, 2, len(rows.cache_rows), HEADS, DIM).to(dtype)
            found += [x.clone() for pair in store.exchange(layer, rows, key, value) for x in pair]
    return found


def full() -> KVCache:
    sizes = {"layers": LAYERS, "batch": 2, "rows": 2 * ROWS, "heads": HEADS, "head_dim": DIM}
    return KVCache(**sizes, dtype=torch.float32, device=torch.device("cpu"))


BOTH = ("cond", "uncond")
TOGETHER: list[Chosen] = [
    {("cond", 0): None},
    {("uncond", 0): None},
    {(b, c): None for b in BOTH for c in (0, 1)},
    {(b, c): None for b in BOTH for c in (clean(0), 1, 2)},
    {(b, c): None for b in BOTH for c in (1, 2)},
    {(b, c): None for b in BOTH for c in (clean(1), 2)},
    {("uncond", 2): None},
]
"""Every chunk that denoises is computed whole, and chunk 0 and 1 finish."""

APART: list[Chosen] = [
    {(b, c): None for b in BOTH for c in (0, 1)},
    {("cond", 1): [0, 3], ("uncond", 0): None},
    {("cond", 0): [1], ("cond", 1): None, ("uncond", 1): [2]},
    {(b, 2): None for b in BOTH},
    {("cond", clean(0)): None, ("cond", 2): [0, 1, 2]},
    {("uncond", 2): [3]},
]
"""Chunks are computed whole, in part or not at all."""


@pytest.mark.parametrize("kv", [KVStorage.model, KVStorage.host])
@pytest.mark.parametrize(("passes", "keeps_all"), [(TOGETHER, False), (TOGETHER, True), (APART, True)])
def test_what_is_seen_is_what_one_buffer_holds(kv: KVStorage, passes: list[Chosen], keeps_all: bool) -> None:
    expected = seen(full(), passes)
    found = seen(ChunkStore(FORMS[kv], keeps_all=keeps_all), passes)
    assert len(found) == len(expected)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


@pytest.mark.parametrize(("passes", "keeps_all"), [(TOGETHER, False), (APART, True)])
def test_int8_is_off_by_half_a_scale_at_most(passes: list[Chosen], keeps_all: bool) -> None:
    expected = seen(full(), passes)
    found = seen(ChunkStore(KeptInInt8, keeps_all=keeps_all), passes)
    errors = []
    for ours, theirs in zip(found, expected, strict=True):
        largest = theirs.abs().amax(-1, keepdim=True)
        assert ((ours - theirs).abs() <= largest / 254 * 1.0001).all()
        errors.append(float((ours - theirs).abs().max()))
    assert max(errors) > 1e-3  # something was quantised
    assert min(errors) == 0  # and what has just been computed was not


def test_what_has_just_been_computed_is_seen_as_it_is() -> None:
    rows, store = make_pass({("cond", 0): None}), ChunkStore(KeptInInt8, keeps_all=True)
    key, value = torch.randn(2, 1, LENGTH, HEADS, DIM)
    ((seen_key, seen_value),) = store.exchange(0, rows, key, value)
    assert torch.equal(seen_key, key)
    assert torch.equal(seen_value, value)


def test_nothing_is_kept_or_copied_where_everything_is_computed() -> None:
    rows, store = make_pass({("cond", 0): None, ("cond", 1): None}), ChunkStore(KeptInInt8, keeps_all=False)
    key, value = torch.randn(2, 1, 2 * LENGTH, HEADS, DIM)
    for seen_key, seen_value in store.exchange(0, rows, key, value):
        assert seen_key.data_ptr() == key.data_ptr()
        assert seen_value.data_ptr() == value.data_ptr()
    assert not store._chunks


def test_a_chunk_that_was_not_kept_is_not_invented() -> None:
    store = ChunkStore(FORMS[KVStorage.model], keeps_all=False)
    seen(store, [{("cond", 0): None}])
    with pytest.raises(RuntimeError, match="from row 0 on are attended to, and were not kept"):
        seen(store, [{("cond", 1): None}])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_quantised_values_of_any_size_come_back(dtype: torch.dtype) -> None:
    x = torch.cat([torch.randn(1, 5, 2, 16), torch.zeros(1, 1, 2, 16), 1e4 * torch.randn(1, 1, 2, 16)], dim=1).to(dtype)
    values, scales = quantise(x)
    assert torch.equal(values, values.to(torch.int8).float())
    assert scales.shape == (1, 7, 2, 1)
    error = (values.double() * scales.double() - x.double()).abs()
    largest = x.double().abs().amax(-1, keepdim=True)
    assert (error <= largest / 254 * (1 + 2**-8) + 1e-30).all()  # scales have the precision of the dtype
    assert torch.equal(values[:, 5], torch.zeros(1, 2, 16))
