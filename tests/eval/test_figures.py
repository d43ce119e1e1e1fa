from pathlib import Path

import numpy as np
from matplotlib import image

from motioncache.grid import TokenGrid
from motioncache.record import Phase, Record, WindowShape
from motioncache.trace import Trace
from motioncache_eval.figures import MotionMap, draw_comparison, draw_decisions, draw_strip


def trace() -> Trace:
    grid = TokenGrid(frames=10, height=2, width=3, chunk_frames=5)
    shape = WindowShape(grid=grid, iterations=4, branches=("cond",), causal=True)
    records = [
        Record(
            window=0, iteration=step, chunk=chunk, branch="cond", step=step, phase=phase, tokens=30, attended=30,
            candidates=computed, computed=computed,
        )
        for chunk in range(2)
        for step, (phase, computed) in enumerate([(Phase.warmup, 30), (Phase.chunk, 0), (Phase.token, 12)])
    ]  # fmt: skip
    return Trace(records=records, windows=[shape])


def test_the_picture_is_drawn_with_and_without_motion_weights(tmp_path: Path) -> None:
    motion = MotionMap(
        frame=np.zeros((16, 24, 3), np.uint8),
        weight=np.full((2, 3), 0.7, np.float32),
        reused=np.array([[True, False, True], [False, True, True]]),
        title="chunk 1",
    )
    for name, given in (("with", motion), ("without", None)):
        draw_decisions(tmp_path / f"{name}.png", trace(), given, title="a test")
        assert image.imread(tmp_path / f"{name}.png").std() > 0.05


def test_maps_and_frames_of_several_videos_are_drawn_below_each_other(tmp_path: Path) -> None:
    draw_comparison(tmp_path / "one.png", {"a": trace()})
    draw_comparison(tmp_path / "two.png", {"a": trace(), "b": trace()})
    one, two = (image.imread(tmp_path / f"{name}.png") for name in ("one", "two"))
    assert two.shape[0] > 1.5 * one.shape[0]
    white, red = np.full((9, 16, 24, 3), 255, np.uint8), np.zeros((9, 16, 24, 3), np.uint8)
    red[-1, ..., 0] = 255
    draw_strip(tmp_path / "strip.png", {"white": white, "red at last": red}, wanted=3)
    strip = image.imread(tmp_path / "strip.png")[..., :3]
    right = strip[strip.shape[0] // 2 :, -strip.shape[1] // 4 :]
    assert (np.abs(right - [1, 0, 0]).sum(axis=-1) < 0.02).mean() > 0.3  # the last frame is among those
