"""The file of encoded clips: whole or absent, and refused if it holds anything else."""

from pathlib import Path
from typing import Any

import pytest
import torch

from motioncache.errors import MotionCacheError
from motioncache_train.latents import ClipEncoder, LatentSet


def encoder(encode: Any = None) -> ClipEncoder:
    """Two latent frames a chunk, of the mean over the patches."""

    def means(video: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool3d(video, 4)[0]  # [3, frames, 16, 24]

    return ClipEncoder(encode=encode or means, seed=0, chunk=2, first_alone=False)


def load(path: Path, clips: int = 2, chunks: int = 1, encode: Any = None) -> LatentSet:
    return encoder(encode).load(path, clips=clips, chunks=chunks, held_out=False)


def test_clips_are_encoded_once(tmp_path: Path) -> None:
    first = load(tmp_path / "data" / "short.pt")
    assert first.latents.shape == (2, 3, 2, 16, 24)
    again = load(tmp_path / "data" / "short.pt", encode=lambda _: 1 / 0)
    assert torch.equal(first.latents, again.latents)
    assert first.captions == again.captions
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["short.pt"]


def test_an_interrupt_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(_: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(KeyboardInterrupt):
        load(tmp_path / "short.pt")
    assert list(tmp_path.iterdir()) == []


def test_other_clips_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "short.pt"
    load(path)
    with pytest.raises(MotionCacheError, match="holds 2 clips of 2 latent frames, and not 3 of 2: delete it"):
        load(path, clips=3)
    with pytest.raises(MotionCacheError, match="holds 2 clips of 2 latent frames, and not 2 of 4: delete it"):
        load(path, chunks=2)


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04"])
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "short.pt"
    path.write_bytes(content)
    with pytest.raises(MotionCacheError, match=r"short.pt cannot be read: .*; delete it") as refused:
        load(path)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"latents": None},
        {"latents": torch.zeros(2, 3, 2, 16, 24)},  # float32
        {"latents": torch.full((2, 3, 2, 16, 24), torch.nan, dtype=torch.float16)},
        {"latents": torch.zeros(2, 3, dtype=torch.float16)},
        {"movers": torch.zeros(2, 3, 16, 24, dtype=torch.uint8)},
        {"movers": torch.full((2, 2, 16, 24), 2, dtype=torch.uint8)},
        {"captions": ["one"]},
        {"captions": [1, 2]},
        {"more": 1},
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "short.pt"
    load(path)
    torch.save(torch.load(path) | change, path)
    with pytest.raises(MotionCacheError, match=r"short.pt holds no encoded clips"):
        load(path)


def test_weights_are_no_clips(tmp_path: Path) -> None:
    torch.save(torch.zeros(3), tmp_path / "short.pt")
    with pytest.raises(MotionCacheError, match=r"short.pt holds no encoded clips"):
        load(tmp_path / "short.pt")
