"""Tells the planner of `forecast` what it has to know of a chunk before it is sampled."""

from motioncache.forecast.profile import WindowProfile
from motioncache.record import WindowShape
from motioncache_helios.cost import HeliosCost


def profile_window(sigmas: tuple[float, ...], shape: WindowShape, cost: HeliosCost) -> WindowProfile:
    """One chunk, all of whose steps cost the same; its prompts are counted as if it were the video's only one."""
    tokens, branches = shape.grid.tokens, len(shape.branches)
    computed = branches * cost.call(tokens, tokens, forecast=True)
    return WindowProfile(
        iterations=shape.iterations,
        starts=(0,),
        iteration_flops=(computed,) * shape.iterations,
        fixed_flops=branches * cost.text() + cost.embed_history(),
        sigmas=sigmas,
        uncached_flops=cost.vanilla([shape]),
    )
