import numpy as np
import pytest

from motioncache_eval.detector import detect
from motioncache_eval.scenes import SPEEDS, draw_scene, render


def test_generated_clips_are_read_right() -> None:
    rng = np.random.default_rng(0)
    right: list[bool] = []
    for i in range(100):
        scene = draw_scene(rng, "still" if i % 4 == 0 else "mover")
        found = detect(render(scene, rng, frames=57)[0])
        (mover,) = scene.movers
        speed = SPEEDS[mover.speed] if mover.speed else 0.0
        right.append(
            (found.background, found.colour, found.shape) == (scene.background, mover.colour, mover.shape)
            and found.direction == mover.direction
            and abs(found.speed - speed) < 0.1
            and found.shown > 0.95
            and found.background_db > 60
        )
    assert np.mean(right) >= 0.98


def test_an_empty_scene_has_no_shape() -> None:
    found = detect(np.full((5, 32, 48, 3), (24, 32, 92), np.uint8))
    assert (found.background, found.colour, found.shape, found.direction) == ("navy", None, None, None)


def test_a_flickering_background_is_less_steady() -> None:
    still = np.full((6, 32, 48, 3), 100, np.uint8)
    flicker = still.copy()
    flicker[::2] += 10  # a change of 10 / 255 from frame to frame
    assert detect(still).background_db == 120
    assert detect(flicker).background_db == pytest.approx(-20 * np.log10(10 / 255), abs=1e-3)
