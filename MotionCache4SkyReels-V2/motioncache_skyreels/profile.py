"""What the policy `forecast` has to know of a window before it is sampled."""

from dataclasses import replace

from motioncache.forecast.planner import Course
from motioncache.trace import Phase, Record, Trace, WindowShape
from motioncache_skyreels.cost import SkyReelsCost
from motioncache_skyreels.schedule import Schedule, Visit

NOISE = 1000
"""Timestep of pure noise."""


def course_of(schedule: Schedule, shape: WindowShape, cost: SkyReelsCost) -> Course:
    """Starts, noise levels and FLOPs of a window's iterations."""
    steps: dict[int, list[Visit]] = {}
    starts: list[int] = []
    for iteration, visits in enumerate(schedule.visits):
        for visit in visits:
            if visit.kv_only is None:
                steps.setdefault(visit.chunk, []).append(visit)
                starts += [iteration] if visit.step == 0 else []
    longest = max(steps, key=lambda chunk: len(steps[chunk]))
    levels = tuple(max(visit.timesteps) / NOISE for visit in steps[longest])
    reused = [_records(schedule, shape, iteration, computed=False) for iteration in range(schedule.iterations)]
    base = _flops(cost, shape, reused)

    def extra(iteration: int) -> int:
        computed = _records(schedule, shape, iteration, computed=True)
        return _flops(cost, shape, [*reused[:iteration], computed, *reused[iteration + 1 :]]) - base

    return Course(
        iterations=schedule.iterations,
        starts=tuple(starts),
        cost=tuple(extra(iteration) for iteration in range(schedule.iterations)),
        base=base,
        levels=levels,
        vanilla=cost.vanilla([shape]),
    )


def _flops(cost: SkyReelsCost, shape: WindowShape, records: list[list[Record]]) -> int:
    return cost.video(Trace(records=[record for several in records for record in several], windows=[shape]))


def _records(schedule: Schedule, shape: WindowShape, iteration: int, *, computed: bool) -> list[Record]:
    """What the trace of an iteration says, where its denoise steps are computed or not."""
    grid = shape.grid
    template = Record(
        window=0,
        iteration=iteration,
        chunk=0,
        branch="",
        step=0,
        phase=Phase.forecast,
        tokens=grid.tokens_per_chunk,
        candidates=0,
        computed=0,
        attended=grid.tokens,
    )
    return [
        replace(
            template,
            chunk=visit.chunk,
            branch=branch,
            phase=visit.kv_only or Phase.forecast,
            computed=grid.tokens_per_chunk if computed or visit.kv_only is not None else 0,
            attended=grid.chunk_of_tokens(visit.chunk).stop if shape.causal else grid.tokens,
        )
        for branch in shape.branches
        for visit in schedule.visits[iteration]
    ]
