"""Which chunks are handled at which iteration of a window, read off the pipeline's own timestep matrix."""

from dataclasses import dataclass

import torch

from motioncache.errors import MotionCacheError
from motioncache.trace import Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrices:
    """What the pipeline's `generate_timestep_matrix` returned for a window, and how many latent frames are given.

    An image-to-video call edits the tensors before its first forward: keep them, and read them only then.
    """

    timesteps: torch.Tensor
    update_mask: torch.Tensor
    valid_interval: list[tuple[int, int]]
    prefix_frames: int


@dataclass(frozen=True, slots=True)
class Visit:
    """A chunk that has to be handled: to denoise it (`kv_only` is None), or for its keys and values alone."""

    chunk: int
    kv_only: Phase | None = None


class Schedule:
    """The visits of every iteration of one window.

    Block-causal windows: a chunk that has not started is not visited; it is seen by nobody. A prefix chunk is visited
    once, at the first iteration. A finished chunk is visited once more, at the first iteration where it is clean, since
    later chunks attend to its clean keys and values. A window with full attention is a single chunk.

    Args:
        matrices: int64 timesteps and bool update mask, both `[iterations, frames]`, and the given latent frames.
        chunk_frames: latent frames of a chunk; `frames` for full attention.
        finished_visits: False leaves finished chunks with the keys and values of their last computed step, as the
            published code does.
    """

    def __init__(self, matrices: Matrices, *, chunk_frames: int, finished_visits: bool = True) -> None:
        self._timesteps: list[tuple[int, ...]] = [tuple(row) for row in matrices.timesteps.tolist()]
        self.iterations, frames = matrices.update_mask.shape
        self.chunk_frames = chunk_frames
        chunks = (frames // chunk_frames, chunk_frames)
        advances = matrices.update_mask.cpu().unflatten(1, chunks)  # [iterations, chunks, chunk_frames]
        self._active: list[list[bool]] = advances.any(dim=2).tolist()
        self._check_whole_chunks(advances)
        self._prefix_chunks = matrices.prefix_frames // chunk_frames
        self._finished_visits = finished_visits

    def visits(self, iteration: int) -> list[Visit]:
        """The chunks to handle, in order."""
        return [
            Visit(chunk, kv_only)
            for chunk in range(len(self._active[iteration]))
            for wanted, kv_only in [self._visit(iteration, chunk)]
            if wanted
        ]

    def _visit(self, iteration: int, chunk: int) -> tuple[bool, Phase | None]:
        if self._active[iteration][chunk]:
            return True, None
        if iteration == 0:
            return chunk < self._prefix_chunks, Phase.prefix
        return self._finished_visits and self._active[iteration - 1][chunk], Phase.finished

    def chunk_timesteps(self, iteration: int, chunk: int) -> tuple[int, ...]:
        """Timesteps of the chunk's latent frames."""
        return self._timesteps[iteration][chunk * self.chunk_frames : (chunk + 1) * self.chunk_frames]

    def previous_timesteps(self, iteration: int, chunk: int) -> tuple[int, ...] | None:
        """Timesteps of the chunk at its previous denoise step; None at its first."""
        if iteration == 0 or not self._active[iteration - 1][chunk]:
            return None
        return self.chunk_timesteps(iteration - 1, chunk)

    def steps(self) -> set[tuple[tuple[int, ...], tuple[int, ...]]]:
        """All pairs of timesteps that a chunk goes through from one denoise step to its next."""
        pairs = (
            (self.previous_timesteps(iteration, chunk), self.chunk_timesteps(iteration, chunk))
            for iteration in range(self.iterations)
            for chunk, active in enumerate(self._active[iteration])
            if active
        )
        return {(previous, current) for previous, current in pairs if previous is not None}

    def _check_whole_chunks(self, advances: torch.Tensor) -> None:
        """Frames of a block-causal chunk have to advance together, or the sampler would overwrite given frames."""
        mixed = advances.any(dim=2) != advances.all(dim=2)
        if advances.shape[1] > 1 and bool(mixed.any()):
            raise MotionCacheError(
                f"a given latent frame shares a chunk of {self.chunk_frames} latent frames with generated ones, and "
                "diffusers would overwrite it; give a prefix of whole chunks, or sample synchronously with full "
                "attention: ar_step=0, causal_block_size=1"
            )
