"""The engine with toy policies: one decision for a window, one per chunk, and arithmetic of residuals."""

from collections.abc import Sequence

import pytest
import torch

from motioncache.decision import Call, ChunkState, Decision, Memory
from motioncache.engine import Engine
from motioncache.grid import TokenGrid
from motioncache.policies.none import NoCache
from motioncache.probe import Probe
from motioncache.record import Phase, WindowShape

GRID = TokenGrid(frames=4, height=1, width=1, chunk_frames=2)
SHAPE = WindowShape(grid=GRID, iterations=3, branches=("cond",), causal=True)


class PerWindow(NoCache):
    """Like TeaCache: one sum of distances for the window; all chunks are computed or none is."""

    history = 1

    def decide(self, calls: Sequence[Call], memories: Sequence[Memory], window: WindowShape) -> list[Decision]:
        total = sum(float(call.distance) for call in calls)
        first = any(call.step == 0 for call in calls)
        return [Decision(call=call, phase=Phase.chunk, due=first or total >= 1.0) for call in calls]


class PerChunk(PerWindow):
    """Like FlowCache: every chunk by its own accumulated distance, remembered from step to step."""

    def decide(self, calls: Sequence[Call], memories: Sequence[Memory], window: WindowShape) -> list[Decision]:
        return [self._decide(call, memory) for call, memory in zip(calls, memories, strict=True)]

    def _decide(self, call: Call, memory: Memory) -> Decision:
        total = float(call.distance) + (memory if isinstance(memory, float) else 0.0)
        due = call.step == 0 or total >= 1.0
        return Decision(call=call, phase=Phase.chunk, due=due, memory=0.0 if due else total)


class Fixed(PerWindow):
    """The given tokens after the first step."""

    def __init__(self, mask: torch.Tensor, candidates: torch.Tensor | None = None) -> None:
        self.mask = mask
        self.candidates = candidates

    def decide(self, calls: Sequence[Call], memories: Sequence[Memory], window: WindowShape) -> list[Decision]:
        return [
            Decision(call=call, phase=Phase.token, due=True)
            if call.step == 0
            else Decision(call=call, phase=Phase.token, due=self.mask, candidates=self.candidates)
            for call in calls
        ]


def call(chunk: int, step: int, distance: float = 0.0, kv_only: Phase | None = None) -> Call:
    return Call(
        branch="cond",
        chunk=chunk,
        step=step,
        iteration=max(step, 0),
        tokens=2,
        attended=4,
        distance=distance,
        kv_only=kv_only,
    )


def started(policy: NoCache) -> Engine:
    engine = Engine(policy)
    engine.start_video()
    engine.start_window(SHAPE)
    return engine


def take(engine: Engine, calls: list[Call], embedded: float, block: float) -> list[bool]:
    """One model call whose blocks add `block`; returns which chunks were computed."""
    decisions = engine.decide(calls)
    for decision in decisions:
        x = torch.full((1, 2, 1), embedded)
        engine.commit(decision, engine.complete(decision, x, x[:, decision.indices()] + block))
    return [decision.due is True for decision in decisions]


def test_a_policy_can_decide_for_the_whole_window() -> None:
    engine = started(PerWindow())
    assert take(engine, [call(0, 0), call(1, 0)], 0.0, 1.0) == [True, True]
    assert take(engine, [call(0, 1, 0.3), call(1, 1, 0.3)], 0.0, 1.0) == [False, False]
    assert take(engine, [call(0, 2, 0.3), call(1, 2, 0.7)], 0.0, 1.0) == [True, True]


def test_a_policy_can_decide_chunk_by_chunk() -> None:
    engine = started(PerChunk())
    take(engine, [call(0, 0), call(1, 0)], 0.0, 1.0)
    assert take(engine, [call(0, 1, 0.3), call(1, 1, 0.7)], 0.0, 1.0) == [False, False]
    assert take(engine, [call(0, 2, 0.3), call(1, 2, 0.7)], 0.0, 1.0) == [False, True]


