"""The sampling loop: a window of chunks slides over the video, and clean chunks leave it in order."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain

import torch

from motioncache.grid import TokenGrid
from motioncache_magi.model.dit import VideoDiT, from_patches, to_patches
from motioncache_magi.model.forward import ChunkInput, run_chunks
from motioncache_magi.model.packed import Text
from motioncache_magi.sampling.guidance import Pass, Velocities, branches_of, join_branches, passes_of
from motioncache_magi.sampling.kv_layout import ALONE, NEARLY_CLEAN, PAST, TEXT, KVLayout
from motioncache_magi.sampling.reuse import ComputeAll, Due, Reuse
from motioncache_magi.sampling.settings import Settings as Settings
from motioncache_magi.sampling.step import Step, distilled_step_size
from motioncache_magi.sampling.stores import Store, create_store, kept_branches


class Sampler:
    """Samples one video.

    Args:
        latents: noise of the whole video, float32 `[channels, frames, height, width]`; sampled in place.
        prefix: clean latents of its first frames, `[channels, prefix_frames, height, width]`.
        captions: text of each chunk.
        null: text of the branches without a caption.
        reuse: a cache that takes part; without one everything is computed.
        on_step: called after every denoise step.
    """

    _parts = 1  # of the heads, one of which this process has

    def __init__(
        self,
        model: VideoDiT,
        settings: Settings,
        latents: torch.Tensor,
        *,
        prefix: torch.Tensor | None,
        captions: Sequence[Text],
        null: Text,
        reuse: Reuse | None = None,
        on_step: Callable[[], object] = lambda: None,
    ) -> None:
        self._model = model
        self._settings = settings
        self.latents = latents
        self._prefix = prefix
        self._captions = captions
        self._null = null
        self._reuse = reuse or ComputeAll()
        self._on_step = on_step
        _, frames, height, width = latents.shape
        self._grid = TokenGrid(frames=frames, height=height // 2, width=width // 2, chunk_frames=settings.chunk_frames)
        self._times: list[float] = settings.times.tolist()
        self._most_rows = settings.options.most_rows(self._grid.tokens_per_chunk)
        self._kept = self._kept_branches()
        self._layout = self._create_layout()
        self._cache = self._allocate()
        self._cached_end = 0
        """The first chunk that has no keys and values yet."""

    def __iter__(self) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield each finished chunk and its latents, `[channels, chunk_frames, height, width]`."""
        schedule = self._settings.schedule
        self._reuse.start(self._grid, schedule.total, branches_of(self._settings.guidance))
        try:
            for step in chain(schedule.prefix_steps(), schedule):
                self.step(step)
                if step.window:
                    self._on_step()
                if step.finished is not None:
                    yield step.finished, self.latents[:, self._frames(step.finished)]
        finally:
            self._reuse.end()

    @torch.inference_mode()
    def step(self, step: Step) -> None:
        """Denoise the window once."""
        if self._prefix is not None:
            self.latents[:, : self._prefix.shape[1]] = self._prefix
        self._forget_unseen(step)
        if step.window.start > 0:  # a clean chunk attends to the null text
            self._captions[step.window.start - 1].keys_values.clear()
        embedded = {chunk: self._model.embed(self.latents[:, self._frames(chunk)]) for chunk in step.chunks}
        passes = self._reuse.select(step, self._passes(step))
        due = self._reuse.decide(step, passes, embedded)
        velocities = self._run(passes, due, embedded, step)
        for chunk in due:
            self._advance(chunk, step, due[chunk], velocities)
        self._reuse.end_step(passes)

    def _passes(self, step: Step) -> list[Pass]:
        return passes_of(step, self._times, self._settings.guidance, self._settings.clean_time)

    def _run(
        self, passes: Sequence[Pass], due: dict[int, Due], embedded: dict[int, torch.Tensor], step: Step
    ) -> Velocities:
        """Velocities of the due tokens by branch and chunk, as patches."""
        passes = [one for one in passes if due.get(one.chunk, False) is not False]
        size = distilled_step_size(self._settings.schedule.steps, step.interval) if self._settings.distilled else None
        inputs = [self._input(one, due[one.chunk], embedded[one.chunk], step) for one in passes]
        grid = (self._grid.chunk_frames, self._grid.height, self._grid.width)
        self._cache.begin([one for one in passes if one.branch in self._kept], due, self._first_row)
        computed = run_chunks(self._model, inputs, self._cache, grid, size, self._most_rows) if inputs else []
        self._cache.end()
        if not self._settings.guidance.distilled and any(one.refresh for one in passes):
            assert step.refresh is not None
            self._share_refreshed(step.refresh)
        return {(one.branch, one.chunk): out for one, out in zip(passes, computed, strict=True) if not one.refresh}

    def _share_refreshed(self, chunk: int) -> None:
        """Both branches with a past read the clean chunk that the one without text has computed."""
        start = self._first_row(PAST, chunk)
        rows = slice(start, start + self._grid.tokens_per_chunk)
        self._cache.share((PAST, chunk), (TEXT, chunk), (rows, self._first_row(TEXT, chunk)))

    def _input(self, one: Pass, due: Due, tokens: torch.Tensor, step: Step) -> ChunkInput:
        some = due if isinstance(due, torch.Tensor) and one.branch != NEARLY_CLEAN else None
        start, attended = None, None
        if one.branch in self._kept:
            start = self._first_row(one.branch, one.chunk)
            oldest = start if one.branch == ALONE else self._first_row(one.branch, one.seen[0])
            attended = slice(oldest, start + self._grid.tokens_per_chunk)
        position = {NEARLY_CLEAN: step.window.stop, ALONE: 0}.get(one.branch, one.chunk)
        with_text = one.branch in (TEXT, NEARLY_CLEAN) and not one.refresh
        return ChunkInput(
            tokens=tokens,
            first_frame=position * self._settings.chunk_frames,
            t=one.t,
            dropped=one.branch in (PAST, ALONE),
            text=self._captions[one.chunk] if with_text else self._null,
            cache_start=start,
            attended=attended,
            due=some,
        )

    def _advance(self, chunk: int, step: Step, due: Due, velocities: Velocities) -> None:
        """Move the latents of a chunk."""
        now = to_patches(self.latents[:, self._frames(chunk)])[None]
        if chunk == step.refresh:
            self._reuse.refreshed(chunk, now)
            return
        t, end = self._step_times(chunk, step)
        velocity = now.new_zeros(1, 0, now.shape[2])
        if due is not False:
            velocity = join_branches(self._settings.guidance, velocities, chunk, t, due)[None]
        self._write(chunk, self._reuse.advance(chunk, now, velocity, end - t))

    def _step_times(self, chunk: int, step: Step) -> tuple[float, float]:
        """Where a chunk's denoise step begins and ends."""
        count = step.counts[chunk - step.window.start]
        return self._times[count], self._times[count + 1]

    def _write(self, chunk: int, patches: torch.Tensor) -> None:
        grid = self._grid
        self.latents[:, self._frames(chunk)] = from_patches(patches[0], grid.chunk_frames, grid.height, grid.width)

    def _frames(self, chunk: int) -> slice:
        return self._grid.chunk_of_frames(chunk)

    def _first_row(self, branch: str, chunk: int) -> int:
        """The row of the KV cache at which a chunk begins."""
        return self._layout.slot(branch, chunk) * self._grid.tokens_per_chunk

    def _create_layout(self) -> KVLayout:
        return KVLayout(self._settings.schedule, self._kept)

    def _kept_branches(self) -> tuple[str, ...]:
        """The branches whose keys and values are kept from step to step."""
        return kept_branches(self._settings.guidance, keeps_active=self._keeps_all)

    @property
    def _keeps_all(self) -> bool:
        """Whether all chunks are kept, and not clean ones alone."""
        return self._reuse.keeps_active

    def _allocate(self) -> Store:
        return create_store(
            self._model.config,
            self._grid.tokens_per_chunk,
            slots=self._layout.slots,
            parts=self._parts,
            kv=self._settings.options.kv,
            keeps_all=self._keeps_all,
            device=self.latents.device,
        )

    def _forget_unseen(self, step: Step) -> None:
        """Free the keys and values that are no longer seen."""
        per_chunk = self._grid.tokens_per_chunk
        slots = self._layout.slide(step.index, self._cached_end)
        moves = [(slice(one.start * per_chunk, one.stop * per_chunk), to * per_chunk) for one, to in slots]
        self._cache.slide(moves, self._layout.oldest, step.window)
        self._cached_end = max(step.window.stop, (step.refresh or 0) + 1)
