"""Emulates a variation of `forecast` on SkyReels-V2: one window, and what each of its model calls would give.

The stock transformer computes all tokens of a call. Hooks then replace what the variation would not have computed by
what it would have reused. So the videos are those that the variation would make, its FLOPs are counted from what it
would have computed, and the times mean nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from diffusers import SkyReelsV2Transformer3DModel
from token_scores import SELECTORS, Chunk, Seen
from variation import Variation, active_chunks

from motioncache.forecast.prediction import Forecast
from motioncache.forecast.profile import WindowProfile
from motioncache.grid import TokenGrid

BRANCHES = (0, 1)
"""The branches of guidance, cond and uncond, in the order of the pipeline's calls."""

KEPT = 3
"""How many velocities are kept of a token."""


class Trial:
    """Takes the place of a transformer's forward for one window."""

    def __init__(
        self,
        transformer: SkyReelsV2Transformer3DModel,
        variation: Variation,
        profile: WindowProfile,
        forecast: Forecast,
        planned: tuple[bool, ...],
        grid: TokenGrid,
    ) -> None:
        self._transformer, self._variation = transformer, variation
        self._profile, self._forecast, self._planned, self._grid = profile, forecast, planned, grid
        self._chunks: dict[int, Chunk] = {}
        self._due = torch.ones(grid.tokens, dtype=torch.bool)
        self._calls = self._computed_iterations = 0
        # By branch and layer: what the blocks before the layer added to each token. With `stale` keys also, by branch,
        # layer and part: its keys and values.
        self._layers: dict[tuple[Any, ...], torch.Tensor] = {}
        self._embedded = torch.empty(0)
        self._hidden = torch.empty(0)
        self._residuals: dict[tuple[int, int], list[torch.Tensor]] = {}

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Answer the pipeline's calls inside the block."""
        transformer, handles = self._transformer, []
        for layer, block in enumerate(transformer.blocks):
            handles.append(block.register_forward_pre_hook(partial(self._enter, layer)))
            for part in ("norm_k", "to_v"):
                handles.append(getattr(block.attn1, part).register_forward_hook(partial(self._keys, layer, part)))
        handles.append(transformer.blocks[-1].register_forward_hook(self._leave))
        transformer.forward = self._forward
        try:
            yield
        finally:
            del transformer.forward
            for handle in handles:
                handle.remove()

    def _forward(self, hidden_states: torch.Tensor, timestep: torch.Tensor, **named: Any) -> Any:
        iteration, branch = divmod(self._calls, len(BRANCHES))
        self._calls += 1
        self._iteration = iteration
        call = partial(self._compute, branch, hidden_states, timestep=timestep, **named)
        if branch == 0:
            self._decide(iteration, hidden_states, call)
        velocity = self._forecast_all(iteration, branch)
        if branch == 1 and self._skips_uncond(iteration):
            velocity = self._follow_cond(iteration, velocity)
        elif self._planned[iteration] or self._variation.tokens:
            computed = call()
            self._keep_all(iteration, branch, computed)
            velocity = torch.where(self._due[:, None], computed, velocity)
        elif self._variation.hidden:
            velocity = call()
        self._computed_iterations += self._planned[iteration] and branch == 1
        return (self._latents(velocity, hidden_states),)

    def _skips_uncond(self, iteration: int) -> bool:
        """Whether the uncond branch of a planned iteration follows the cond branch."""
        may_skip = self._planned[iteration] and iteration not in self._profile.starts
        return may_skip and self._computed_iterations % self._variation.uncond_every != 0

    def _decide(self, iteration: int, latents: torch.Tensor, call: Callable[[], torch.Tensor]) -> None:
        """Choose the tokens of the window that count as computed."""
        self._due = torch.ones(self._grid.tokens, dtype=torch.bool)
        if self._planned[iteration] or not self._variation.tokens:
            return
        kept, truth = dict(self._layers), None
        if self._variation.selector == "oracle":
            truth, self._layers = call(), kept
        for chunk, seen in self._look(iteration, latents, truth):
            score = SELECTORS[self._variation.selector](seen)
            if self._variation.age:
                score = score * (iteration - self._profile.starts[chunk] - seen.state.computed[0])
            chosen = score.topk(round(self._variation.tokens * len(score))).indices
            due = torch.zeros(len(score), dtype=torch.bool).index_fill(0, chosen, True)
            self._due[self._grid.chunk_of_tokens(chunk)] = due

    def _look(self, iteration: int, latents: torch.Tensor, truth: torch.Tensor | None) -> Iterator[tuple[int, Seen]]:
        """What a selector may look at in each active chunk."""
        forecast = self._forecast_all(iteration, 0)
        clean = self._predicted(iteration, latents, forecast)
        for chunk in active_chunks(self._profile, iteration):
            where = self._grid.chunk_of_tokens(chunk)
            yield (
                chunk,
                Seen(
                    grid=self._grid,
                    frames=self._grid.chunk_of_frames(chunk),
                    state=self._chunks[chunk],
                    before=self._chunks.get(chunk - 1),
                    clean=clean,
                    latents=self.tokens(latents).unflatten(0, (self._grid.frames, -1)),
                    forecast=forecast[where],
                    truth=None if truth is None else truth[where],
                ),
            )

    def _compute(self, branch: int, latents: torch.Tensor, **named: Any) -> torch.Tensor:
        """Velocities of all tokens, `[tokens, values]`; those of tokens that are not due mean nothing."""
        self._branch = branch
        stock = type(self._transformer).forward
        output = stock(self._transformer, latents, **{**named, "return_dict": False})[0]
        return self.tokens(output)

    def _enter(self, layer: int, block: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Before a block: put back what the blocks before it added last time to each token that is not due."""
        hidden = inputs[0]
        if layer == 0:
            self._embedded = hidden
        key = (self._branch, layer)
        if key in self._layers and self._variation.keys == "fresh":
            hidden = torch.where(self._due[:, None], hidden, self._embedded + self._layers[key])
        self._layers[key] = hidden - self._embedded
        return (hidden, *inputs[1:])

    def _keys(self, layer: int, part: str, module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        """After a projection to keys or values: put back the last ones of each token that is not due."""
        if self._variation.keys == "fresh":
            return output
        key = (self._branch, layer, part)
        if key in self._layers:
            output = torch.where(self._due[:, None], output, self._layers[key])
        self._layers[key] = output
        return output

    def _leave(self, block: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        """After the blocks: keep what they added, or replace it by its forecast."""
        if self._variation.hidden:
            for chunk in active_chunks(self._profile, self._iteration):
                self._keep_or_forecast_residual(chunk, self._embedded[0], output[0])
        if self._branch == 0:
            self._hidden = output[0]
        return output

    def _keep_or_forecast_residual(self, chunk: int, embedded: torch.Tensor, hidden: torch.Tensor) -> None:
        """The residual is what the blocks added to the chunk's tokens; a forecast is written into `hidden`."""
        where, key = self._grid.chunk_of_tokens(chunk), (self._branch, chunk)
        kept = self._residuals.get(key, [])
        if self._planned[self._iteration]:
            self._residuals[key] = [hidden[where] - embedded[where], *kept][:KEPT]
            return
        known = [step for step in self._chunks[chunk].computed[: self._forecast.order, 0].tolist() if step >= 0]
        coefficients = self._forecast.coefficients(self._iteration - self._profile.starts[chunk], known)
        forecast = sum(share * residual for share, residual in zip(coefficients, kept, strict=False))
        hidden[where] = embedded[where] + forecast

    def _keep_all(self, iteration: int, branch: int, velocity: torch.Tensor) -> None:
        """Keep the velocities of the tokens that are due, and the hidden states of the cond branch."""
        for chunk in active_chunks(self._profile, iteration):
            where, step = self._grid.chunk_of_tokens(chunk), iteration - self._profile.starts[chunk]
            self._keep(chunk, branch, step, velocity[where], self._due[where])
            if branch == 0:
                self._chunks[chunk].hidden = self._hidden[where].unflatten(0, (self._grid.chunk_frames, -1))

    def _keep(self, chunk: int, branch: int, step: int, velocity: torch.Tensor, due: torch.Tensor) -> None:
        """Keep the velocities of a chunk's tokens that are due, `[tokens, values]`."""
        if step == 0 and branch == 0:
            nothing = torch.full((KEPT, len(velocity)), -1)
            self._chunks[chunk] = Chunk(velocities={b: velocity.repeat(KEPT, 1, 1) for b in BRANCHES}, computed=nothing)
        state = self._chunks[chunk]
        moved = torch.cat([velocity[None], state.velocities[branch][:-1]])
        state.velocities[branch] = torch.where(due[:, None], moved, state.velocities[branch])
        if branch == 1:  # the second of the two calls
            steps = torch.cat([torch.full_like(state.computed[:1], step), state.computed[:-1]])
            state.computed = torch.where(due, steps, state.computed)

    def _follow_cond(self, iteration: int, velocity: torch.Tensor) -> torch.Tensor:
        """Take uncond to differ from the new velocity of cond by as much as from cond's last one."""
        for chunk in active_chunks(self._profile, iteration):
            state, step = self._chunks[chunk], iteration - self._profile.starts[chunk]
            now, before = state.velocities[0][:2]
            velocity[self._grid.chunk_of_tokens(chunk)] = followed = now + state.velocities[1][0] - before
            self._keep(chunk, 1, step, followed, torch.ones(len(now), dtype=torch.bool))
        return velocity

    def _forecast_all(self, iteration: int, branch: int) -> torch.Tensor:
        """Forecast every active token that has been computed before, `[tokens, values]`; the others are 0."""
        values = self._transformer.config.out_channels * 4
        result = torch.zeros(self._grid.tokens, values)
        for chunk in active_chunks(self._profile, iteration):
            step = iteration - self._profile.starts[chunk]
            if chunk in self._chunks and step > 0:
                result[self._grid.chunk_of_tokens(chunk)] = self._forecast_chunk(self._chunks[chunk], step, branch)
        return result

    def _forecast_chunk(self, state: Chunk, step: int, branch: int) -> torch.Tensor:
        """Forecast every token of a chunk from the steps at which it was computed, `[tokens, values]`."""
        result = torch.zeros_like(state.velocities[branch][0])
        computed = state.computed[: self._forecast.order].T  # [tokens, order]
        for steps in computed.unique(dim=0):
            coefficients = self._forecast.coefficients(step, [known for known in steps.tolist() if known >= 0])
            guess = sum(share * v for share, v in zip(coefficients, state.velocities[branch], strict=False))
            result = torch.where((computed == steps).all(1)[:, None], guess, result)
        return result

    def _predicted(self, iteration: int, latents: torch.Tensor, forecast: torch.Tensor) -> torch.Tensor:
        """The clean latents that the cond branch predicts, `[frames, tokens_per_frame, values]`."""
        sigma = torch.zeros(self._grid.tokens, 1)
        for chunk in active_chunks(self._profile, iteration):
            sigma[self._grid.chunk_of_tokens(chunk)] = self._profile.sigmas[iteration - self._profile.starts[chunk]]
        return (self.tokens(latents) - sigma * forecast).unflatten(0, (self._grid.frames, -1))

    def tokens(self, latents: torch.Tensor) -> torch.Tensor:
        """Cut latents into tokens, `[1, channels, frames, height, width]` to `[tokens, values]`."""
        grid = self._grid
        cut = latents[0].unflatten(3, (grid.width, -1)).unflatten(2, (grid.height, -1))
        return cut.permute(1, 2, 4, 0, 3, 5).flatten(3).flatten(0, 2)

    def _latents(self, tokens: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Put tokens together again, `[tokens, values]` to the shape of `like`."""
        grid = self._grid
        rows, columns = like.shape[3] // grid.height, like.shape[4] // grid.width
        cut = tokens.unflatten(0, (grid.frames, grid.height, grid.width)).unflatten(3, (-1, rows, columns))
        return cut.permute(3, 0, 1, 4, 2, 5).flatten(4).flatten(2, 3)[None]
