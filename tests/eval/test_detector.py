import numpy as np
import pytest

from motioncache_eval.detector import detect, direction_of
from motioncache_eval.scenes import KINDS, SPEEDS, Scene, draw_scene, render


def reads_right(scene: Scene, rng: np.random.Generator, frames: int) -> bool:
    """Whether everything that the detector reads off a clip is what was drawn."""
    found = detect(render(scene, rng, frames=frames)[0])
    shapes = {shape.colour: shape for shape in found.shapes}
    right = [
        found.background == scene.background,
        direction_of(found.camera) == (scene.pan[0] if scene.pan else None),
        scene.pan is not None or found.background_db > 60,
        shapes.keys() == {mover.colour for mover in scene.movers},
    ]
    for mover in scene.movers:
        shape = shapes.get(mover.colour)
        direction, speed = scene.pan or (mover.direction, mover.speed)
        right.append(
            shape is not None
            and shape.shape == mover.shape
            and shape.direction == direction
            and abs(shape.speed - (SPEEDS[speed] if speed else 0.0)) < 0.1
            and shape.shown > 0.8
        )
    return all(right)


@pytest.mark.parametrize("frames", [20, 57])
@pytest.mark.parametrize("kind", KINDS)
def test_generated_clips_are_read_right(kind: str, frames: int) -> None:
    rng = np.random.default_rng(0)
    right = [reads_right(draw_scene(rng, kind), rng, frames) for _ in range(20)]
    assert np.mean(right) >= 0.98


def test_an_empty_scene_has_no_shape() -> None:
    found = detect(np.full((5, 32, 48, 3), (24, 32, 92), np.uint8))
    assert (found.background, found.shapes) == ("navy", ())


def test_a_flickering_background_is_less_steady() -> None:
    still = np.full((6, 32, 48, 3), 100, np.uint8)
    flicker = still.copy()
    flicker[::2] += 10  # a change of 10 / 255 from frame to frame
    assert detect(still).background_db == 120
    assert detect(flicker).background_db == pytest.approx(-20 * np.log10(10 / 255), abs=1e-3)


def test_a_shape_that_only_flashes_up_is_not_shown() -> None:
    video = np.full((20, 64, 96, 3), (24, 32, 92), np.uint8)
    video[:4, 20:40, 30:50] = (225, 40, 45)
    assert detect(video).shapes == ()
    video[:8, 20:40, 30:50] = (225, 40, 45)
    (shape,) = detect(video).shapes
    assert (shape.colour, shape.shape, shape.shown) == ("red", "square", 0.4)
