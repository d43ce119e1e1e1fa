"""Derives the threshold of MAGI-1's `fast` preset, which is not published: `python benchmarks/derive_magi_fast.py`.

Published are costs: 100 PFLOPs for the slow setting (threshold 0.0065) and 64 for the fast one, for 168 frames of
720x720 with the distilled 4.5B model in 64 steps, without refresh of clean chunks and without guidance of the nearly
clean one. The cost follows from the distances between steps, and these from the schedule alone if latents are noise and
a clean video of the same deviation: x_t = (1 - t) noise + t clean moves by dt |clean - noise|, sqrt(2) dt, relative to
sqrt((1 - t)^2 + t^2). The real distances are some factor away from these. Whatever it is, it cancels in the ratio of
the thresholds at which this model costs 64 and 100 PFLOPs, and the fast threshold is 0.0065 times that ratio.
"""

import numpy as np

from motioncache_magi.flops import MagiCost
from motioncache_magi.policy import MagiMotionCacheConfig
from motioncache_magi.schedule import WindowSchedule, time_schedule
from motioncache_magi.variants import released

TOKENS = 6 * 45 * 45
WORDS = 100
SLOW, FAST = 100e15, 64e15
CONFIG = MagiMotionCacheConfig()
SCHEDULE = WindowSchedule(chunks=7, prefix_chunks=0, steps=64, window=4, ranges=(5, 4, 3, 2), clean_range=1)


def step_distances() -> np.ndarray:
    """Distance of each denoise step to the one before, `[steps]`."""
    times = time_schedule(SCHEDULE.steps).double().numpy()
    t, length = times[:-1], np.diff(times)
    return np.concatenate([[0.0], (np.sqrt(2) * length / np.hypot(1 - t, t))[:-1]])


def computed_shares(threshold: float) -> np.ndarray:
    """Share of a chunk's tokens that is computed at each denoise step; motion weights are spread evenly."""
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


def flops(threshold: float) -> float:
    """Cost of the published video."""
    cost, shares = MagiCost(config=released("4.5B_distill"), schedule=SCHEDULE, words=WORDS), computed_shares(threshold)
    return sum(
        shares[count] * cost.tokens(TOKENS, (end - first) * TOKENS, WORDS)
        for step in SCHEDULE
        for count, (first, end) in zip(step.counts, step.ranges, strict=True)
    )


def main() -> None:
    thresholds = np.linspace(0.002, 0.05, 961)
    costs = np.array([flops(threshold) for threshold in thresholds])
    slow, fast = (thresholds[np.abs(costs - target).argmin()] for target in (SLOW, FAST))
    print(f"everything computed: {flops(0.0) / 1e15:.1f} PFLOPs")
    print(f"threshold at {SLOW / 1e15:.0f} PFLOPs: {slow:.5f}; at {FAST / 1e15:.0f} PFLOPs: {fast:.5f}")
    print(f"fast: {CONFIG.threshold} * {fast / slow:.2f} = {CONFIG.threshold * fast / slow:.4f}")


if __name__ == "__main__":
    main()
