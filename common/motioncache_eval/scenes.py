"""Procedural videos with captions: coloured shapes move or rest over a textured background, or the camera pans.

The world is a torus: a shape that leaves at one edge comes back at the opposite one, so it keeps its direction and its
speed in a clip of any length. The smooth texture of the background has a random phase, so nothing depends on absolute
position.
"""

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OBJECT_COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (225, 40, 45),
    "green": (60, 205, 75),
    "blue": (70, 120, 255),
    "yellow": (245, 215, 50),
    "white": (240, 240, 240),
}
BACKGROUND_COLOURS: dict[str, tuple[int, int, int]] = {
    "gray": (104, 104, 108),
    "navy": (24, 32, 92),
    "brown": (98, 58, 28),
    "teal": (14, 88, 88),
}
SHAPES = ("circle", "square")
DIRECTIONS: dict[str, tuple[int, int]] = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
SPEEDS: dict[str, float] = {"slowly": 0.5, "quickly": 1.0}
"""Pixels per frame in a picture of 64 rows; they grow with the height."""

KINDS: dict[str, float] = {"mover": 0.65, "still": 0.15, "two": 0.10, "pan": 0.10}
"""Kinds of scene and how often each is drawn."""

_MOTION = f"(?P<direction>{'|'.join(DIRECTIONS)}) (?P<speed>{'|'.join(SPEEDS)})"
_MOVER = re.compile(
    f"a (?P<colour>{'|'.join(OBJECT_COLOURS)}) (?P<shape>{'|'.join(SHAPES)}) (?:moving {_MOTION}|resting)"
)
_CAPTION = re.compile(
    f"(?P<movers>.+) over a (?P<background>{'|'.join(BACKGROUND_COLOURS)}) background(?: panning {_MOTION})?"
)

_REFERENCE_HEIGHT = 64

_RADIUS = (9.0, 12.0)
"""Smallest and largest radius of a shape, in pixels of a picture of 64 rows."""

_TEXTURE_AMPLITUDE = 0.12

WAVES = ((1, 0), (0, 1), (2, 1))
"""How many periods each wave of the background's texture has across the width and the height."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mover:
    """One shape; `direction` and `speed` are None if it rests."""

    colour: str
    shape: str
    direction: str | None = None
    speed: str | None = None

    @property
    def caption(self) -> str:
        motion = "resting" if self.direction is None else f"moving {self.direction} {self.speed}"
        return f"a {self.colour} {self.shape} {motion}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What the caption of a clip says, without the random details of the clip (start positions, radii, texture)."""

    kind: str
    background: str
    movers: tuple[Mover, ...]
    pan: tuple[str, str] | None = None

    @property
    def caption(self) -> str:
        movers = " and ".join(mover.caption for mover in self.movers)
        pan = f" panning {self.pan[0]} {self.pan[1]}" if self.pan else ""
        return f"{movers} over a {self.background} background{pan}"

    @property
    def held_out(self) -> bool:
        """Whether the caption belongs to the validation split, as one in eight does; it is never trained on."""
        return zlib.crc32(self.caption.encode()) % 8 == 0


def parse_caption(caption: str) -> Scene:
    """The scene that a caption describes, the inverse of `Scene.caption`."""
    parts = _CAPTION.fullmatch(caption)
    if parts is None:
        raise _not_a_caption(caption)
    movers = tuple(_parse_mover(text, caption) for text in parts["movers"].split(" and "))
    pan = (parts["direction"], parts["speed"]) if parts["direction"] else None
    if len(movers) == 2:
        kind = "two"
    elif pan:
        kind = "pan"
    else:
        kind = "mover" if movers[0].direction else "still"
    return Scene(kind=kind, background=parts["background"], movers=movers, pan=pan)


def _parse_mover(text: str, caption: str) -> Mover:
    parts = _MOVER.fullmatch(text)
    if parts is None:
        raise _not_a_caption(caption)
    return Mover(**parts.groupdict())


def _not_a_caption(caption: str) -> ValueError:
    return ValueError(f"{caption!r} is not in the grammar of the captions: see motioncache_eval.scenes")


def draw_split(rng: np.random.Generator, *, held_out: bool, kind: str | None = None) -> Scene:
    """Draw a scene of the validation split or of the training split."""
    while True:
        scene = draw_scene(rng, kind)
        if scene.held_out == held_out:
            return scene