def test_reused_tokens_take_their_residual_and_computed_ones_renew_theirs() -> None:
    engine = started(Fixed(torch.tensor([False, True])))
    (decision,) = engine.decide([call(0, 0)])
    engine.complete(decision, torch.zeros(1, 2, 1), torch.full((1, 2, 1), 5.0))  # residual 5, 5
    (decision,) = engine.decide([call(0, 1)])
    assert decision.computed == 1
    hidden = engine.complete(decision, torch.ones(1, 2, 1), torch.full((1, 1, 1), 9.0))
    assert hidden.flatten().tolist() == [1 + 5, 9]  # token 1 has residual 8 from here on
    (decision,) = engine.decide([call(0, 2)])
    hidden = engine.complete(decision, torch.full((1, 2, 1), 2.0), torch.full((1, 1, 1), 7.0))
    assert hidden.flatten().tolist() == [2 + 5, 7]


def test_reuse_before_anything_was_computed_is_an_error() -> None:
    class Careless(PerWindow):
        def decide(self, calls: Sequence[Call], memories: Sequence[Memory], window: WindowShape) -> list[Decision]:
            return [Decision(call=call, phase=Phase.chunk, due=False) for call in calls]

    engine = started(Careless())
    (decision,) = engine.decide([call(1, 0)])
    with pytest.raises(RuntimeError, match=r"chunk 1 \(cond\) has no output to reuse at step 0"):
        engine.complete(decision, torch.zeros(1, 2, 1), torch.zeros(1, 0, 1))


def test_passes_for_keys_and_values_do_not_count_as_steps() -> None:
    engine = started(PerWindow())
    take(engine, [call(0, -1, kv_only=Phase.prefix), call(1, 0)], 0.0, 1.0)
    prefix, first = engine.trace.records
    assert (prefix.step, prefix.computed, prefix.denoises) == (-1, 2, False)
    assert (first.step, first.denoises) == (0, True)
    assert engine.trace.hit_ratio == 0.0
    assert engine.trace.computed_share == 1.0


def test_a_new_window_starts_from_nothing() -> None:
    engine = started(PerChunk())
    take(engine, [call(0, 0)], 0.0, 1.0)
    take(engine, [call(0, 1, 0.9)], 0.0, 1.0)
    assert engine.state("cond", 0).memory == 0.9
    engine.end_window()
    engine.start_window(SHAPE)
    assert engine.state("cond", 0) == ChunkState()


def test_deciding_without_a_window_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="start_window"):
        Engine(NoCache()).decide([call(0, 0)])


def test_one_transfer_brings_all_masks_to_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    transfers: list[torch.Size] = []
    original = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: transfers.append(self.shape) or original(self))
    engine = started(Fixed(torch.tensor([False, True]), torch.tensor([True, True])))
    take(engine, [call(0, 0), call(1, 0)], 0.0, 1.0)
    assert transfers == []  # all computed: nothing to wait for
    decisions = engine.decide([call(0, 1), call(1, 1)])
    assert transfers == [torch.Size([2, 2])]  # what is due, and what was proposed, the same for both
    assert [(decision.computed, decision.candidates) for decision in decisions] == [(1, 2), (1, 2)]


def test_a_probe_sees_windows_and_commits_and_replaces_what_was_computed() -> None:
    class Halve(Probe):
        def __init__(self) -> None:
            self.windows: list[WindowShape] = []
            self.outputs: list[float] = []

        def window_started(self, window: WindowShape) -> None:
            self.windows.append(window)

        def computed(self, decision: Decision, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
            return before + (after - before) / 2

        def committed(self, decision: Decision, state: ChunkState) -> None:
            self.outputs.append(float(state.outputs[0].mean()))

    engine, probe = Engine(PerWindow()), Halve()
    engine.probe = probe
    engine.start_window(SHAPE)
    take(engine, [call(0, 0)], 3.0, 8.0)
    assert probe.windows == [SHAPE]
    assert probe.outputs == [4.0]  # half of what the blocks have added
