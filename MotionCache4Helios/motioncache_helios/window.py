"""One chunk of a video, from noise to clean: what the transformer does in place of its own forward."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import HeliosTransformer3DModel

from motioncache.decision import Call, Decision
from motioncache.engine import Engine
from motioncache.errors import MotionCacheError
from motioncache.kv_cache import KVCache
from motioncache.record import WindowShape
from motioncache_helios.blocks import Rotary, Rows, Text, run_blocks
from motioncache_helios.embedding import History, embed_chunk, embed_history, embed_time, head, rotary_tables

BRANCHES = ("cond", "uncond")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The denoise steps of a chunk.

    Attributes:
        sigmas: the noise level of each.
        distances: the step distance since the one before; 0 at the first.
    """

    sigmas: tuple[float, ...]
    distances: tuple[float, ...]


class Window:
    """Runs the model calls of one chunk, which is a window of its own: nothing of it is left for the next.

    Both CFG branches are decided together, at the call for the first, and each is computed when the pipeline asks for
    it. Whatever is due, the tokens of the history are computed with it, since they attend to the chunk.

    Args:
        follows: whether the history shows something, and not zeros.
        guided: whether classifier-free guidance is on; a callback may switch it at any step.
        allocate: makes room for keys and values of the chunk; None where chunks are computed whole or not at all.
        keeps_velocity: the engine keeps a chunk's velocities, and not the residuals of the blocks.
    """

    def __init__(
        self,
        transformer: HeliosTransformer3DModel,
        engine: Engine,
        schedule: Schedule,
        shape: WindowShape,
        history: History,
        *,
        follows: bool,
        guided: Callable[[], bool],
        allocate: Callable[[], KVCache] | None,
        keeps_velocity: bool,
    ) -> None:
        self._transformer = transformer
        self._engine = engine
        self._schedule = schedule
        self._grid = shape.grid
        self._history = history
        self._follows = follows
        self._guided = guided
        self._allocate = allocate
        self._keeps_velocity = keeps_velocity
        self._step = -1
        self._decisions: dict[str, Decision] = {}
        self._computed: dict[str, int] = {}  # the last step at which a branch was handled
        self._kept: dict[str, KVCache] = {}
        self._before: tuple[torch.Tensor, Rotary] | None = None

    @property
    def finished(self) -> bool:
        """Whether every call of the chunk has been made."""
        return self._step == len(self._schedule.sigmas) - 1 and not self._decisions

    def inputs_changed(self, change: str) -> None:
        """Somebody has changed weights or a prompt: of what has been computed, nothing holds.

        Raises:
            MotionCacheError: where the policy would reuse outputs that no longer hold.
        """
        if self._engine.policy.history and self._step >= 0:
            raise MotionCacheError(
                f"{change} while a chunk was being sampled (by a callback_on_step_end?), and what the cache reuses "
                "belongs to the old ones. Leave them as they are for the whole call, or use the preset `exact`"
            )
        self._before = None

    def forward(self, branch: str, latents: torch.Tensor, timestep: torch.Tensor, text: Text) -> torch.Tensor:
        """Predicted velocity `[B, channels, frames, height, width]` of the chunk's latents, of the same shape.

        Args:
            timestep: `[B]`.
        """
        if branch == BRANCHES[0]:
            self._step += 1
            self._decisions = self._decide()
        decision = self._decisions.pop(branch)
        if self._keeps_velocity and not decision.computed:
            nothing = torch.zeros_like(latents)
            return self._commit_velocity(decision, nothing, nothing)
        embedded = embed_chunk(self._transformer, latents)
        temb, modulation = embed_time(self._transformer, timestep, text.embedded)
        due = self._due_rows(embedded, decision)
        rows = self._run_blocks(decision, due, modulation, text) if decision.computed else due
        if self._keeps_velocity:
            velocity = head(self._transformer, rows, temb, self._grid)
            return self._commit_velocity(decision, torch.zeros_like(velocity), velocity)
        hidden = self._engine.complete(decision, embedded, rows)
        self._engine.commit(decision, hidden)
        return head(self._transformer, hidden, temb, self._grid)

    def _decide(self) -> dict[str, Decision]:
        """The decisions of this step, for all branches that the pipeline runs."""
        branches = BRANCHES if self._guided() else BRANCHES[:1]
        for branch in branches:
            if self._computed.get(branch, -1) != self._step - 1:
                self.inputs_changed(f"guidance was off, and the {branch} branch not computed,")
            self._computed[branch] = self._step
        calls = [
            Call(
                branch=branch,
                chunk=0,
                step=self._step,
                iteration=self._step,
                tokens=self._grid.tokens,
                attended=self._grid.tokens,
                distance=self._schedule.distances[self._step],
            )
            for branch in branches
        ]
        return {decision.call.branch: decision for decision in self._engine.decide(calls)}

    def _commit_velocity(self, decision: Decision, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        velocity = self._engine.complete(decision, before, after)
        self._engine.commit(decision, velocity)
        return velocity

    def _due_rows(self, embedded: torch.Tensor, decision: Decision) -> torch.Tensor:
        """The due tokens of the chunk, `[B, due, D]`."""
        if decision.due is True:
            return embedded
        return embedded.index_select(1, decision.indices_on(embedded.device))

    def _run_blocks(
        self, decision: Decision, due: torch.Tensor, modulation: tuple[torch.Tensor, torch.Tensor], text: Text
    ) -> torch.Tensor:
        """The due tokens after the blocks, `[B, due, D]`; the policy sees the latent frame before them."""
        tokens, rotary = self._embed_before(due.device)
        history, places = tokens.shape[1], decision.indices_on(due.device)
        if decision.due is not True:
            row = torch.cat([torch.arange(history, device=due.device), history + places])
            rotary = (rotary[0].index_select(1, row), rotary[1].index_select(1, row))
        rows = Rows(
            history=history,
            rotary=rotary,
            modulation=modulation,
            text=text,
            kept=self._keys_values(decision.call.branch),
            due=places,
        )
        hidden = run_blocks(self._transformer, torch.cat([tokens, due], dim=1), rows)
        if self._follows and not self._keeps_velocity:
            self._engine.see_before(decision.call.branch, hidden[:, :history])
        return hidden[:, history:]

    def _embed_before(self, device: torch.device) -> tuple[torch.Tensor, Rotary]:
        """Tokens of the history `[B, h, D]` and the tables of all rows, made once for the chunk."""
        if self._before is None:
            tokens = embed_history(self._transformer, self._history)
            self._before = tokens, rotary_tables(self._transformer, self._history, self._grid, device)
        return self._before

    def _keys_values(self, branch: str) -> KVCache | None:
        if self._allocate is not None and branch not in self._kept:
            self._kept[branch] = self._allocate()
        return self._kept.get(branch)
