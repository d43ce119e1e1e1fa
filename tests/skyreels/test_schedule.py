"""The visits of a window, against a matrix small enough to read."""

from typing import Any

import torch

from motioncache.record import Phase
from motioncache_skyreels.compat.published import without_finished
from motioncache_skyreels.schedule import Matrices, Schedule, Timesteps, Visit


def schedule(prefix_chunks: int = 0, **options: Any) -> Schedule:
    # 3 chunks of 2 frames, 2 steps, a lag of 1: rows are what the chunks do at each iteration.
    rows = ["a..", "aa.", "faa", "ffa"] if not prefix_chunks else ["pa.", "paa", "pfa"]
    active = torch.tensor([[c == "a" for c in row] for row in rows]).repeat_interleave(2, 1)
    timesteps = torch.where(active, 500, 0)
    matrices = Matrices(timesteps=timesteps, update_mask=active, valid_interval=[], prefix_frames=2 * prefix_chunks)
    return Schedule(matrices, chunk_frames=2, **options)


def denoised(chunk: int, step: int) -> Visit:
    return Visit(chunk=chunk, step=step, timesteps=(500, 500))


def for_keys(chunk: int, why: Phase) -> Visit:
    return Visit(chunk=chunk, step=-1, timesteps=(0, 0), kv_only=why)


def test_chunks_are_visited_while_active_and_once_when_finished() -> None:
    assert schedule().visits == [
        [denoised(0, 0)],
        [denoised(0, 1), denoised(1, 0)],
        [for_keys(0, Phase.finished), denoised(1, 1), denoised(2, 0)],
        [for_keys(1, Phase.finished), denoised(2, 1)],
    ]


def test_the_published_code_leaves_finished_chunks_alone() -> None:
    assert without_finished(schedule()).visits[2] == [denoised(1, 1), denoised(2, 0)]


def test_a_prefix_is_visited_at_the_first_iteration_only() -> None:
    assert schedule(prefix_chunks=1).visits == [
        [for_keys(0, Phase.prefix), denoised(1, 0)],
        [denoised(1, 1), denoised(2, 0)],
        [for_keys(1, Phase.finished), denoised(2, 1)],
    ]


def test_a_distance_is_measured_from_the_last_denoise_step() -> None:
    asked: list[tuple[Timesteps, Timesteps]] = []

    def distance(previous: Timesteps, current: Timesteps) -> float:
        asked.append((previous, current))
        return 0.25

    made = schedule(distance=distance)
    assert set(asked) == {((500, 500), (500, 500))}
    steps = {(visit.step, visit.distance) for visits in made.visits for visit in visits if visit.kv_only is None}
    assert steps == {(0, 0.0), (1, 0.25)}
