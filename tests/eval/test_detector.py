import numpy as np
from motioncache_eval.detector import detect
from motioncache_eval.scenes import SPEEDS, draw_scene, render


def test_generated_clips_are_read_right() -> None:
    rng = np.random.default_rng(0)
    right: list[bool] = []
    for i in range(60):
        scene = draw_scene(rng, "still" if i % 4 == 0 else "mover")
        found = detect(render(scene, rng, frames=57)[0])
        (mover,) = scene.movers
        speed = SPEEDS[mover.speed] if mover.speed else 0.0
        right.append(
            (found.background, found.colour, found.direction) == (scene.background, mover.colour, mover.direction)
            and abs(np.hypot(*found.velocity) - speed) < 0.1
            and found.shown > 0.95
        )
    assert np.mean(right) >= 0.98


def test_an_empty_scene_has_no_shape() -> None:
    found = detect(np.full((5, 32, 48, 3), (24, 32, 92), np.uint8))
    assert (found.background, found.colour, found.direction) == ("navy", None, None)
