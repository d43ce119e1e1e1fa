from pathlib import Path

import numpy as np
from matplotlib import image

from motioncache.grid import TokenGrid
from motioncache.record import Phase, Record, WindowShape
from motioncache.trace import Trace
from motioncache_eval.figures import MotionMap, draw_decisions


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
