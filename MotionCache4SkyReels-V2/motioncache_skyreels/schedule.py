"""Which chunks a model call handles at each iteration of a window, read off the pipeline's own timestep matrix."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from motioncache.errors import MotionCacheError
from motioncache.record import Phase
from motioncache.step_distance import Timesteps

DistanceBetween = Callable[[Timesteps, Timesteps], float | torch.Tensor]
"""The step distance from a chunk's timesteps at its last denoise step to those at the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrices:
    """What the pipeline's `generate_timestep_matrix` returned for a window, and how many latent frames are given.

    An image-to-video call edits the tensors before its first forward: keep them, and read them only then.
    """

    timesteps: torch.Tensor
    update_mask: torch.Tensor
    valid_interval: list[tuple[int, int]]
    prefix_frames: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A chunk that a model call handles.

    Attributes:
        step: the chunk's own denoise step, from 0; -1 for a pass that only writes keys and values.
        timesteps: those of its latent frames.
        distance: step distance since its last denoise step; 0 at its first.
        kv_only: why only keys and values are written; None to denoise.
    """

    chunk: int
    step: int
    timesteps: Timesteps
    distance: float | torch.Tensor = 0.0
    kv_only: Phase | None = None


def no_distance(previous: Timesteps, current: Timesteps) -> float:
    """The distance of policies that need none."""
    return 0.0


class Schedule:
    """The visits of every iteration of one window, `visits[iteration]`, in the order of the chunks.

    Block-causal windows: a chunk that has not started is not visited; it is seen by nobody. A prefix chunk is visited
    once, at the first iteration. A finished chunk is visited once more, at the first iteration where it is clean, since
    later chunks attend to its clean keys and values. A window with full attention is a single chunk.

    Args:
        matrices: int64 timesteps and bool update mask, both `[iterations, frames]`, and the given latent frames.
        chunk_frames: latent frames of a chunk; `frames` for full attention.
    """

    def __init__(self, matrices: Matrices, *, chunk_frames: int, distance: DistanceBetween = no_distance) -> None:
        self.iterations, frames = matrices.update_mask.shape
        self.chunk_frames = chunk_frames
        self._timesteps: list[Timesteps] = [tuple(row) for row in matrices.timesteps.tolist()]
        advances = matrices.update_mask.cpu().unflatten(1, (frames // chunk_frames, chunk_frames))
        _check_whole_chunks(advances)
        self._active: list[list[bool]] = advances.any(dim=2).tolist()  # [iterations, chunks]
        self._prefix_chunks = matrices.prefix_frames // chunk_frames
        self._distance = distance
        self.visits = self._all_visits()

    def starts(self) -> tuple[int, ...]:
        """The iteration of each chunk's first denoise step."""
        return tuple(iteration for iteration, row in enumerate(self.visits) for visit in row if visit.step == 0)

    def _all_visits(self) -> list[list[Visit]]:
        steps = [0] * len(self._active[0])
        visits: list[list[Visit]] = []
        for iteration, active in enumerate(self._active):
            row: list[Visit] = []
            for chunk, denoises in enumerate(active):
                timesteps, kv_only = self._chunk_timesteps(iteration, chunk), self._kv_only(iteration, chunk)
                if denoises:
                    distance = self._step_distance(iteration, chunk)
                    row.append(Visit(chunk=chunk, step=steps[chunk], timesteps=timesteps, distance=distance))
                    steps[chunk] += 1
                elif kv_only is not None:
                    row.append(Visit(chunk=chunk, step=-1, timesteps=timesteps, kv_only=kv_only))
            visits.append(row)
        return visits

    def _kv_only(self, iteration: int, chunk: int) -> Phase | None:
        """Why a chunk that does not denoise is visited all the same; None if it is not."""
        if iteration == 0:
            return Phase.prefix if chunk < self._prefix_chunks else None
        return Phase.finished if self._active[iteration - 1][chunk] else None

    def _step_distance(self, iteration: int, chunk: int) -> float | torch.Tensor:
        if iteration == 0 or not self._active[iteration - 1][chunk]:
            return 0.0
        return self._distance(self._chunk_timesteps(iteration - 1, chunk), self._chunk_timesteps(iteration, chunk))

    def _chunk_timesteps(self, iteration: int, chunk: int) -> Timesteps:
        return self._timesteps[iteration][chunk * self.chunk_frames : (chunk + 1) * self.chunk_frames]


def _check_whole_chunks(advances: torch.Tensor) -> None:
    """Frames of a block-causal chunk have to advance together, or the sampler would overwrite given frames.

    Args:
        advances: bool `[iterations, chunks, chunk_frames]`.
    """
    mixed = advances.any(dim=2) != advances.all(dim=2)
    if advances.shape[1] > 1 and bool(mixed.any()):
        raise MotionCacheError(
            f"a given latent frame shares a chunk of {advances.shape[2]} latent frames with generated ones, and "
            "diffusers would overwrite it; give a prefix of whole chunks, or sample synchronously with full "
            "attention: ar_step=0, causal_block_size=1"
        )
