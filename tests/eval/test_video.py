from pathlib import Path

import numpy as np
import torch

from motioncache_eval.video import enlarge, read_video, side_by_side, to_uint8, write_mp4


def test_a_written_video_reads_back_nearly_the_same(tmp_path: Path) -> None:
    x = np.linspace(0, 255, 48, dtype=np.uint8)
    frames = np.stack([np.broadcast_to(np.roll(x, i)[None, :, None], (32, 48, 3)) for i in range(9)])
    write_mp4(tmp_path / "a.mp4", frames, fps=24)
    back = read_video(tmp_path / "a.mp4")
    assert back.shape == frames.shape
    assert np.abs(back.astype(int) - frames).mean() < 4


def test_floats_become_bytes_by_rounding() -> None:
    video = torch.tensor([-1.0, 0.5, 2.0]).view(1, 3, 1, 1)
    assert to_uint8(video).tolist() == [[[[0, 128, 255]]]]


def test_videos_are_put_side_by_side_with_a_white_gap() -> None:
    a, b = np.zeros((1, 2, 3, 3), np.uint8), np.full((1, 2, 3, 3), 9, np.uint8)
    both = side_by_side([a, b], gap=2)
    assert both[0, 0, :, 0].tolist() == [0, 0, 0, 255, 255, 9, 9, 9]
    assert enlarge(both, 2).shape == (1, 4, 16, 3)
