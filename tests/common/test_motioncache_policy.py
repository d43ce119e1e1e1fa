"""The decisions of MotionCache on one chunk of 2 latent frames with 2 tokens each, by numbers a reader can check."""

from dataclasses import fields, replace
from typing import Any

import pytest
import torch

from motioncache.decision import Call, Decision, Memory
from motioncache.engine import to_host
from motioncache.grid import TokenGrid
from motioncache.motion import Normalisation
from motioncache.policies.distance import Distance
from motioncache.policies.motioncache import MotionCache, MotionCacheConfig, MotionMemory, fewest_due
from motioncache.record import Phase, WindowShape

GRID = TokenGrid(frames=4, height=1, width=2, chunk_frames=2)
BASE = MotionCacheConfig(
    warmup=1,
    chunk_phase_updates=1,
    threshold=1.0,
    coefficients=(1.0, 0.0),
    temporal_vote=None,
    minimum_update_ratio=0.0,
)
# Frame 1 differs from frame 0 by 0 in token 0 and by 1 in token 1: weights 0.6 (the floor) and 1.
HIDDEN = torch.tensor([1.0, 1.0, 1.0, 2.0]).view(1, 4, 1)


WINDOW = WindowShape(grid=GRID, iterations=9, branches=("cond",), causal=True)


def ask(**values: Any) -> Call:
    """A call of the first window's `cond` branch."""
    return Call(branch="cond", iteration=0, tokens=4, attended=8, **values)


def run(
    config: MotionCacheConfig,
    distances: list[float],
    *,
    chunk: int = 0,
    predecessor: Memory = None,
    kind: type[MotionCache] = MotionCache,
) -> list[tuple[Decision, MotionMemory]]:
    """Feed one chunk a distance per step."""
    policy, memory, history = kind(config), None, []
    for step, distance in enumerate(distances):
        decisions = policy.decide([ask(chunk=chunk, step=step, distance=distance)], [memory], WINDOW)
        (decision,) = to_host(decisions)
        memory = policy.remember(decision, HIDDEN, WINDOW, predecessor)
        assert isinstance(memory, MotionMemory)
        history.append((decision, memory))
    return history


def due(decision: Decision) -> list[int]:
    if isinstance(decision.due, torch.Tensor):
        return decision.due.tolist()
    return [0, 1, 2, 3] if decision.due else []


def test_warm_up_computes_everything_whatever_the_distance() -> None:
    history = run(BASE, [0.0, 0.0, 0.0])
    assert [decision.phase for decision, _ in history] == [Phase.warmup, Phase.warmup, Phase.chunk]
    assert [due(decision) for decision, _ in history] == [[0, 1, 2, 3], [0, 1, 2, 3], []]


def test_the_chunk_is_computed_when_the_accumulated_distance_reaches_the_threshold() -> None:
    # Warm-up distances do not count. 0.5, then 0.5 + 0.5 = 1.0 reaches the threshold.
    assert [due(d) for d, _ in run(BASE, [9.0, 9.0, 0.5, 0.5])][2:] == [[], [0, 1, 2, 3]]


def test_the_accumulated_distance_starts_again_after_an_update() -> None:
    assert [len(due(d)) for d, _ in run(replace(BASE, chunk_phase_updates=9), [0, 0, 1.0, 0.9, 0.2])][2:] == [4, 0, 4]


def test_the_token_phase_begins_after_the_given_number_of_updates() -> None:
    history = run(BASE, [0, 0, 1.0, 0.1])
    assert history[2][0].phase is Phase.chunk
    assert history[2][1].token_phase
    assert history[3][0].phase is Phase.token


def test_a_fast_token_is_due_before_a_still_one() -> None:
    # After the update at step 2 weights are [0.6, 1, 0.6, 1]: the first frame copies the second one's.
    history = run(BASE, [0, 0, 1.0, 1.0, 1.0])
    assert history[2][1].weight is not None
    assert history[2][1].weight.tolist() == pytest.approx([0.6, 1.0, 0.6, 1.0])
    assert due(history[3][0]) == [1, 3]  # 0.6 and 1.0 against the threshold 1.0
    assert due(history[4][0]) == [0, 1, 2, 3]  # 1.2 and 1.0


def test_too_few_due_tokens_wait_and_keep_their_accumulated_distance() -> None:
    history = run(replace(BASE, minimum_update_ratio=0.6), [0, 0, 1.0, 1.0, 0.1, 0.6])
    assert (due(history[3][0]), history[3][0].candidates) == ([], 2)  # 2 of 4 tokens are under 60 %
    assert history[3][1].accumulated is not None
    assert history[3][1].accumulated.tolist() == pytest.approx([0.6, 1.0, 0.6, 1.0])
    assert due(history[5][0]) == [0, 1, 2, 3]  # 0.6 * 1.7 = 1.02 and 1.7


