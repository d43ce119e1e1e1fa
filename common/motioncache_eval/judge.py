"""Compares what a video shows with what its caption says."""

from collections.abc import Sequence
from dataclasses import dataclass

from motioncache_eval.detector import Detection, direction_of
from motioncache_eval.scenes import SPEEDS, Scene

_BETWEEN_SPEEDS = sum(SPEEDS.values()) / len(SPEEDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Which parts of a caption a video gets right.

    Attributes:
        background: whether the background's colour is right.
        camera: whether the camera pans in the right direction, or rests if it should.
        colours: for each shape of the caption, whether at least half of the frames show a shape of its colour.
        shapes: for each shape of the caption, whether it is a circle or a square, as it should.
        moving: for each shape that should move in the picture, whether it moves in any direction.
        directions: for each shape that should move, whether it moves in the right direction.
        speeds: for each shape that should move, whether its speed is nearer to the caption's than to the other one.
        resting: for each shape that should rest, whether it does.
        unnamed: whether the video shows a shape of a colour that is not in the caption.
        background_db: see `Detection`; None if the camera pans.
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
    """Judge what was found. A shape that is missing or has another colour counts as wrong in everything."""
    shown = {shape.colour: shape for shape in found.shapes if shape.shown >= 0.5}
    colours, shapes, moving, directions, speeds, resting = [], [], [], [], [], []
    for mover in scene.movers:
        shape = shown.get(mover.colour)
        colours.append(shape is not None)
        shapes.append(shape is not None and shape.shape == mover.shape)
        # A panning camera moves all shapes through the picture, also those that rest in the world.
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
"""What can be counted over verdicts: fields of `Verdict`, and what they ask."""


def count(verdicts: Sequence[Verdict], question: str) -> tuple[int, int]:
    """How many answers are yes, and how many there are. A yes is right, but for `unnamed`, where it is wrong."""
    answers: list[bool] = []
    for verdict in verdicts:
        answer = getattr(verdict, question)
        answers += [answer] if isinstance(answer, bool) else answer
    return sum(answers), len(answers)
