"""Holds what a video shows against what its caption says."""

from collections.abc import Sequence
from dataclasses import dataclass

from motioncache_eval.detector import Detection, direction_of
from motioncache_eval.scenes import SPEEDS, Scene

_BETWEEN_SPEEDS = sum(SPEEDS.values()) / len(SPEEDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Which parts of a caption a video gets right.

    Attributes:
        background, camera: right or not; a camera that should rest has to.
        colours: for each named shape, whether a shape of its colour is shown in at least half of the frames.
        shapes: for each named shape, whether that one is the right circle or square.
        moving: for each shape that has to move in the picture, whether it does in any direction.
        directions: for each such shape, whether it goes the right way.
        speeds: for each such shape, whether its speed is nearer to the named speed than to the other.
        resting: for each shape that has to stay where it is, whether it does.
        unnamed: whether a shape of a colour that is not in the caption is shown.
        background_db: see `Detection`; None where the camera pans.
    """

    background: bool
    camera: bool
    colours: tuple[bool, ...]
    shapes: tuple[bool, ...]
    moving: tuple[bool, ...]
    directions: tuple[bool, ...]
    speeds: tuple[bool, ...]
    resting: tuple[bool, ...]
    unnamed: bool
    background_db: float | None


def judge(found: Detection, scene: Scene) -> Verdict:
    """A shape that is missing or of another colour counts as wrong in everything."""
    shown = {shape.colour: shape for shape in found.shapes if shape.shown >= 0.5}
    colours, shapes, moving, directions, speeds, resting = [], [], [], [], [], []
    for mover in scene.movers:
        shape = shown.get(mover.colour)
        colours.append(shape is not None)
        shapes.append(shape is not None and shape.shape == mover.shape)
        # A shape that rests in the world goes through the picture with a panning camera.
        motion = scene.pan or ((mover.direction, mover.speed) if mover.direction and mover.speed else None)
        if motion is None:
            resting.append(shape is not None and shape.direction is None)
            continue
        moving.append(shape is not None and shape.direction is not None)
        directions.append(shape is not None and shape.direction == motion[0])
        fast = SPEEDS[motion[1]] > _BETWEEN_SPEEDS
        speeds.append(shape is not None and shape.direction is not None and (shape.speed > _BETWEEN_SPEEDS) == fast)
    return Verdict(
        background=found.background == scene.background,
        camera=direction_of(found.camera) == (scene.pan[0] if scene.pan else None),
        colours=tuple(colours),
        shapes=tuple(shapes),
        moving=tuple(moving),
        directions=tuple(directions),
        speeds=tuple(speeds),
        resting=tuple(resting),
        unnamed=any(shape.colour not in {mover.colour for mover in scene.movers} for shape in found.shapes),
        background_db=None if scene.pan else found.background_db,
    )


QUESTIONS: dict[str, str] = {
    "background": "background right",
    "camera": "camera right (pans, or rests)",
    "colours": "object colour right",
    "shapes": "shape right (chance 1 in 2)",
    "moving": "moves where it should",
    "directions": "direction right (chance 1 in 4)",
    "speeds": "speed right (chance 1 in 2)",
    "resting": "rests where it should",
    "unnamed": "shows a colour that nobody named",
}
"""What can be counted over verdicts, in words."""


def count(verdicts: Sequence[Verdict], question: str) -> tuple[int, int]:
    """How many are right, of how many; `unnamed` counts videos that are wrong."""
    answers: list[bool] = []
    for verdict in verdicts:
        answer = getattr(verdict, question)
        answers += [answer] if isinstance(answer, bool) else answer
    return sum(answers), len(answers)
