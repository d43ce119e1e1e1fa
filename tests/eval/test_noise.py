"""Noise on disk: drawn once, then the same for every method."""

from pathlib import Path

import pytest
import torch

from motioncache.errors import MotionCacheError
from motioncache_eval.bench.noise import noise_from, noise_hash


def draw(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn((2, 3), generator=generator)
    both = first.clone(), torch.randn_like(first)
    first.zero_()  # as pipelines do, which denoise in place
    return both


def test_what_was_drawn_first_is_drawn_again_whatever_the_seed(tmp_path: Path) -> None:
    path = tmp_path / "noise" / "000.safetensors"
    with noise_from(path):
        first = draw(0)
    with noise_from(path):
        again = draw(1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], draw(1)[0]), "torch is as it was after the block"


def test_longer_videos_add_to_the_noise_and_leave_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "000.safetensors"
    with noise_from(path):
        first = torch.randn(4)
    made = noise_hash(path)
    with noise_from(path):
        both = torch.randn(4), torch.randn(5)
    assert torch.equal(first, both[0])
    assert noise_hash(path) != made
    with noise_from(path):
        assert torch.equal(first, torch.randn(4))
        assert torch.equal(both[1], torch.randn(5))


def test_noise_of_another_shape_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "000.safetensors"
    with noise_from(path):
        torch.randn(2, 3)
    refused = pytest.raises(MotionCacheError, match=r"000.safetensors holds noise of the shape \(2, 3\), and \(3, 2\)")
    with refused, noise_from(path):
        torch.randn(3, 2)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "000.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(MotionCacheError, match="holds no noise"), noise_from(path):
        torch.randn(1)
