"""Encoded clips that a denoiser is trained on; they are made once and kept in a file."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from motioncache.errors import MotionCacheError
from motioncache.whole_file import whole_file
from motioncache_eval.scenes import draw_split, render
from motioncache_train.clips import to_model

PATCH = 4
"""A latent stands for this many pixels in height and width, and a latent frame for this many frames."""

MOVER_WEIGHT = 2.0
"""Extra weight of the loss at positions that show a mover, since most of a picture is background."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentSet:
    """Encoded clips.

    Attributes:
        latents: float16 `[clips, channels, frames, 16, 24]`.
        movers: 1 at positions of the latents that show a mover and 0 elsewhere, uint8 `[clips, frames, 16, 24]`.
        captions: one caption per clip.
    """

    latents: torch.Tensor
    movers: torch.Tensor
    captions: list[str]

    def __len__(self) -> int:
        return len(self.captions)

    def __add__(self, other: "LatentSet") -> "LatentSet":
        """Join two sets, whose clips must have the same length."""
        return LatentSet(
            latents=torch.cat([self.latents, other.latents]),
            movers=torch.cat([self.movers, other.movers]),
            captions=self.captions + other.captions,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipEncoder:
    """Encodes procedural clips.

    Attributes:
        encode: turns pixels `[1, 3, frames, 64, 96]` in [-1, 1] into normalised latents
            `[channels, latent_frames, 16, 24]`.
        seed: seed of the scenes.
        chunk: latent frames of a chunk.
        first_alone: whether the first frame has a latent frame of its own.
        apart: whether every chunk is encoded by itself, as a clip that begins with it.
    """

    encode: Callable[[torch.Tensor], torch.Tensor]
    seed: int
    chunk: int
    first_alone: bool
    apart: bool = False

    def load(self, path: Path, *, clips: int, chunks: int, held_out: bool, kind: str | None = None) -> LatentSet:
        """Read clips from `path`, or encode them and write them there if the file does not exist.

        An interrupt while they are encoded leaves no file.

        Args:
            clips: number of clips.
            chunks: number of chunks of each clip.
            held_out: whether the clips belong to the validation split.
            kind: kind of the scenes, see `motioncache_eval.scenes.KINDS`; None draws all kinds.

        Raises:
            MotionCacheError: for a file that is damaged, or that holds other clips.
        """
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            encoded = self._encode_all(path.name, clips, chunks, held_out, kind)
            with whole_file(path) as temporary:
                torch.save(encoded, temporary)
        found = _read_latents(path)
        wanted, frames = self.chunk * chunks, found.latents.shape[2]
        if (len(found), frames) != (clips, wanted):
            raise MotionCacheError(
                f"{path} holds {len(found)} clips of {frames} latent frames, and not {clips} of {wanted}: delete it to "
                "encode others"
            )
        return found

    def _encode_all(self, name: str, clips: int, chunks: int, held_out: bool, kind: str | None) -> dict[str, object]:
        latents: list[torch.Tensor] = []
        movers: list[torch.Tensor] = []
        captions: list[str] = []
        pieces = chunks if self.apart else 1
        frames = PATCH * self.chunk * chunks // pieces - (PATCH - 1 if self.first_alone else 0)  # of a piece
        for i in tqdm(range(clips), desc=f"encoding {name}", mininterval=10):
            rng = np.random.default_rng((self.seed, chunks, int(held_out), i))
            scene = draw_split(rng, held_out=held_out, kind=kind)
            video, covered = render(scene, rng, frames=frames * pieces)
            with torch.inference_mode():
                encoded = [self.encode(piece).half().cpu() for piece in to_model(video).split(frames, dim=2)]
            latents.append(torch.cat(encoded, dim=1))
            movers.append(torch.cat([self._mover_latents(piece) for piece in np.split(covered, pieces)]))
            captions.append(scene.caption)
        return {"latents": torch.stack(latents), "movers": torch.stack(movers), "captions": captions}

    def _mover_latents(self, covered: np.ndarray) -> torch.Tensor:
        """Find the latents that show a mover, uint8 `[latent_frames, 16, 24]`.

        A latent shows a mover if more than 5 % of any of its pixels is covered.

        Args:
            covered: share of each pixel that movers cover, `[frames, height, width]`.
        """
        cells = torch.from_numpy(covered).unflatten(2, (-1, PATCH)).unflatten(1, (-1, PATCH)).amax((2, 4))
        alone = 1 if self.first_alone else 0
        later = cells[alone:].unflatten(0, (-1, PATCH)).amax(1)
        return (torch.cat([cells[:alone], later]) > 0.05).to(torch.uint8)


def _read_latents(path: Path) -> LatentSet:
    """Read a file that `ClipEncoder.load` has written."""
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # torch raises errors of many kinds for files that it cannot read
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MotionCacheError(f"{path} cannot be read: {reason}; delete it to encode the clips again") from None
    if not _are_latents(content):
        raise MotionCacheError(f"{path} holds no encoded clips, or damaged ones: delete it to encode them again")
    return LatentSet(**content)


def _are_latents(content: Any) -> bool:
    """Whether a file's content is a `LatentSet`: finite latents, and movers and captions for each."""
    if not isinstance(content, dict) or set(content) != {"latents", "movers", "captions"}:
        return False
    latents, movers, captions = (content[name] for name in ("latents", "movers", "captions"))
    if not isinstance(latents, torch.Tensor) or not isinstance(movers, torch.Tensor) or latents.ndim != 5:
        return False
    clips, _, *grid = latents.shape
    texts = isinstance(captions, list) and all(isinstance(caption, str) for caption in captions)
    fits = latents.dtype == torch.float16 and movers.dtype == torch.uint8 and movers.shape == (clips, *grid)
    return texts and len(captions) == clips and fits and bool(latents.isfinite().all()) and bool((movers <= 1).all())


def weighted_error(
    predicted: torch.Tensor, target: torch.Tensor, movers: torch.Tensor, active: torch.Tensor
) -> torch.Tensor:
    """Compute the mean squared error of velocities `[clips, channels, frames, height, width]`; movers weigh more.

    Args:
        movers: 1 at positions that show a mover, `[clips, frames, height, width]`.
        active: 1 at positions that are being denoised and count; it is broadcast to the shape of the velocities.
    """
    weight = active.float() * (1 + MOVER_WEIGHT * movers.float()[:, None])
    error = (predicted.float() - target).square() * weight
    return error.sum() / weight.expand_as(error).sum().clamp(min=1)
