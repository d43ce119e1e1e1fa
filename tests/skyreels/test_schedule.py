"""The visits of a window, against a matrix small enough to read."""

import torch

from motioncache.trace import Phase
from motioncache_skyreels.schedule import Matrices, Schedule, Visit


def schedule(prefix_chunks: int = 0, *, finished_visits: bool = True) -> Schedule:
    # 3 chunks of 2 frames, 2 steps, a lag of 1: rows are what the chunks do at each iteration.
    rows = ["a..", "aa.", "faa", "ffa"] if not prefix_chunks else ["pa.", "paa", "pfa"]
    active = torch.tensor([[c == "a" for c in row] for row in rows]).repeat_interleave(2, 1)
    timesteps = torch.where(active, 500, 0)
    matrices = Matrices(timesteps=timesteps, update_mask=active, valid_interval=[], prefix_frames=2 * prefix_chunks)
    return Schedule(matrices, chunk_frames=2, finished_visits=finished_visits)


def test_chunks_are_visited_while_active_and_once_when_finished() -> None:
    finished = Phase.finished
    assert [schedule().visits(i) for i in range(4)] == [
        [Visit(0)],
        [Visit(0), Visit(1)],
        [Visit(0, finished), Visit(1), Visit(2)],
        [Visit(1, finished), Visit(2)],
    ]


def test_the_published_code_leaves_finished_chunks_alone() -> None:
    assert schedule(finished_visits=False).visits(2) == [Visit(1), Visit(2)]


def test_a_prefix_is_visited_at_the_first_iteration_only() -> None:
    assert [schedule(prefix_chunks=1).visits(i) for i in range(3)] == [
        [Visit(0, Phase.prefix), Visit(1)],
        [Visit(1), Visit(2)],
        [Visit(1, Phase.finished), Visit(2)],
    ]


def test_previous_timesteps_are_those_of_the_last_denoise_step() -> None:
    assert schedule().previous_timesteps(0, 0) is None
    assert schedule().previous_timesteps(1, 1) is None
    assert schedule().previous_timesteps(2, 1) == (500, 500)
    assert schedule().steps() == {((500, 500), (500, 500))}
