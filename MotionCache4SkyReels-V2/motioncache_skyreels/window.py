"""One window of a video: what the transformer does in place of its own forward."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import SkyReelsV2Transformer3DModel

from motioncache.engine import Engine, Task, Work
from motioncache.errors import MotionCacheError
from motioncache.grid import TokenGrid
from motioncache.kv_cache import KVCache
from motioncache.trace import Phase, WindowShape
from motioncache_skyreels.packed import Pack, Segment, TextContext, modulate
from motioncache_skyreels.schedule import Schedule
from motioncache_skyreels.step_distance import DistanceTable

BRANCHES = ("cond", "uncond")


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """What belongs to the latent frames of one model call, the same in both CFG branches.

    Attributes:
        embedded: patch embedding of each visited chunk, `[B, tokens_per_chunk, D]`.
        temb: time embedding, `[F, D]`.
        modulation: six modulation rows per latent frame, `[F, 6, D]`.
    """

    embedded: dict[int, torch.Tensor]
    temb: torch.Tensor
    modulation: torch.Tensor


class Window:
    """Runs the model calls of one window.

    From the second iteration on, both prompts are known: the call for `cond` computes `uncond` as well, and the call
    for `uncond` picks its result up.

    Args:
        distances: step distances of the schedule; empty for policies that need none.
        texts: prompts per branch, kept for the windows of one video; the window adds those that are missing.
        branches: `("cond", "uncond")` with classifier-free guidance, else `("cond",)`.
        causal: block-causal attention; False attends to the whole window.
        chunk_reuse: False computes all chunks of the window whenever anything is due.
        stale_modulation: modulate the selected tokens of a chunk with its first rows, as the published code does.
        keeps_velocity: what the engine keeps of a chunk is its velocity, and not the residual of the blocks; chunks are
            then computed whole or not at all.
    """

    def __init__(
        self,
        transformer: SkyReelsV2Transformer3DModel,
        engine: Engine,
        schedule: Schedule,
        distances: DistanceTable,
        *,
        texts: dict[str, TextContext],
        branches: tuple[str, ...],
        causal: bool,
        chunk_reuse: bool = True,
        stale_modulation: bool = False,
        keeps_velocity: bool = False,
    ) -> None:
        self._transformer = transformer
        self._engine = engine
        self._schedule = schedule
        self._distances = distances
        self._branches = branches
        self._causal = causal
        self._chunk_reuse = chunk_reuse
        self._stale_modulation = stale_modulation
        self._keeps_velocity = keeps_velocity
        self._texts = texts
        self._calls = dict.fromkeys(branches, 0)
        self._ahead: dict[str, torch.Tensor] = {}

    @property
    def finished(self) -> bool:
        """Whether every call of the window has been made."""
        return all(calls >= self._schedule.iterations for calls in self._calls.values())

    def forward(
        self,
        branch: str,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        fps: Sequence[int] | None,
    ) -> torch.Tensor:
        """Predicted velocity `[B, channels, F, height, width]`; frames that do not advance are zero.

        Args:
            branch: CFG branch of this call.
            hidden_states: latents of the whole window, `[B, channels, F, height, width]`.
            timestep: int64 `[B, F]`.
            encoder_hidden_states: prompt embeddings `[B, words, text_dim]`.
        """
        iteration = self._calls[branch]
        self._calls[branch] += 1
        self._hear(branch, encoder_hidden_states, first=iteration == 0)
        if branch in self._ahead:
            return self._ahead.pop(branch)
        if iteration == 0 and branch == self._branches[0]:
            self._allocate(hidden_states)
        together = self._branches if iteration > 0 else (branch,)
        outputs = self._compute(together, iteration, hidden_states, timestep, fps)
        self._ahead = {other: output for other, output in outputs.items() if other != branch}
        return outputs[branch]

    def _hear(self, branch: str, encoder_hidden_states: torch.Tensor, *, first: bool) -> None:
        """Take in a prompt the first time; it has to stay the same for the whole window."""
        known = self._texts.get(branch)
        if known is not None and known.source is encoder_hidden_states:
            return
        if first:
            embedded = self._transformer.condition_embedder.text_embedder(encoder_hidden_states)
            self._texts[branch] = TextContext(encoder_hidden_states, embedded)
        else:
            raise MotionCacheError(
                f"the prompt embeddings of the {branch} branch changed while a window was being sampled (a "
                "callback_on_step_end replaced them?); the cached keys and values belong to the old ones. "
                "Keep the embeddings for the whole call, or disable the cache"
            )

    def shape(self, hidden_states: torch.Tensor) -> WindowShape:
        """Of the window, from its latents."""
        _, _, frames, height, width = hidden_states.shape
        _, patch_height, patch_width = self._transformer.config.patch_size
        grid = TokenGrid(
            frames=frames,
            height=height // patch_height,
            width=width // patch_width,
            chunk_frames=self._schedule.chunk_frames,
        )
        return WindowShape(
            grid=grid, iterations=self._schedule.iterations, branches=self._branches, causal=self._causal
        )

    def _allocate(self, hidden_states: torch.Tensor) -> None:
        transformer, shape = self._transformer, self.shape(hidden_states)
        self._grid = shape.grid
        self._cache = KVCache(
            layers=len(transformer.blocks),
            batch=len(hidden_states),
            rows=len(self._branches) * self._grid.tokens,
            heads=transformer.config.num_attention_heads,
            head_dim=transformer.config.attention_head_dim,
            dtype=hidden_states.dtype,
            device=hidden_states.device,
        )
        self._rotary = transformer.rope(hidden_states)  # twice [1, T, 1, d]
        self._engine.start_window(shape)

    def _compute(
        self,
        branches: tuple[str, ...],
        iteration: int,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        fps: Sequence[int] | None,
    ) -> dict[str, torch.Tensor]:
        """Plan, run the due tokens through the blocks, commit, and apply the head: one output per branch."""
        tasks = self._engine.plan(self._works(branches, iteration))
        if not self._chunk_reuse:
            tasks = self._with_idle(tasks, branches, iteration)
        outputs = {branch: _zeros(hidden_states, self._transformer.config.out_channels) for branch in branches}
        forecast = [task for task in tasks if self._keeps_velocity and not task.computed]
        touched = [task for task in tasks if not self._keeps_velocity or task.computed]
        if touched:
            frames = self._embed(hidden_states, timestep, fps, sorted({task.work.chunk for task in touched}))
            for task, rows in zip(touched, self._run_blocks(touched, frames), strict=True):
                self._finish(task, rows, frames, outputs[task.work.branch])
        for task in forecast:
            output = outputs[task.work.branch][:, :, self._grid.chunk_of_frames(task.work.chunk)]
            output.copy_(self._engine.commit(task, output, output))  # zero, and what is forecast
        return outputs

    def _finish(self, task: Task, rows: torch.Tensor, frames: Frames, output: torch.Tensor) -> None:
        """Commit a task whose due tokens are known after the blocks, and write its chunk's velocity."""
        embedded = frames.embedded[task.work.chunk]
        where = self._grid.chunk_of_frames(task.work.chunk)
        if task.work.kv_only is not None:
            self._engine.commit(task, embedded, rows)
        elif self._keeps_velocity:
            velocity = self._head(rows, frames.temb[where])
            output[:, :, where] = self._engine.commit(task, torch.zeros_like(velocity), velocity)
        else:
            output[:, :, where] = self._head(self._engine.commit(task, embedded, rows), frames.temb[where])

    def _works(self, branches: tuple[str, ...], iteration: int) -> list[Work]:
        visits = self._schedule.visits(iteration)
        return [
            Work(
                branch=branch,
                chunk=visit.chunk,
                iteration=iteration,
                attended=self._attended(visit.chunk).stop,
                distance=self._distance(iteration, visit.chunk) if visit.kv_only is None else 0.0,
                kv_only=visit.kv_only,
            )
            for branch in branches
            for visit in visits
        ]

    def _with_idle(self, tasks: list[Task], branches: tuple[str, ...], iteration: int) -> list[Task]:
        """The whole window if it is due, else nothing but a chunk at its first step, which has nothing to reuse."""
        kept = [task for task in tasks if task.work.kv_only is not Phase.finished]
        if iteration > 0 and not any(task.computed and task.request.step > 0 for task in kept):
            return kept
        handled = {(task.work.branch, task.work.chunk) for task in kept}
        idle = [
            Work(
                branch=branch,
                chunk=chunk,
                iteration=iteration,
                attended=self._attended(chunk).stop,
                kv_only=Phase.idle,
            )
            for branch in branches
            for chunk in range(self._grid.chunks)
            if (branch, chunk) not in handled
        ]
        both = kept + self._engine.plan(idle)
        return sorted(both, key=lambda task: (branches.index(task.work.branch), task.work.chunk))

    def _attended(self, chunk: int) -> slice:
        """Tokens of the window that a chunk attends to."""
        return slice(0, self._grid.chunk_of_tokens(chunk).stop if self._causal else self._grid.tokens)

    def _distance(self, iteration: int, chunk: int) -> float | torch.Tensor:
        previous = self._schedule.previous_timesteps(iteration, chunk)
        if not self._distances or previous is None:
            return 0.0
        return self._distances[previous, self._schedule.chunk_timesteps(iteration, chunk)]

    def _embed(
        self, hidden_states: torch.Tensor, timestep: torch.Tensor, fps: Sequence[int] | None, chunks: list[int]
    ) -> Frames:
        """Patch and time embedding of the visited chunks, in the arithmetic of the transformer's own forward."""
        transformer = self._transformer
        visited = torch.cat([hidden_states[:, :, self._grid.chunk_of_frames(chunk)] for chunk in chunks], dim=2)
        tokens = transformer.patch_embedding(visited).flatten(2).transpose(1, 2)
        some_text = next(iter(self._texts.values())).source[:, :0]  # gives the dtype; the text is embedded in `_hear`
        temb, modulation, _, _ = transformer.condition_embedder(timestep[0], some_text, None)
        modulation = modulation.unflatten(-1, (6, -1))  # [F, 6, D]
        if transformer.config.inject_sample_info:
            if fps is None:
                raise MotionCacheError("this model was trained with frame rates: pass fps")
            index = torch.tensor([fps[0]], device=hidden_states.device)
            modulation = modulation + transformer.fps_projection(transformer.fps_embedding(index)).unflatten(1, (6, -1))
        split = tokens.split(self._grid.tokens_per_chunk, dim=1)
        return Frames(embedded=dict(zip(chunks, split, strict=True)), temb=temb, modulation=modulation)

    def _run_blocks(self, tasks: Sequence[Task], frames: Frames) -> list[torch.Tensor]:
        """The due tokens of every task after the blocks; no block is called when nothing is due."""
        device = next(iter(frames.embedded.values())).device
        within = [task.indices() for task in tasks]
        rows = []
        for task, indices in zip(tasks, within, strict=True):
            embedded = frames.embedded[task.work.chunk]
            whole = task.due is True
            rows.append(embedded if whole else embedded.index_select(1, indices.to(device, non_blocking=True)))
        hidden = torch.cat(rows, dim=1)
        if hidden.shape[1] == 0:
            return rows
        pack = self._pack(tasks, within, frames, device)
        for layer, block in enumerate(self._transformer.blocks):
            hidden = block(hidden, pack, layer)
        return list(hidden.split([task.computed for task in tasks], dim=1))

    def _pack(self, tasks: Sequence[Task], within: list[torch.Tensor], frames: Frames, device: torch.device) -> Pack:
        grid = self._grid
        offsets = {branch: i * grid.tokens for i, branch in enumerate(self._branches)}
        positions, cache_rows, modulated, segments = [], [], [], []
        stop = 0
        for task, indices in zip(tasks, within, strict=True):
            if not task.computed:
                continue
            first, offset = grid.chunk_of_tokens(task.work.chunk).start, offsets[task.work.branch]
            positions.append(first + indices)
            cache_rows.append(offset + first + indices)
            stale = self._stale_modulation and task.due is not True
            modulated.append(first + (torch.arange(len(indices)) if stale else indices))
            start, stop = stop, stop + task.computed
            seen = self._attended(task.work.chunk)
            attended = slice(offset + seen.start, offset + seen.stop)
            segments.append(Segment(branch=task.work.branch, start=start, stop=stop, attended=attended))
        row_frames = torch.cat(modulated) // grid.tokens_per_frame
        if all(task.due is True for task in tasks if task.computed):
            row_frames = row_frames[:: grid.tokens_per_frame]  # whole latent frames: one row of the table for each
        position = torch.cat(positions).to(device, non_blocking=True)
        cos, sin = (table.index_select(1, position) for table in self._rotary)
        return Pack(
            segments=segments,
            cache=self._cache,
            cache_rows=torch.cat(cache_rows).to(device, non_blocking=True),
            rotary=(cos[..., 0::2], sin[..., 1::2]),
            modulation=frames.modulation,
            frames=row_frames.to(device, non_blocking=True),
            texts=self._texts,
        )

    def _head(self, hidden: torch.Tensor, temb: torch.Tensor) -> torch.Tensor:
        """Output norm, projection, unpatching of one chunk: `[B, tokens, D]` -> `[B, channels, f, height, width]`."""
        transformer, grid = self._transformer, self._grid
        shift, scale = (transformer.scale_shift_table + temb[:, None]).unbind(1)  # [f, D]
        frames = torch.arange(len(temb), device=hidden.device)
        normed = modulate(transformer.norm_out(hidden.float()), shift, scale, frames).type_as(hidden)
        _, patch_height, patch_width = transformer.config.patch_size
        patches = transformer.proj_out(normed).unflatten(2, (patch_height, patch_width, -1))
        patches = patches.unflatten(1, (len(temb), grid.height, grid.width))  # [B, f, rows, columns, p_h, p_w, C]
        return patches.permute(0, 6, 1, 2, 4, 3, 5).flatten(5, 6).flatten(3, 4)


def _zeros(hidden_states: torch.Tensor, channels: int) -> torch.Tensor:
    batch, _, *size = hidden_states.shape
    return hidden_states.new_zeros(batch, channels, *size)
