import pytest

from motioncache.errors import MotionCacheError
from motioncache.grid import TokenGrid


def test_chunks_cut_the_flat_order_into_equal_runs() -> None:
    grid = TokenGrid(frames=10, height=2, width=3, chunk_frames=5)
    assert (grid.chunks, grid.tokens_per_frame, grid.tokens_per_chunk, grid.tokens) == (2, 6, 30, 60)
    assert grid.chunk_of_tokens(1) == slice(30, 60)
    assert grid.chunk_of_frames(1) == slice(5, 10)


def test_frames_that_do_not_divide_into_chunks_are_refused() -> None:
    with pytest.raises(MotionCacheError, match="7 latent frames do not divide into chunks of 5"):
        TokenGrid(frames=7, height=2, width=3, chunk_frames=5)


def test_an_empty_grid_is_refused() -> None:
    with pytest.raises(MotionCacheError, match="positive"):
        TokenGrid(frames=0, height=2, width=3, chunk_frames=5)