def draw_scene(rng: np.random.Generator, kind: str | None = None) -> Scene:
    """Draw a scene.

    Args:
        kind: one of `KINDS`; None draws it, too.
    """
    kind = kind or str(rng.choice(list(KINDS), p=list(KINDS.values())))
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {sorted(KINDS)}, not {kind!r}")
    moving = kind in ("mover", "two")
    colours = rng.choice(list(OBJECT_COLOURS), size=2 if kind == "two" else 1, replace=False)
    movers = tuple(
        Mover(
            colour=str(colour),
            shape=_pick(rng, SHAPES),
            direction=_pick(rng, DIRECTIONS) if moving else None,
            speed=_pick(rng, SPEEDS) if moving else None,
        )
        for colour in colours
    )
    pan = (_pick(rng, DIRECTIONS), _pick(rng, SPEEDS)) if kind == "pan" else None
    return Scene(kind=kind, background=_pick(rng, BACKGROUND_COLOURS), movers=movers, pan=pan)


def render(
    scene: Scene, rng: np.random.Generator, *, frames: int, height: int = 64, width: int = 96
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Render a scene.

    Returns:
        The video, uint8 `[frames, height, width, 3]`, and the movers' coverage, float32 `[frames, height, width]` in
        [0, 1]. The random details (positions, sizes, texture) come from `rng`.
    """
    scale = height / _REFERENCE_HEIGHT
    time = np.arange(frames, dtype=np.float32)
    camera = _path(scene.pan, time, scale)  # [frames, 2] (x, y)
    video = _background(scene.background, rng, camera, height, width)
    covered = np.zeros((frames, height, width), np.float32)
    for start, mover in zip(_starts(rng, len(scene.movers), height, width), scene.movers, strict=True):
        motion = None if mover.direction is None or mover.speed is None else (mover.direction, mover.speed)
        centre = start + _path(motion, time, scale) + camera
        alpha = _coverage(mover.shape, centre, rng.uniform(*_RADIUS) * scale, height, width)
        colour = np.array(OBJECT_COLOURS[mover.colour], np.float32)
        video += alpha[..., None] * (colour - video)
        covered = np.maximum(covered, alpha)
    return np.clip(video + 0.5, 0, 255).astype(np.uint8), covered


def _pick(rng: np.random.Generator, names: Iterable[str]) -> str:
    return str(rng.choice(list(names)))


def _path(motion: tuple[str, str] | None, time: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    """Displacement from the start, `[frames, 2]` in pixels."""
    if motion is None:
        return np.zeros((len(time), 2), np.float32)
    direction, speed = motion
    return time[:, None] * np.array(DIRECTIONS[direction], np.float32) * (SPEEDS[speed] * scale)


def _starts(rng: np.random.Generator, count: int, height: int, width: int) -> NDArray[np.float32]:
    """Start positions `[count, 2]`: the first shape is wholly inside the frame, a second one half a torus away."""
    margin = 13 * height / _REFERENCE_HEIGHT
    first = rng.uniform((margin, margin), (width - margin, height - margin))
    return np.stack([first + i * np.array((width, height)) / 2 for i in range(count)]).astype(np.float32)


def _coverage(shape: str, centre: NDArray[np.float32], radius: float, height: int, width: int) -> NDArray[np.float32]:
    """Anti-aliased coverage `[frames, height, width]` of a shape whose centre moves along a path on the torus."""
    dx = (np.arange(width, dtype=np.float32) - centre[:, :1] + width / 2) % width - width / 2  # [frames, width]
    dy = (np.arange(height, dtype=np.float32) - centre[:, 1:] + height / 2) % height - height / 2
    if shape == "circle":
        distance = np.sqrt(dx[:, None, :] ** 2 + dy[:, :, None] ** 2) - radius
    else:  # a square of about the same area
        distance = np.maximum(np.abs(dx)[:, None, :], np.abs(dy)[:, :, None]) - radius * 0.886
    return np.clip(0.5 - distance, 0, 1).astype(np.float32)


def _background(
    name: str, rng: np.random.Generator, camera: NDArray[np.float32], height: int, width: int
) -> NDArray[np.float32]:
    """Base colour times a sum of waves that are periodic on the torus, `[frames, height, width, 3]`.

    The texture moves with the camera.
    """
    x = np.arange(width, dtype=np.float32)[None, :] - camera[:, :1]  # [frames, width]
    y = np.arange(height, dtype=np.float32)[None, :] - camera[:, 1:]
    texture = np.zeros((len(camera), height, width), np.float32)
    for waves_x, waves_y in WAVES:
        phase_x = 2 * np.pi * waves_x * x / width + rng.uniform(0, 2 * np.pi)
        phase_y = 2 * np.pi * waves_y * y / height
        texture += np.cos(phase_x[:, None, :] + phase_y[:, :, None])
    base = np.array(BACKGROUND_COLOURS[name], np.float32)
    return base * (1 + _TEXTURE_AMPLITUDE / np.sqrt(1.5) * texture)[..., None]
