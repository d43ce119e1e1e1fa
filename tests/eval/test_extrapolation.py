"""Peers of `forecast` on the same engine: our reading of SCOPE, and HiCache."""

from collections.abc import Sequence

import pytest

from motioncache.decision import Call, Decision, Memory
from motioncache.grid import TokenGrid
from motioncache.record import WindowShape
from motioncache_eval.bench.extrapolation import Extrapolation, HiCache, Scope

SIGMAS = (1.0, 0.8, 0.6, 0.4, 0.2, 0.1)
WINDOW = WindowShape(
    grid=TokenGrid(frames=2, height=1, width=2, chunk_frames=1), iterations=7, branches=("cond",), causal=True
)


def decisions(
    policy: Extrapolation, distances: Sequence[float], *, starts: Sequence[int] = (0,)
) -> list[list[Decision]]:
    """What is decided at each iteration; every chunk moves by the same distance."""
    memories: dict[int, Memory] = {}
    decided: list[list[Decision]] = []
    for iteration, distance in enumerate(distances):
        calls = [
            Call(
                branch="cond",
                chunk=chunk,
                step=iteration - start,
                iteration=iteration,
                tokens=2,
                attended=2,
                distance=distance if iteration > start else 0.0,
            )
            for chunk, start in enumerate(starts)
            if iteration >= start
        ]
        decided.append(policy.decide(calls, [memories.get(call.chunk) for call in calls], WINDOW))
        memories |= {decision.call.chunk: decision.memory for decision in decided[-1]}
    return decided


def scope(**changes: float) -> Scope:
    settings = {"threshold": 0.3, "cache_share": 0.5, "most_change": 1.0} | changes
    return Scope(warmup=1, sigmas=SIGMAS, **settings)


def test_scope_reuses_then_predicts_then_computes() -> None:
    found = [one.coefficients if one.due is False else "computed" for (one,) in decisions(scope(), [0.1] * 5)]
    # 0.1 is below half of the threshold, 0.2 is not, 0.3 reaches it; sigma falls by 0.4 where it last fell by 0.2,
    # and the last change is followed once at most.
    assert found == ["computed", "computed", (1.0,), (2.0, -1.0), "computed"]


def test_a_prediction_of_scope_goes_as_far_as_the_noise_level_does() -> None:
    (_, _, (third,), *_) = decisions(scope(cache_share=0.0, most_change=5.0), [0.1] * 4)
    assert third.coefficients == pytest.approx((2.0, -1.0))
    (_, _, (third,), *_) = decisions(scope(cache_share=0.0, most_change=0.25), [0.1] * 4)
    assert third.coefficients == pytest.approx((1.25, -0.25))


def test_the_last_iteration_of_a_window_is_computed() -> None:
    assert decisions(scope(), [0.0] * 7, starts=(0,))[6][0].due is True


def test_a_chunks_first_step_is_computed_whatever_the_others_do() -> None:
    decided = decisions(scope(), [0.0] * 4, starts=(0, 3))
    assert [one.due for one in decided[3]] == [False, True]


def test_hicache_follows_the_schedule_and_the_basis_of_its_package() -> None:
    pytest.importorskip("hicache_pp")
    found = [one for (one,) in decisions(HiCache(interval=3, first_enhance=2), [0.0] * 6)]
    assert [one.due for one in found] == [True, True, False, False, True, False]
    # H1(x) = 2x, and the basis is 0.5 H1(0.5 k) = 0.5 k, of a change of one step.
    assert found[2].coefficients == pytest.approx((1.5, -0.5))
    assert found[3].coefficients == pytest.approx((2.0, -1.0))
    assert found[5].coefficients == pytest.approx((1 + 0.5 / 3, -0.5 / 3))
