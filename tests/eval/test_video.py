from pathlib import Path

import numpy as np
import torch

from motioncache_eval.video import read_video, side_by_side, to_uint8, watchable, write_mp4


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


def test_small_videos_are_enlarged_by_whole_factors_to_be_watched() -> None:
    frames = np.arange(96, dtype=np.uint8).reshape(1, 1, 96, 1).repeat(2, axis=1).repeat(3, axis=3)
    shown = watchable(frames)
    assert shown.shape == (1, 8, 384, 3)
    assert shown[0, 7, :5, 0].tolist() == [0, 0, 0, 0, 1]
    assert watchable(frames[:, :, :80]).shape == (1, 10, 400, 3)
    assert watchable(np.zeros((1, 2, 960, 3), np.uint8)).shape == (1, 2, 960, 3)


def test_videos_are_put_side_by_side_below_their_labels() -> None:
    a, b = np.zeros((2, 10, 384, 3), np.uint8), np.full((2, 10, 384, 3), 9, np.uint8)
    both = side_by_side([a, b], ["without a cache\n38.4 s", "slow\n16.7 s, 2.3 times faster, 60.6 dB"], gap=2)
    head = both.shape[1] - 10
    assert both.shape[2] == 384 + 2 + 384
    assert head % 2 == 0
    assert (both[:, head:, :384] == 0).all()
    assert (both[:, head:, 384:386] == 255).all()
    assert (both[:, head:, 386:] == 9).all()
    inked = both[0, :head, :, 0] < 128
    assert inked[:, :384].any()
    assert inked[:, 386:].any()
    rows = np.flatnonzero(inked.any(axis=1))
    assert rows[-1] - rows[0] > 30  # two lines that can be read
    assert (both[0, :head] == both[1, :head]).all()


def test_a_long_label_is_written_smaller_and_not_cut_off(tmp_path: Path) -> None:
    video = np.zeros((1, 10, 384, 3), np.uint8)
    label = "a preset with quite a long name, of 123.4 s, 12.3 times faster, 60.6 dB"
    both = side_by_side([video, video], [label, "slow"])
    inked = np.flatnonzero((both[0, :-10, :, 0] < 128).any(axis=0))
    left = inked[inked < 384]
    assert 300 < left[-1] < 380  # it ends before the edge
    write_mp4(tmp_path / "a.mp4", both, fps=24)
