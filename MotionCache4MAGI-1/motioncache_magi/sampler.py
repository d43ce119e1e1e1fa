"""The sampling loop: a window of chunks slides over the video, and clean chunks leave it in order."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import torch

from motioncache.kv_cache import KVCache
from motioncache_magi.dit import VideoDiT, from_patches
from motioncache_magi.forward import ChunkInput, run_chunks
from motioncache_magi.guidance import Guidance
from motioncache_magi.layout import ALONE, NEARLY_CLEAN, PAST, TEXT, Layout
from motioncache_magi.pack import Text
from motioncache_magi.schedule import KeyRange, Step, WindowSchedule, distilled_step_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One chunk in one branch of a model call, and what it sees."""

    branch: str
    chunk: int
    t: float
    seen: KeyRange
    refresh: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What does not change during a video.

    Attributes:
        times: of the denoise steps, float32 `[steps + 1]`.
        clean_time: time that stands for a clean chunk.
        distilled: whether the model is told the length of a step.
    """

    schedule: WindowSchedule
    times: torch.Tensor
    guidance: Guidance
    chunk_frames: int
    clean_time: float
    distilled: bool


class Sampler:
    """Samples one video.

    Args:
        latents: noise of the whole video, float32 `[channels, frames, height, width]`; sampled in place.
        prefix: clean latents of its first frames, `[channels, prefix_frames, height, width]`.
        captions: text of each chunk.
        null: text of the branches without a caption.
        on_step: called after every denoise step.
    """

    def __init__(
        self,
        model: VideoDiT,
        settings: Settings,
        latents: torch.Tensor,
        *,
        prefix: torch.Tensor | None,
        captions: Sequence[Text],
        null: Text,
        on_step: Callable[[], object] = lambda: None,
    ) -> None:
        self._model = model
        self._settings = settings
        self.latents = latents
        self._prefix = prefix
        self._captions = captions
        self._null = null
        self._on_step = on_step
        _, _, height, width = latents.shape
        self._grid = (settings.chunk_frames, height // 2, width // 2)
        self._tokens = settings.chunk_frames * height * width // 4
        self._times: list[float] = settings.times.tolist()
        self._layout = Layout(settings.schedule, self._branches())
        self._cache = self._allocate()
        self._held = 0

    def __iter__(self) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield each finished chunk and its latents, `[channels, chunk_frames, height, width]`."""
        schedule = self._settings.schedule
        for step in chain(schedule.prefix_steps(), schedule):
            self.step(step)
            if step.window:
                self._on_step()
            if step.finished is not None:
                yield step.finished, self.latents[:, self._frames(step.finished)]

    def step(self, step: Step) -> None:
        """Denoise the window once."""
        if self._prefix is not None:
            self.latents[:, : self._prefix.shape[1]] = self._prefix
        for (chunk, velocity), count in zip(self.velocities(step).items(), step.counts, strict=True):
            length = self._times[count + 1] - self._times[count]
            self.latents[:, self._frames(chunk)] += velocity * length

    @torch.inference_mode()
    def velocities(self, step: Step) -> dict[int, torch.Tensor]:
        """Guided velocity of each chunk of the window, float32 `[channels, chunk_frames, height, width]`."""
        self._forget(step)
        velocities = self._run(self._works(step), step)
        return {
            chunk: from_patches(self._guide(chunk, self._times[count], velocities), *self._grid)
            for chunk, count in zip(step.window, step.counts, strict=True)
        }

    def _works(self, step: Step) -> list[Work]:
        """Everything that one model call computes."""
        guidance = self._settings.guidance
        times = [self._times[count] for count in step.counts]
        oldest_first = list(zip(step.window, times, step.ranges, strict=True))
        branches = [TEXT] if guidance.distilled else [TEXT, PAST]
        if not guidance.distilled and all(guidance.scales(t).text == 0 for t in times):
            branches = [PAST]  # a noisier chunk with text attends to the cleaner ones with text: all or none
        works: list[Work] = []
        for branch in branches:
            if step.refresh is not None:
                clean = self._settings.clean_time
                works.append(Work(branch=branch, chunk=step.refresh, t=clean, seen=step.refresh_range, refresh=True))
            works += [Work(branch=branch, chunk=chunk, t=t, seen=seen) for chunk, t, seen in oldest_first]
        if guidance.distilled and times and guidance.repeats_nearly_clean(times[0]):
            works.append(Work(branch=NEARLY_CLEAN, chunk=step.window[0], t=times[0], seen=(0, 0)))
        if not guidance.distilled:
            works += [
                Work(branch=ALONE, chunk=chunk, t=t, seen=(0, 0))
                for chunk, t, _ in oldest_first
                if guidance.scales(t).past != 1
            ]
        return works

    def _run(self, works: Sequence[Work], step: Step) -> dict[tuple[str, int], torch.Tensor]:
        """Velocities by branch and chunk, as patches."""
        embedded = {chunk: self._embed(chunk) for chunk in {work.chunk for work in works}}
        steps = self._settings.schedule.steps
        size = distilled_step_size(steps, step.interval) if self._settings.distilled else None
        inputs = [self._input(work, embedded[work.chunk], step) for work in works]
        computed = run_chunks(self._model, inputs, self._cache, self._grid, size)
        if step.refresh is not None and not self._settings.guidance.distilled:
            # Both branches with a past read the clean chunk that the one without text has computed.
            self._copy(step.refresh, source=PAST, to=TEXT)
        return {
            (work.branch, work.chunk): velocity
            for work, velocity in zip(works, computed, strict=True)
            if not work.refresh
        }

    def _input(self, work: Work, tokens: torch.Tensor, step: Step) -> ChunkInput:
        layout, per_chunk = self._layout, self._tokens
        start = layout.row(work.branch, work.chunk) * per_chunk
        if work.branch in (NEARLY_CLEAN, ALONE):
            attended = slice(start, start + per_chunk)
        else:
            first, end = (layout.row(work.branch, chunk) for chunk in work.seen)
            attended = slice(first * per_chunk, end * per_chunk)
        position = {NEARLY_CLEAN: step.window.stop, ALONE: 0}.get(work.branch, work.chunk)
        with_text = work.branch in (TEXT, NEARLY_CLEAN) and not work.refresh
        return ChunkInput(
            tokens=tokens,
            first_frame=position * self._settings.chunk_frames,
            t=work.t,
            dropped=work.branch in (PAST, ALONE),
            text=self._captions[work.chunk] if with_text else self._null,
            cache_start=start,
            attended=attended,
        )

    def _guide(self, chunk: int, t: float, velocities: dict[tuple[str, int], torch.Tensor]) -> torch.Tensor:
        """Join the branches of a chunk."""
        guidance = self._settings.guidance
        if guidance.distilled:
            velocity = velocities[TEXT, chunk]
            if (NEARLY_CLEAN, chunk) not in velocities:
                return velocity
            weight = guidance.nearly_clean_weight
            return weight * velocity + (1 - weight) * velocities[NEARLY_CLEAN, chunk]
        scales = guidance.scales(t)
        guided = (scales.past - scales.text) * velocities[PAST, chunk]
        if scales.text != 0:
            guided = guided + scales.text * velocities[TEXT, chunk]
        if scales.past != 1:
            guided = guided + (1 - scales.past) * velocities[ALONE, chunk]
        return guided

    def _embed(self, chunk: int) -> torch.Tensor:
        return self._model.embed(self.latents[:, self._frames(chunk)])

    def _frames(self, chunk: int) -> slice:
        size = self._settings.chunk_frames
        return slice(chunk * size, (chunk + 1) * size)

    def _branches(self) -> tuple[str, ...]:
        return (TEXT, NEARLY_CLEAN) if self._settings.guidance.distilled else (PAST, TEXT, ALONE)

    def _allocate(self) -> KVCache:
        config = self._model.config
        return KVCache(
            layers=config.num_layers,
            batch=1,
            rows=self._layout.rows * self._tokens,
            heads=config.num_query_groups,
            head_dim=config.kv_channels,
            dtype=config.dtype,
            device=self.latents.device,
        )

    def _forget(self, step: Step) -> None:
        """Free the keys and values that are no longer seen."""
        for rows, to in self._layout.slide(step.index, self._held):
            self._cache.copy(slice(rows.start * self._tokens, rows.stop * self._tokens), to * self._tokens)
        self._held = max(step.window.stop, (step.refresh or 0) + 1)

    def _copy(self, chunk: int, *, source: str, to: str) -> None:
        start = self._layout.row(source, chunk) * self._tokens
        self._cache.copy(slice(start, start + self._tokens), self._layout.row(to, chunk) * self._tokens)
