"""The engine with toy policies: one decision for a window, one per chunk, and arithmetic of residuals."""

from collections.abc import Sequence

import pytest
import torch

from motioncache.decision import Decision, Memory, Proposal, Request, all_or_none
from motioncache.engine import Engine, Work
from motioncache.grid import TokenGrid
from motioncache.policies.none import NoCache
from motioncache.trace import Phase, WindowShape

GRID = TokenGrid(frames=4, height=1, width=1, chunk_frames=2)
SHAPE = WindowShape(grid=GRID, iterations=3, branches=("cond",), causal=True)


class PerWindow(NoCache):
    """Like TeaCache: one sum of distances for the window; all chunks are computed or none is."""

    @property
    def kept(self) -> int:
        return 1

    def propose(self, requests: Sequence[Request]) -> list[Proposal]:
        total = sum(float(request.distance) for request in requests)
        first = any(request.step == 0 for request in requests)
        return [Proposal(phase=Phase.chunk, due=first or total >= 1.0) for _ in requests]


class PerChunk(PerWindow):
    """Like FlowCache: every chunk by its own accumulated distance, remembered from step to step."""

    def propose(self, requests: Sequence[Request]) -> list[Proposal]:
        return [
            Proposal(phase=Phase.chunk, due=r.step == 0 or float(r.distance) + _sum(r.memory) >= 1.0) for r in requests
        ]

    def remember(
        self, request: Request, proposal: Proposal, decision: Decision, hidden: torch.Tensor, predecessor: Memory
    ) -> Memory:
        return 0.0 if decision.due is True else _sum(request.memory) + float(request.distance)


class Fixed(PerWindow):
    """The given tokens after the first step."""

    def __init__(self, mask: torch.Tensor) -> None:
        self.mask = mask

    def propose(self, requests: Sequence[Request]) -> list[Proposal]:
        return [Proposal(phase=Phase.token, due=True if r.step == 0 else self.mask) for r in requests]

    def settle(
        self, requests: Sequence[Request], proposals: Sequence[Proposal], masks: Sequence[torch.Tensor | None]
    ) -> list[Decision]:
        return [
            all_or_none(proposal, request.grid.tokens_per_chunk)
            if mask is None
            else Decision(phase=Phase.token, due=mask.nonzero().flatten(), candidates=int(mask.sum()))
            for request, proposal, mask in zip(requests, proposals, masks, strict=True)
        ]


def _sum(memory: Memory) -> float:
    return memory if isinstance(memory, float) else 0.0


def work(chunk: int, iteration: int, distance: float = 0.0, kv_only: Phase | None = None) -> Work:
    return Work(branch="cond", chunk=chunk, iteration=iteration, attended=4, distance=distance, kv_only=kv_only)


def started(policy: NoCache) -> Engine:
    engine = Engine(policy)
    engine.start_video()
    engine.start_window(SHAPE)
    return engine


def step(engine: Engine, works: list[Work], embedded: float, block: float) -> list[bool]:
    """One model call whose blocks add `block`; returns which chunks were computed."""
    tasks = engine.plan(works)
    for task in tasks:
        x = torch.full((1, 2, 1), embedded)
        engine.commit(task, x, x[:, task.indices()] + block)
    return [task.due is True for task in tasks]


def test_a_policy_can_decide_for_the_whole_window() -> None:
    engine = started(PerWindow())
    assert step(engine, [work(0, 0), work(1, 0)], 0.0, 1.0) == [True, True]
    assert step(engine, [work(0, 1, 0.3), work(1, 1, 0.3)], 0.0, 1.0) == [False, False]
    assert step(engine, [work(0, 2, 0.3), work(1, 2, 0.7)], 0.0, 1.0) == [True, True]


def test_a_policy_can_decide_chunk_by_chunk() -> None:
    engine = started(PerChunk())
    step(engine, [work(0, 0), work(1, 0)], 0.0, 1.0)
    assert step(engine, [work(0, 1, 0.3), work(1, 1, 0.7)], 0.0, 1.0) == [False, False]
    assert step(engine, [work(0, 2, 0.3), work(1, 2, 0.7)], 0.0, 1.0) == [False, True]


def test_reused_tokens_take_their_residual_and_computed_ones_renew_theirs() -> None:
    engine = started(Fixed(torch.tensor([False, True])))
    (task,) = engine.plan([work(0, 0)])
    engine.commit(task, torch.zeros(1, 2, 1), torch.full((1, 2, 1), 5.0))  # residual 5, 5
    (task,) = engine.plan([work(0, 1)])
    assert task.computed == 1
    hidden = engine.commit(task, torch.ones(1, 2, 1), torch.full((1, 1, 1), 9.0))
    assert hidden.flatten().tolist() == [1 + 5, 9]  # token 1 has residual 8 from here on
    (task,) = engine.plan([work(0, 2)])
    hidden = engine.commit(task, torch.full((1, 2, 1), 2.0), torch.full((1, 1, 1), 7.0))
    assert hidden.flatten().tolist() == [2 + 5, 7]


def test_reuse_before_anything_was_computed_is_an_error() -> None:
    class Careless(PerWindow):
        def propose(self, requests: Sequence[Request]) -> list[Proposal]:
            return [Proposal(phase=Phase.chunk, due=False) for _ in requests]

    engine = started(Careless())
    (task,) = engine.plan([work(1, 0)])
    with pytest.raises(RuntimeError, match=r"chunk 1 \(cond\) has no residual to reuse at step 0"):
        engine.commit(task, torch.zeros(1, 2, 1), torch.zeros(1, 0, 1))


def test_passes_for_keys_and_values_do_not_count_as_steps() -> None:
    engine = started(PerWindow())
    step(engine, [work(0, 0, kv_only=Phase.prefix), work(1, 0)], 0.0, 1.0)
    prefix, first = engine.trace.records
    assert (prefix.step, prefix.computed, prefix.denoises) == (-1, 2, False)
    assert (first.step, first.denoises) == (0, True)
    assert engine.trace.hit_ratio == 0.0
    assert engine.trace.computed_share == 1.0


def test_a_new_window_starts_from_nothing() -> None:
    engine = started(PerChunk())
    step(engine, [work(0, 0)], 0.0, 1.0)
    step(engine, [work(0, 1, 0.9)], 0.0, 1.0)
    engine.end_window()
    engine.start_window(SHAPE)
    assert engine.plan([work(0, 0, 0.0)])[0].request.step == 0
    assert engine.plan([work(0, 0, 0.0)])[0].request.memory is None


def test_planning_without_a_window_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="start_window"):
        Engine(NoCache()).plan([work(0, 0)])


def test_one_transfer_brings_all_masks_to_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    transfers: list[torch.Size] = []
    original = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: transfers.append(self.shape) or original(self))
    engine = started(Fixed(torch.tensor([False, True])))
    step(engine, [work(0, 0), work(1, 0)], 0.0, 1.0)
    assert transfers == []  # all computed: nothing to wait for
    engine.plan([work(0, 1), work(1, 1)])
    assert transfers == [torch.Size([2, 2])]
