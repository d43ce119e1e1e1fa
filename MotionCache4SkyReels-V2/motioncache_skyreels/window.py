"""One window of a video: what the transformer does in place of its own forward."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from diffusers import SkyReelsV2Transformer3DModel

from motioncache.changes import version_of
from motioncache.decision import Call, Decision
from motioncache.engine import Engine
from motioncache.errors import MotionCacheError
from motioncache.kv_store import KVStore
from motioncache.record import Phase, WindowShape
from motioncache_skyreels.packed import Pack, Segment, TextContext, apply_head, due_rows
from motioncache_skyreels.schedule import Visit

BRANCHES = ("cond", "uncond")


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """What belongs to the latent frames of one model call, the same in both CFG branches."""

    embedded: dict[int, torch.Tensor]  # by visited chunk, [B, tokens_per_chunk, D]
    temb: torch.Tensor  # time embedding, [F, D]
    modulation: torch.Tensor  # six rows per latent frame, [F, 6, D]


class Window:
    """Runs the model calls of one window.

    From the second iteration on, both prompts are known: the call for `cond` computes `uncond` as well, and the call
    for `uncond` picks its result up. What a callback changes in between is noticed: clean chunks whose keys and values
    no longer hold are computed once more, and where a policy would reuse outputs that no longer hold, it is refused.

    Args:
        visits: the chunks to handle at each iteration.
        guided: whether classifier-free guidance is on; a callback may switch it at any iteration.
        cache: keeps keys and values; its rows are the tokens of the window, branch after branch.
        rotary: tables of cosines and sines, `[1, T, 1, d]` each.
        texts: prompts per branch, kept for the windows of one video; the window adds those that are missing.
        keeps_velocity: the engine keeps a chunk's velocities, and not the residuals of the blocks; chunks are then
            computed whole or not at all.
        split_guidance: run the CFG branches through the blocks one after another.
    """

    def __init__(
        self,
        transformer: SkyReelsV2Transformer3DModel,
        engine: Engine,
        visits: Sequence[Sequence[Visit]],
        shape: WindowShape,
        *,
        guided: Callable[[], bool],
        cache: KVStore,
        rotary: tuple[torch.Tensor, torch.Tensor],
        texts: dict[str, TextContext],
        keeps_velocity: bool = False,
        split_guidance: bool = False,
    ) -> None:
        self._transformer = transformer
        self._engine = engine
        self._visits = visits
        self.grid = shape.grid
        self._guided = guided
        self._causal = shape.causal
        self._cache = cache
        self._rotary = rotary
        self._positions = torch.arange(shape.grid.tokens, device=rotary[0].device)
        self._texts = texts
        self._keeps_velocity = keeps_velocity
        self._split_guidance = split_guidance
        self._cached = BRANCHES  # the branches whose keys and values are in the cache, one after another
        self._iteration = -1
        self._called: dict[str, int] = {}  # the last iteration at which the pipeline asked for a branch
        self._kept: dict[str, int] = {}  # the last iteration at which a branch was computed
        self._stale: set[str] = set()  # branches whose clean chunks have to be computed once more
        self._ahead: dict[str, torch.Tensor] = {}
        self._input: tuple[torch.Tensor, int] | None = None

    @property
    def finished(self) -> bool:
        """Whether every call of the window has been made."""
        last = len(self._visits) - 1
        return all(self._called.get(branch) == last for branch in self._active())

    def latents_changed(self) -> None:
        """Somebody has changed latents of chunks that may be clean: their keys and values no longer hold."""
        self._stale.update(BRANCHES)

    def weights_changed(self) -> None:
        """Somebody has changed weights: of what has been computed, nothing holds."""
        self._require_exact("the weights or adapters of the transformer changed")
        self._texts.clear()
        self._called.clear()
        self._stale.update(BRANCHES)

    def _active(self) -> tuple[str, ...]:
        """The branches that the pipeline runs at this iteration."""
        return BRANCHES if self._guided() else BRANCHES[:1]

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
            encoder_hidden_states: prompt embeddings `[B, text_length, text_dim]`.
        """
        if branch == BRANCHES[0]:
            self._iteration += 1
            self._ahead = {}
        self._embed_text(branch, encoder_hidden_states)
        together = self._together(branch, hidden_states)
        if branch not in self._ahead:
            outputs = self._compute(together, self._iteration, hidden_states, timestep, fps)
            self._ahead.update(outputs)
        self._called[branch] = self._iteration
        return self._ahead.pop(branch)

    def _embed_text(self, branch: str, encoder_hidden_states: torch.Tensor) -> None:
        """Embed a branch's prompt where it is not known yet."""
        text, version = self._texts.get(branch), version_of(encoder_hidden_states)
        if text is not None and text.source is encoder_hidden_states and text.version == version:
            return
        if branch in self._called:
            self._require_exact(f"the prompt embeddings of the {branch} branch changed")
            self._ahead.pop(branch, None)
            self._stale.add(branch)
        embedded = self._transformer.condition_embedder.text_embedder(encoder_hidden_states)
        self._texts[branch] = TextContext(encoder_hidden_states, version, embedded)

    def _together(self, branch: str, hidden_states: torch.Tensor) -> tuple[str, ...]:
        """The branches to compute in the call for one of them: all whose prompts this window has seen."""
        if branch == BRANCHES[0]:
            self._input = (hidden_states, version_of(hidden_states))
            return tuple(b for b in self._active() if b == branch or b in self._called)
        if branch in self._ahead and not self._is_input(hidden_states):
            self._require_exact(f"the latents of the {branch} branch are not those of the {BRANCHES[0]} branch")
            del self._ahead[branch]
            self._stale.add(branch)
        return (branch,)

    def _is_input(self, hidden_states: torch.Tensor) -> bool:
        """Whether the latents are those of the iteration's first call; only copies are compared value by value."""
        assert self._input is not None
        first, version = self._input
        if version_of(first) != version:
            return False
        return hidden_states is first or torch.equal(hidden_states, first)

    def _require_exact(self, change: str) -> None:
        if self._engine.policy.history:
            raise MotionCacheError(
                f"{change} while a window was being sampled (by a callback_on_step_end?), and what the cache reuses "
                "belongs to the old ones. Leave them as they are for the whole call, or use the preset `exact`"
            )

    def _compute(
        self,
        branches: tuple[str, ...],
        iteration: int,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        fps: Sequence[int] | None,
    ) -> dict[str, torch.Tensor]:
        """Decide, run the due tokens through the blocks, complete the chunks, apply the head: one output per branch."""
        decisions = self._decide(branches, iteration)
        batch, _, *size = hidden_states.shape
        channels = self._transformer.config.out_channels
        outputs = {branch: hidden_states.new_zeros(batch, channels, *size) for branch in branches}
        in_model = [decision for decision in decisions if decision.computed or not self._keeps_velocity]
        if in_model:
            frames = self._embed(hidden_states, timestep, fps, sorted({d.call.chunk for d in in_model}))
            for part in self._passes(in_model):
                for decision, rows in zip(part, self._run_blocks(part, frames), strict=True):
                    self._finish(decision, rows, frames, outputs[decision.call.branch])
        for decision in decisions:
            if self._keeps_velocity and not decision.computed:
                self._forecast(decision, outputs[decision.call.branch])
        return outputs

    def _passes(self, decisions: list[Decision]) -> list[list[Decision]]:
        """What runs through the blocks side by side."""
        if not self._split_guidance:
            return [decisions]
        return [list(part) for _, part in groupby(decisions, key=lambda decision: decision.call.branch)]

    def _decide(self, branches: tuple[str, ...], iteration: int) -> list[Decision]:
        return self._engine.decide(
            [
                Call(
                    branch=branch,
                    chunk=visit.chunk,
                    step=visit.step,
                    iteration=iteration,
                    tokens=self.grid.tokens_per_chunk,
                    attended=self._attended(visit.chunk).stop,
                    distance=visit.distance,
                    kv_only=visit.kv_only,
                )
                for branch in branches
                for visit in self._visits_of(branch, iteration)
            ]
        )

    def _visits_of(self, branch: str, iteration: int) -> Sequence[Visit]:
        """The chunks of a branch to handle: with those that are clean, if their keys and values do not hold."""
        visits = self._visits[iteration]
        missed = self._kept.get(branch, -1) != iteration - 1
        if missed:
            self._require_exact(f"guidance was off, and the {branch} branch not computed,")
        self._kept[branch] = iteration
        if not (missed or branch in self._stale):
            return visits
        self._stale.discard(branch)
        handled = {visit.chunk for visit in visits}
        clean = {visit.chunk for row in self._visits[:iteration] for visit in row} - handled
        again = [Visit(chunk=chunk, step=-1, timesteps=(), kv_only=Phase.finished) for chunk in clean]
        return sorted([*visits, *again], key=lambda visit: visit.chunk)

    def _attended(self, chunk: int) -> slice:
        """Tokens of the window that a chunk attends to."""
        return slice(0, self.grid.chunk_of_tokens(chunk).stop if self._causal else self.grid.tokens)

    def _finish(self, decision: Decision, rows: torch.Tensor, frames: Frames, output: torch.Tensor) -> None:
        """Commit a chunk whose due tokens have gone through the blocks, and write its velocity."""
        chunk, engine = decision.call.chunk, self._engine
        where = self.grid.chunk_of_frames(chunk)
        if self._keeps_velocity and decision.call.kv_only is None:
            velocity = apply_head(self._transformer, self.grid, rows, frames.temb[where])
            output[:, :, where] = engine.complete(decision, torch.zeros_like(velocity), velocity)
            engine.commit(decision, output[:, :, where])
            return
        hidden = engine.complete(decision, frames.embedded[chunk], rows)
        engine.commit(decision, hidden)
        if decision.call.kv_only is None:
            output[:, :, where] = apply_head(self._transformer, self.grid, hidden, frames.temb[where])

    def _forecast(self, decision: Decision, output: torch.Tensor) -> None:
        """Write the velocity of a chunk that the model does not see."""
        zero = output[:, :, self.grid.chunk_of_frames(decision.call.chunk)]
        velocity = self._engine.complete(decision, zero, zero)
        self._engine.commit(decision, velocity)
        zero.copy_(velocity)

    def _embed(
        self, hidden_states: torch.Tensor, timestep: torch.Tensor, fps: Sequence[int] | None, chunks: list[int]
    ) -> Frames:
        """Patch and time embedding of the visited chunks, in the arithmetic of the transformer's own forward."""
        transformer = self._transformer
        visited = torch.cat([hidden_states[:, :, self.grid.chunk_of_frames(chunk)] for chunk in chunks], dim=2)
        tokens = transformer.patch_embedding(visited).flatten(2).transpose(1, 2)
        no_text = self._texts[BRANCHES[0]].source[:, :0]  # gives the dtype; texts are embedded by themselves
        temb, modulation, _, _ = transformer.condition_embedder(timestep[0], no_text, None)
        modulation = modulation.unflatten(-1, (6, -1))  # [F, 6, D]
        if transformer.config.inject_sample_info:
            if fps is None:
                raise MotionCacheError("this model was trained with frame rates: pass fps")
            index = torch.full((1,), fps[0], device=hidden_states.device)  # a kernel, where a list would be copied
            modulation = modulation + transformer.fps_projection(transformer.fps_embedding(index)).unflatten(1, (6, -1))
        split = tokens.split(self.grid.tokens_per_chunk, dim=1)
        return Frames(embedded=dict(zip(chunks, split, strict=True)), temb=temb, modulation=modulation)

    def _run_blocks(self, decisions: Sequence[Decision], frames: Frames) -> list[torch.Tensor]:
        """The due tokens of every chunk after the blocks; no block is called when nothing is due."""
        computed = [decision for decision in decisions if decision.computed]
        if not computed:
            return [frames.embedded[decision.call.chunk][:, :0] for decision in decisions]
        pack = self._pack(computed, frames)
        rows = (due_rows(frames.embedded[decision.call.chunk], decision) for decision in computed)
        hidden = self._through_blocks(torch.cat([*rows], dim=1), pack)  # which nothing else holds
        return list(hidden.split([decision.computed for decision in decisions], dim=1))

    def _through_blocks(self, hidden: torch.Tensor, pack: Pack) -> torch.Tensor:
        for layer, block in enumerate(self._transformer.blocks):
            hidden = block(hidden, pack, layer)
        return hidden

    def _pack(self, decisions: Sequence[Decision], frames: Frames) -> Pack:
        grid = self.grid
        positions, cache_rows, segments, stop = [], [], [], 0
        for decision in decisions:
            branch, chunk = decision.call.branch, decision.call.chunk
            offset = self._cached.index(branch) * grid.tokens  # where the branch begins in the KV cache
            position = self._positions[grid.chunk_of_tokens(chunk)]
            if decision.due is not True:
                position = position.index_select(0, decision.indices_on(position.device))
            positions.append(position)
            cache_rows.append(offset + position)
            start, stop = stop, stop + decision.computed
            segments.append(
                Segment(
                    branch=branch,
                    start=start,
                    stop=stop,
                    chunk=_shifted(grid.chunk_of_tokens(chunk), offset),
                    attended=_shifted(self._attended(chunk), offset),
                    clean=decision.call.kv_only is not None,
                )
            )
        position = torch.cat(positions)
        row_frames = position // grid.tokens_per_frame
        if all(decision.due is True for decision in decisions):
            row_frames = row_frames[:: grid.tokens_per_frame]  # whole latent frames: one row of the table for each
        cos, sin = (table.index_select(1, position) for table in self._rotary)
        return Pack(
            segments=segments,
            cache=self._cache,
            cache_rows=torch.cat(cache_rows),
            rotary=(cos[..., 0::2], sin[..., 1::2]),
            modulation=frames.modulation,
            frames=row_frames,
            texts=self._texts,
        )


def _shifted(rows: slice, offset: int) -> slice:
    return slice(offset + rows.start, offset + rows.stop)
