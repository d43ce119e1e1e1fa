"""Tells the planner of `forecast` what it has to know of a window of SkyReels-V2 before it is sampled."""

from motioncache.forecast.profile import WindowProfile
from motioncache.record import Phase, Record, WindowShape
from motioncache.trace import Trace
from motioncache_skyreels.cost import SkyReelsCost
from motioncache_skyreels.schedule import Schedule, Visit

NOISE = 1000
"""The timestep of pure noise, whose sigma is 1."""


def profile_window(schedule: Schedule, shape: WindowShape, cost: SkyReelsCost) -> WindowProfile:
    """Read the starts and sigmas off the window's schedule, and count the FLOPs of its iterations."""
    reused = [_records(schedule, shape, iteration, computed=False) for iteration in range(schedule.iterations)]
    computed = [_records(schedule, shape, iteration, computed=True) for iteration in range(schedule.iterations)]
    fixed_flops = _flops(cost, shape, reused)
    iteration_flops = [
        _flops(cost, shape, [*reused[:i], computed[i], *reused[i + 1 :]]) - fixed_flops
        for i in range(schedule.iterations)
    ]
    return WindowProfile(
        iterations=schedule.iterations,
        starts=schedule.starts(),
        iteration_flops=tuple(iteration_flops),
        fixed_flops=fixed_flops,
        sigmas=sigmas_of(schedule),
        uncached_flops=cost.vanilla([shape]),
    )


def sigmas_of(schedule: Schedule) -> tuple[float, ...]:
    """Noise level of each denoise step, read off the chunk with the most steps."""
    steps: dict[int, list[Visit]] = {}
    for visits in schedule.visits:
        for visit in visits:
            if visit.kv_only is None:
                steps.setdefault(visit.chunk, []).append(visit)
    return tuple(max(visit.timesteps) / NOISE for visit in max(steps.values(), key=len))


def _flops(cost: SkyReelsCost, shape: WindowShape, records: list[list[Record]]) -> int:
    """FLOPs of a window with these records, iteration by iteration."""
    return cost.video(Trace(records=[record for several in records for record in several], windows=[shape]))


def _records(schedule: Schedule, shape: WindowShape, iteration: int, *, computed: bool) -> list[Record]:
    """What the trace says of an iteration whose denoise steps are all computed, or all forecast."""
    grid = shape.grid
    return [
        Record(
            window=0,
            iteration=iteration,
            chunk=visit.chunk,
            branch=branch,
            step=0,
            phase=visit.kv_only or Phase.forecast,
            tokens=grid.tokens_per_chunk,
            candidates=0,
            computed=grid.tokens_per_chunk if computed or visit.kv_only is not None else 0,
            attended=grid.chunk_of_tokens(visit.chunk).stop if shape.causal else grid.tokens,
        )
        for branch in shape.branches
        for visit in schedule.visits[iteration]
    ]