def test_a_missing_predecessor_gives_the_neutral_weight() -> None:
    weight = run(BASE, [0, 0, 1.0], chunk=1)[2][1].weight
    assert weight is not None
    assert weight.tolist() == pytest.approx([1.0, 1.0, 0.6, 1.0])


def test_the_predecessors_last_frame_weighs_the_first_frame() -> None:
    before = MotionMemory(last_frame=torch.tensor([[[0.5], [1.0]]]))  # changes: 1.0 and 0.0
    weight = run(BASE, [0, 0, 1.0], chunk=1, predecessor=before)[2][1].weight
    assert weight is not None
    assert weight[:2].tolist() == pytest.approx([1.0, 0.6])


def test_a_prefix_chunk_is_remembered_by_its_last_frame() -> None:
    memory = MotionCache(BASE).remember_prefix(HIDDEN, WINDOW)
    assert isinstance(memory, MotionMemory)
    assert memory.last_frame is not None
    assert memory.last_frame.flatten().tolist() == [1.0, 2.0]


@pytest.mark.parametrize(("tokens", "ratio", "fewest"), [(5, 0.4, 2), (100, 0.07, 7), (4, 0.6, 3), (4, 0.0, 0)])
def test_the_fewest_due_tokens_reach_the_ratio(tokens: int, ratio: float, fewest: int) -> None:
    assert fewest_due(tokens, ratio) == fewest
    assert fewest / tokens >= ratio
    assert fewest == 0 or (fewest - 1) / tokens < ratio


CHANGES: dict[str, Any] = {
    "warmup": 2,
    "chunk_phase_updates": 9,
    "threshold": 2.0,
    "normalisation": Normalisation.mean,
    "floor": 0.1,
    "temporal_vote": 0.5,
    "minimum_update_ratio": 0.9,
}
"""A change of each field that the policy reads; distance, its polynomial and its range are the adapter's to read."""


@pytest.mark.parametrize("field", sorted(CHANGES))
def test_every_field_changes_some_decision(field: str) -> None:
    # The predecessor makes token 0 of the first frame the moving one, token 1 that of the second frame.
    before = MotionMemory(last_frame=torch.tensor([[[0.5], [1.0]]]))
    distances = [0, 0, 1.0, 1.0, 0.5, 0.45, 1.0, 0.3]
    plain = [due(d) for d, _ in run(BASE, distances, chunk=1, predecessor=before)]
    changed = [due(d) for d, _ in run(replace(BASE, **{field: CHANGES[field]}), distances, chunk=1, predecessor=before)]
    assert plain != changed


@pytest.mark.parametrize("shared", [False, True])
def test_a_shared_mask_is_that_of_the_first_branch(shared: bool) -> None:
    policy = MotionCache(replace(BASE, shared_mask=shared))
    state = MotionMemory(accumulated=torch.zeros(4), weight=torch.tensor([1.0, 0.5, 1.0, 0.5]), token_phase=True)
    other = replace(state, weight=torch.tensor([0.5, 1.0, 0.5, 1.0]))
    calls = [ask(chunk=0, step=5, distance=1.0)]
    calls.append(replace(calls[0], branch="uncond"))
    decisions = policy.decide(calls, [state, other], WINDOW)
    assert [decision.call for decision in decisions] == calls
    masks = [decision.due.tolist() for decision in decisions if isinstance(decision.due, torch.Tensor)]
    assert masks[0] == [True, False, True, False]
    assert masks[1] == ([True, False, True, False] if shared else [False, True, False, True])


def test_the_fields_that_others_read_are_the_only_others() -> None:
    names = {field.name for field in fields(MotionCacheConfig)}
    read_elsewhere = {"distance", "coefficients", "fit_range", "clamp_distance", "shared_mask", "kv", "split_guidance"}
    assert names - set(CHANGES) == read_elsewhere
    assert Distance("token") is Distance.per_token


def test_a_distance_per_frame_reaches_the_tokens_of_its_frame() -> None:
    policy = MotionCache(BASE)
    memory = MotionMemory(accumulated=torch.zeros(4))
    distance = torch.tensor([1.0, 0.0])
    (decision,) = policy.decide([ask(chunk=0, step=5, distance=distance)], [memory], WINDOW)
    assert isinstance(decision.due, torch.Tensor)
    assert decision.due.tolist() == [True, True, False, False]
