"""Derives thresholds of MAGI-1's presets that are not published: `python benchmarks/derive_magi_fast.py`.

Costs are published. MotionCache takes 100 PFLOPs at the slow setting (threshold 0.0065) and 64 at the fast one, without
refresh of clean chunks and without guidance of the nearly clean one. TeaCache takes 129 (threshold 0.01) and 101, where
139 are counted without a cache; that is more than the model here counts, so that the same shares of its cost are taken.
All costs are for 168 frames of 720x720 with the distilled 4.5B model in 64 steps.

The cost follows from the distances between steps, and these from the schedule alone if latents mix noise with a clean
video of the same deviation: x_t = (1 - t) noise + t clean moves by dt |clean - noise|, which is sqrt(2) dt, relative to
sqrt((1 - t)^2 + t^2). The real distances are some factor away from these. Whatever it is, it cancels in the ratio of
the thresholds at which this model costs what is published, and the fast threshold is the slow one times that ratio.
"""

from collections.abc import Callable
from functools import cache

import numpy as np

from motioncache_magi.cache.cost import MagiCost
from motioncache_magi.cache.motioncache import MagiMotionCacheConfig
from motioncache_magi.cache.teacache import MagiTeaCacheConfig
from motioncache_magi.loading.variants import released
from motioncache_magi.sampling.schedule import WindowSchedule, time_schedule

TOKENS = 6 * 45 * 45
TEXT_LENGTH = 100
CONFIG, TEACACHE = MagiMotionCacheConfig(), MagiTeaCacheConfig()
SCHEDULE = WindowSchedule(chunks=7, prefix_chunks=0, steps=64, window=4, ranges=(5, 4, 3, 2), clean_range=1)


def step_distances() -> np.ndarray:
    """The distance of each denoise step to the one before, `[steps]`."""
    times = time_schedule(SCHEDULE.steps).double().numpy()
    t, length = times[:-1], np.diff(times)
    return np.concatenate([[0.0], (np.sqrt(2) * length / np.hypot(1 - t, t))[:-1]])


def computed_shares(threshold: float) -> np.ndarray:
    """The share of a chunk's tokens that is computed at each denoise step; motion weights are spread evenly."""
    distances, weights = step_distances(), np.linspace(CONFIG.floor, 1, 201)
    shares, chunk, tokens = np.ones(SCHEDULE.steps), 0.0, np.zeros_like(weights)
    for step in range(CONFIG.warmup + 1, SCHEDULE.steps):
        if step < CONFIG.token_phase_begin:
            chunk += distances[step]
            shares[step] = chunk >= threshold
            chunk = 0.0 if shares[step] else chunk
        else:
            tokens += distances[step] * weights
            due = tokens >= threshold
            shares[step] = due.mean()
            tokens[due] = 0
    return shares


def motioncache_flops(threshold: float) -> float:
    """The FLOPs of the published video under MotionCache."""
    shares = computed_shares(threshold)
    return sum(sum(shares[count] * flops for count, flops in chunks) for chunks in step_costs())


def teacache_flops(threshold: float) -> float:
    """The FLOPs under TeaCache, which computes the window when the mean distance of its chunks has added up."""
    distances, accumulated, total = step_distances(), 0.0, 0.0
    for index, chunks in enumerate(step_costs()):
        accumulated += float(np.mean([distances[count] for count, _ in chunks]))
        due = index <= TEACACHE.warmup or accumulated >= threshold
        accumulated = 0.0 if due else accumulated
        total += sum(flops for count, flops in chunks if due or count == 0)
    return total


@cache
def step_costs() -> list[list[tuple[int, int]]]:
    """For each step, the denoise step of each chunk in the window, and what computing that chunk costs."""
    cost = MagiCost(config=released("4.5B_distill"), schedule=SCHEDULE, text_length=TEXT_LENGTH)
    return [
        [
            (count, cost.tokens(TOKENS, (end - first) * TOKENS, TEXT_LENGTH))
            for count, (first, end) in zip(step.counts, step.ranges, strict=True)
        ]
        for step in SCHEDULE
    ]


def derive(name: str, flops: Callable[[float], float], published: float, costs: tuple[float, float]) -> None:
    """Print the thresholds that give both costs (PFLOPs), and the fast threshold that follows."""
    thresholds = np.linspace(0.002, 0.05, 961)
    pflops = np.array([flops(threshold) for threshold in thresholds]) / 1e15
    slow, fast = (thresholds[np.abs(pflops - target).argmin()] for target in costs)
    print(f"{name}: threshold at {costs[0]:.0f} PFLOPs: {slow:.5f}; at {costs[1]:.0f} PFLOPs: {fast:.5f}")
    print(f"fast: {published} * {fast / slow:.2f} = {published * fast / slow:.4f}")


def main() -> None:
    everything = motioncache_flops(0.0) / 1e15
    print(f"everything computed: {everything:.1f} PFLOPs")
    derive("MotionCache", motioncache_flops, CONFIG.threshold, (100, 64))
    derive("TeaCache", teacache_flops, TEACACHE.threshold, (129 / 139 * everything, 101 / 139 * everything))


if __name__ == "__main__":
    main()
