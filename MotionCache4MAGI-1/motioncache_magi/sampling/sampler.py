"""The sampling loop: a window of chunks slides over the video, and clean chunks leave it in order.

An engine decides which tokens of which chunk are computed at a step, and supplies the update of all others. Without a
cache its policy computes everything. Branches of guidance share the decision, and what is kept is their guided result.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import torch

from motioncache.distance import relative_l1
from motioncache.engine import Engine, Task
from motioncache.engine import Work as EngineWork
from motioncache.grid import TokenGrid
from motioncache.kv_cache import KVCache
from motioncache.trace import Phase, WindowShape
from motioncache_magi.cache.policy import MagiReuseConfig, Residual
from motioncache_magi.model.dit import VideoDiT, from_patches, to_patches
from motioncache_magi.model.forward import ChunkInput, run_chunks
from motioncache_magi.model.packed import Text
from motioncache_magi.sampling.guidance import Guidance
from motioncache_magi.sampling.kv_layout import ALONE, NEARLY_CLEAN, PAST, TEXT, Layout
from motioncache_magi.sampling.passes import Work, branches_of, deciding_branch, works_of
from motioncache_magi.sampling.schedule import KeyRange, Step, WindowSchedule, distilled_step_size

Velocities = dict[tuple[str, int], torch.Tensor]
"""By branch and chunk, `[due, values of a patch]`."""


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
        engine: decides what is computed.
        reuse: how the tokens that are not computed move on; None where the engine computes everything.
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
        engine: Engine,
        reuse: MagiReuseConfig | None = None,
        on_step: Callable[[], object] = lambda: None,
    ) -> None:
        self._model = model
        self._settings = settings
        self.latents = latents
        self._prefix = prefix
        self._captions = captions
        self._null = null
        self._engine = engine
        self._reuse = reuse
        self._on_step = on_step
        _, frames, height, width = latents.shape
        self._grid = TokenGrid(frames=frames, height=height // 2, width=width // 2, chunk_frames=settings.chunk_frames)
        self._deciding = deciding_branch(settings.guidance)
        self._times: list[float] = settings.times.tolist()
        self._layout = self._create_layout()
        self._cache = self._allocate()
        self._held = 0
        self._features: dict[int, torch.Tensor] = {}

    def __iter__(self) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield each finished chunk and its latents, `[channels, chunk_frames, height, width]`."""
        schedule = self._settings.schedule
        self.start()
        try:
            for step in chain(schedule.prefix_steps(), schedule):
                self.step(step)
                if step.window:
                    self._on_step()
                if step.finished is not None:
                    yield step.finished, self.latents[:, self._frames(step.finished)]
        finally:
            self._engine.drop()

    def start(self) -> None:
        """Begin the video."""
        self._engine.start_video()
        self._engine.start_window(
            WindowShape(
                grid=self._grid,
                iterations=self._settings.schedule.total,
                branches=branches_of(self._settings.guidance),
                causal=True,
            )
        )

    @torch.inference_mode()
    def step(self, step: Step) -> None:
        """Denoise the window once."""
        if self._prefix is not None:
            self.latents[:, : self._prefix.shape[1]] = self._prefix
        self._forget(step)
        embedded = {chunk: self._model.embed(self.latents[:, self._frames(chunk)]) for chunk in _chunks(step)}
        works = self._works(step)
        tasks = self._plan(step, works, embedded)
        velocities = self._run(works, tasks, embedded, step)
        for task in tasks:
            self._advance(task, step, velocities)
        self._record(works, tasks)

    def _works(self, step: Step) -> list[Work]:
        works = works_of(step, self._times, self._settings.guidance, self._settings.clean_time)
        if self._reuse is None:
            return works
        refresh = self._reuse.refresh_clean or step.index < 0  # a given chunk has nothing else to be seen
        return [
            work
            for work in works
            if (refresh or not work.refresh) and (self._reuse.nearly_clean or work.branch != NEARLY_CLEAN)
        ]

    def _plan(self, step: Step, works: Sequence[Work], embedded: dict[int, torch.Tensor]) -> list[Task]:
        """One decision for each chunk, in order, which all its branches share."""
        decided = [
            EngineWork(
                branch=work.branch,
                chunk=work.chunk,
                iteration=max(step.index, 0),
                attended=work.chunks_seen * self._grid.tokens_per_chunk,
                distance=0.0 if work.refresh else self._distance(work.chunk, embedded[work.chunk], step),
                kv_only=None if not work.refresh else Phase.prefix if step.index < 0 else Phase.finished,
            )
            for work in works
            if work.branch == self._deciding
        ]
        if self._reuse is not None and self._reuse.measures:
            self._features = {chunk: embedded[chunk] for chunk in step.window}
        return self._engine.plan(decided)

    def _distance(self, chunk: int, features: torch.Tensor, step: Step) -> float | torch.Tensor:
        """How far the chunk's embedded latents moved since the last step: a scalar, or `[tokens]`."""
        before = self._features.get(chunk)
        if self._reuse is None or before is None:
            return 0.0
        by_token = self._reuse.measures_tokens(step.counts[chunk - step.window.start])
        return relative_l1(features, before, keep=(0,) if by_token else ())

    def _run(
        self, works: Sequence[Work], tasks: Sequence[Task], embedded: dict[int, torch.Tensor], step: Step
    ) -> Velocities:
        """Velocities of the due tokens by branch and chunk, as patches."""
        due = {task.work.chunk: task.due for task in tasks}
        works = [work for work in works if self._wanted(work, due[work.chunk])]
        size = distilled_step_size(self._settings.schedule.steps, step.interval) if self._settings.distilled else None
        inputs = [self._input(work, due[work.chunk], embedded[work.chunk], step) for work in works]
        grid = (self._grid.chunk_frames, self._grid.height, self._grid.width)
        computed = run_chunks(self._model, inputs, self._cache, grid, size) if inputs else []
        if not self._settings.guidance.distilled and any(work.refresh for work in works):
            assert step.refresh is not None
            # Both branches with a past read the clean chunk that the one without text has computed.
            self._copy(step.refresh, source=PAST, to=TEXT)
        return {(work.branch, work.chunk): out for work, out in zip(works, computed, strict=True) if not work.refresh}

    def _wanted(self, work: Work, due: bool | torch.Tensor) -> bool:
        """Whether a work is computed, where `due` tokens of its chunk are."""
        return due is not False

    def _input(self, work: Work, due: bool | torch.Tensor, tokens: torch.Tensor, step: Step) -> ChunkInput:
        layout, per_chunk = self._layout, self._grid.tokens_per_chunk
        start = layout.row(work.branch, work.chunk) * per_chunk
        some = due if isinstance(due, torch.Tensor) and work.branch != NEARLY_CLEAN else None
        if work.branch in (NEARLY_CLEAN, ALONE):
            attended = slice(start, start + per_chunk)
        else:
            first, end = self._seen(work, step, whole=some is None)
            attended = slice(layout.row(work.branch, first) * per_chunk, layout.row(work.branch, end) * per_chunk)
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
            due=some,
        )

    def _seen(self, work: Work, step: Step, *, whole: bool) -> KeyRange:
        """Chunks that the tokens of a work see; `whole` if all tokens of the chunk are computed."""
        return work.seen

    def _advance(self, task: Task, step: Step, velocities: Velocities, *, recorded: Task | None = None) -> None:
        """Move the latents of a chunk, and let the engine remember how; `recorded`: see `Engine.commit`."""
        chunk, frames = task.work.chunk, self._frames(task.work.chunk)
        now = to_patches(self.latents[:, frames])[None]
        if task.work.kv_only is not None:
            self._engine.commit(task, now, now)
            return
        count = step.counts[chunk - step.window.start]
        length = self._times[count + 1] - self._times[count]
        velocity = self._guide(chunk, self._times[count], task, velocities)[None]
        if self._reuse is not None and self._reuse.residual is Residual.velocity:
            whole = self._engine.commit(
                task,
                torch.zeros_like(now),
                velocity,
                moved=lambda update: now + update * length,
                recorded=recorded,
            )
            moved = now + whole * length
        else:
            start = now if task.due is True else now[:, task.indices().to(now.device)]
            moved = self._engine.commit(task, now, start + velocity * length, recorded=recorded)
        grid = self._grid
        self.latents[:, frames] = from_patches(moved[0], grid.chunk_frames, grid.height, grid.width)

    def _guide(self, chunk: int, t: float, task: Task, velocities: Velocities) -> torch.Tensor:
        """Join the branches of a chunk, `[due, values]`."""
        if task.due is False:
            return self.latents.new_zeros(0, 4 * len(self.latents))
        guidance = self._settings.guidance
        if guidance.distilled:
            velocity = velocities[TEXT, chunk]
            if (NEARLY_CLEAN, chunk) not in velocities:
                return velocity
            again = velocities[NEARLY_CLEAN, chunk]  # of all tokens
            again = again[task.due.to(again.device)] if isinstance(task.due, torch.Tensor) else again
            return guidance.nearly_clean_weight * velocity + (1 - guidance.nearly_clean_weight) * again
        scales = guidance.scales(t)
        guided = (scales.past - scales.text) * velocities[PAST, chunk]
        if scales.text != 0:
            guided = guided + scales.text * velocities[TEXT, chunk]
        if scales.past != 1:
            guided = guided + (1 - scales.past) * velocities[ALONE, chunk]
        return guided

    def _record(self, works: Sequence[Work], tasks: Sequence[Task]) -> None:
        """Take down what the branches beside the deciding one computed."""
        by_chunk = {task.work.chunk: task for task in tasks}
        for work in works:
            task = by_chunk[work.chunk]
            if work.branch != self._deciding and task.due is not False:
                self._engine.follow(
                    task,
                    branch=work.branch,
                    computed=self._grid.tokens_per_chunk if work.branch == NEARLY_CLEAN else task.computed,
                    attended=work.chunks_seen * self._grid.tokens_per_chunk,
                )

    def _frames(self, chunk: int) -> slice:
        return self._grid.chunk_of_frames(chunk)

    def _create_layout(self) -> Layout:
        return Layout(self._settings.schedule, branches_of(self._settings.guidance))

    def _allocate(self) -> KVCache:
        config = self._model.config
        return KVCache(
            layers=config.num_layers,
            batch=1,
            rows=self._layout.rows * self._grid.tokens_per_chunk,
            heads=config.num_query_groups,
            head_dim=config.kv_channels,
            dtype=config.dtype,
            device=self.latents.device,
        )

    def _forget(self, step: Step) -> None:
        """Free the keys and values that are no longer seen."""
        per_chunk = self._grid.tokens_per_chunk
        for rows, to in self._layout.slide(step.index, self._held):
            self._cache.copy(slice(rows.start * per_chunk, rows.stop * per_chunk), to * per_chunk)
        self._held = max(step.window.stop, (step.refresh or 0) + 1)

    def _copy(self, chunk: int, *, source: str, to: str) -> None:
        per_chunk = self._grid.tokens_per_chunk
        start = self._layout.row(source, chunk) * per_chunk
        self._cache.copy(slice(start, start + per_chunk), self._layout.row(to, chunk) * per_chunk)


def _chunks(step: Step) -> list[int]:
    return [*([] if step.refresh is None else [step.refresh]), *step.window]
