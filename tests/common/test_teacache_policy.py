"""The decisions of TeaCache on a window of two chunks, by numbers a reader can check."""

import torch

from motioncache.decision import Call, Decision, Memory
from motioncache.engine import to_host
from motioncache.grid import TokenGrid
from motioncache.policies.teacache import TeaCache
from motioncache.record import Phase, WindowShape

GRID = TokenGrid(frames=4, height=1, width=2, chunk_frames=2)
HIDDEN = torch.zeros(1, 4, 1)
POLICY = TeaCache(threshold=1.0, warmup=1)


def run(steps: list[dict[int, float]]) -> list[dict[int, Decision]]:
    """Feed the chunks of a window their distances, an iteration at a time."""
    memories: dict[int, Memory] = {}
    window = WindowShape(grid=GRID, iterations=len(steps), branches=("cond",), causal=True)
    history = []
    for iteration, distances in enumerate(steps):
        calls = [
            Call(
                branch="cond",
                chunk=chunk,
                step=iteration,
                iteration=iteration,
                tokens=4,
                attended=8,
                distance=distance,
            )
            for chunk, distance in distances.items()
        ]
        decisions = to_host(POLICY.decide(calls, [memories.get(chunk) for chunk in distances], window))
        for decision in decisions:
            memories[decision.call.chunk] = POLICY.remember(decision, HIDDEN, window, None)
        history.append(dict(zip(distances, decisions, strict=True)))
    return history


def test_the_window_is_computed_when_its_mean_distance_adds_up() -> None:
    # Warm-up to iteration 1. Then (0.2 + 0.6) / 2 = 0.4, 0.4 + 0.6 = 1.0 reaches the threshold, and 0.9 does not.
    history = run([{0: 9.0, 1: 9.0}, {0: 9.0, 1: 9.0}, {0: 0.2, 1: 0.6}, {0: 0.0, 1: 1.2}, {0: 0.9, 1: 0.9}, {0: 0.0}])
    assert [[d.due for d in decisions.values()] for decisions in history] == [
        [True, True],
        [True, True],
        [False, False],
        [True, True],
        [False, False],
        [True],  # the last iteration
    ]
    assert [decisions[0].phase for decisions in history[1:3]] == [Phase.warmup, Phase.chunk]


def test_a_new_chunk_is_computed_while_the_others_are_reused_and_does_not_count() -> None:
    history = run([{0: 0.0}, {0: 9.0}, {0: 0.6, 1: 5.0}, {0: 0.3, 1: 0.5}, {0: 0.0, 1: 0.0}])
    assert [d.due for d in history[2].values()] == [False, True]
    assert history[2][1].computed == 4
    # 0.6 + (0.3 + 0.5) / 2 = 1.0: the window that the new chunk came into goes on adding up.
    assert [d.due for d in history[3].values()] == [True, True]


def test_a_window_without_memory_is_computed() -> None:
    assert [d.due for d in run([{0: 0.0}, {0: 0.0}, {1: 0.0}, {1: 0.0}])[2].values()] == [True]
