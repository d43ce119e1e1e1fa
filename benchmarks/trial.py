"""Emulates a variation of `forecast` on SkyReels-V2: one window, and what each of its model calls would give.

The stock transformer computes all tokens of a call; hooks then put the old in place of what a variation would not have
computed. So the videos are what the variation would make, its cost is counted from what it asks for, and times mean
nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from diffusers import SkyReelsV2Transformer3DModel
from torch.nn.functional import avg_pool2d

from motioncache.errors import ConfigError
from motioncache.forecast.calibration import Forecast
from motioncache.forecast.planner import Course, solve_plan
from motioncache.grid import TokenGrid
from motioncache.motion import motion_score
from motioncache_skyreels.cost import SkyReelsCost

BRANCHES = (0, 1)
"""Of guidance: cond and uncond, in the order of the pipeline's calls."""

KEPT = 3
"""Velocities that are kept of a token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variation:
    """What is tried.

    Attributes:
        budget: share of the FLOPs of `exact`.
        forecast: makes the forecast from the calibrated one.
        tokens: share of every chunk's tokens that is computed at iterations that the plan leaves out.
        keys: of the other tokens there: `fresh`, from where the blocks took them the last time, or `stale`.
        selector: scores tokens, see `SELECTORS`; the highest are computed.
        age: multiply scores with the steps since a token was computed.
        hidden: forecast what the blocks add, in the width of the transformer, with the coefficients of the velocity.
        uncond_every: at which of the planned iterations the uncond branch is computed; at others its difference to
            cond is the last one.
        own_plan, own_coefficients: calibrated on the very video that is made.
    """

    budget: float
    forecast: Callable[[Forecast], Forecast] = lambda forecast: forecast
    tokens: float = 0.0
    keys: str = "fresh"
    selector: str = "predicted x0"
    age: bool = True
    hidden: bool = False
    uncond_every: int = 1
    own_plan: bool = False
    own_coefficients: bool = False


def plan_variation(variation: Variation, course: Course, forecast: Forecast, cost: "Cost") -> tuple[bool, ...]:
    """The plan whose whole cost, tokens in between and branches left out included, comes nearest to the budget."""
    budget = variation.budget * course.whole
    for percent in range(100 * variation.uncond_every, 5, -1):
        plan = solve_plan(course, forecast, percent / 100 * budget)
        if cost.video(plan) <= budget:
            return plan
    raise ConfigError(f"the budget of {variation.budget:g} pays for no plan")


@dataclass(frozen=True, slots=True)
class Cost:
    """FLOPs of a variation."""

    variation: Variation
    course: Course
    model: SkyReelsCost
    grid: TokenGrid

    def video(self, plan: tuple[bool, ...]) -> int:
        total, planned = self.course.base, 0
        for iteration, whole in enumerate(plan):
            if whole:
                both = iteration in self.course.starts or planned % self.variation.uncond_every == 0
                total += self.course.cost[iteration] // (1 if both else 2)
                planned += 1
            elif self.variation.tokens or self.variation.hidden:
                total += self._between(iteration)
        return total

    def _between(self, iteration: int) -> int:
        """An iteration of which only some tokens pass the blocks, or none but all the head, in both branches."""
        tokens = self.grid.tokens_per_chunk
        due = round(self.variation.tokens * tokens)
        total = self.model.time(self.grid.frames)
        for chunk in active(self.course, iteration):
            total += self.model.embedding(tokens)
            if self.variation.hidden:
                total += 2 * self.model.head(tokens)
                continue
            total += 2 * (self.model.tokens(due, self.grid.chunk_of_tokens(chunk).stop) + self.model.head(due))
            if self.variation.keys == "fresh":
                total += 2 * self.model.layers * (tokens - due) * 4 * self.model.width**2  # their keys and values
        return total


def active(course: Course, iteration: int) -> list[int]:
    """Chunks that are denoised at an iteration."""
    return [i for i, start in enumerate(course.starts) if 0 <= iteration - start < len(course.levels)]


@dataclass(slots=True)
class Chunk:
    """What is kept of a chunk.

    Attributes:
        velocities: of the last computations of each token, the latest first, for each branch, `[KEPT, tokens, values]`.
        computed: at which denoise steps these were, -1 for none, `[KEPT, tokens]`.
        hidden: cond branch after the blocks, `[frames, tokens_per_frame, channels]`.
    """

    velocities: dict[int, torch.Tensor]
    computed: torch.Tensor
    hidden: torch.Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a selector may look at to score a chunk's tokens; velocities are those of cond.

    Attributes:
        frames: of the chunk, within the window.
        state, before: of the chunk and of the one before it.
        clean, latents: predicted clean latents and the latents of the window, `[frames, tokens_per_frame, values]`.
        forecast: velocity of the chunk's tokens, `[tokens, values]`.
        truth: the same as computed, for the oracle alone.
    """

    grid: TokenGrid
    frames: slice
    state: Chunk
    before: Chunk | None
    clean: torch.Tensor
    latents: torch.Tensor
    forecast: torch.Tensor
    truth: torch.Tensor | None


class Trial:
    """Takes the place of a transformer's forward for one window."""

    def __init__(
        self,
        transformer: SkyReelsV2Transformer3DModel,
        variation: Variation,
        course: Course,
        forecast: Forecast,
        plan: tuple[bool, ...],
        grid: TokenGrid,
    ) -> None:
        self._transformer, self._variation = transformer, variation
        self._course, self._forecast, self._plan, self._grid = course, forecast, plan, grid
        self._chunks: dict[int, Chunk] = {}
        self._due = torch.ones(grid.tokens, dtype=torch.bool)
        self._calls = self._planned = 0
        self._layers: dict[tuple[Any, ...], torch.Tensor] = {}
        self._embedded = torch.empty(0)
        self._hidden = torch.empty(0)
        self._residuals: dict[tuple[int, int], list[torch.Tensor]] = {}

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Answer the pipeline's calls inside."""
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
        elif self._plan[iteration] or self._variation.tokens:
            computed = call()
            self._take(iteration, branch, computed)
            velocity = torch.where(self._due[:, None], computed, velocity)
        elif self._variation.hidden:
            velocity = call()
        self._planned += self._plan[iteration] and branch == 1
        return (self._latents(velocity, hidden_states),)

    def _skips_uncond(self, iteration: int) -> bool:
        later = self._plan[iteration] and iteration not in self._course.starts
        return later and self._planned % self._variation.uncond_every != 0

    def _decide(self, iteration: int, latents: torch.Tensor, call: Callable[[], torch.Tensor]) -> None:
        """Which tokens of the window count as computed."""
        self._due = torch.ones(self._grid.tokens, dtype=torch.bool)
        if self._plan[iteration] or not self._variation.tokens:
            return
        kept, truth = dict(self._layers), None
        if self._variation.selector == "oracle":
            truth, self._layers = call(), kept
        forecast = self._forecast_all(iteration, 0)
        clean = self._predicted(iteration, latents, forecast)
        for chunk in active(self._course, iteration):
            where, state = self._grid.chunk_of_tokens(chunk), self._chunks[chunk]
            seen = Seen(
                grid=self._grid,
                frames=self._grid.chunk_of_frames(chunk),
                state=state,
                before=self._chunks.get(chunk - 1),
                clean=clean,
                latents=self.tokens(latents).unflatten(0, (self._grid.frames, -1)),
                forecast=forecast[where],
                truth=None if truth is None else truth[where],
            )
            score = SELECTORS[self._variation.selector](seen)
            if self._variation.age:
                score = score * (iteration - self._course.starts[chunk] - state.computed[0])
            chosen = score.topk(round(self._variation.tokens * len(score))).indices
            self._due[where] = torch.zeros(len(score), dtype=torch.bool).index_fill(0, chosen, True)

    def _compute(self, branch: int, latents: torch.Tensor, **named: Any) -> torch.Tensor:
        """Velocities of all tokens, `[tokens, values]`; right for those that are due."""
        self._branch = branch
        stock = type(self._transformer).forward
        output = stock(self._transformer, latents, **{**named, "return_dict": False})[0]
        return self.tokens(output)

    def _enter(self, layer: int, block: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Before a block: tokens that are not due are where the block took them from the last time."""
        hidden = inputs[0]
        if layer == 0:
            self._embedded = hidden
        key = (self._branch, layer)
        if key in self._layers and self._variation.keys == "fresh":
            hidden = torch.where(self._due[:, None], hidden, self._embedded + self._layers[key])
        self._layers[key] = hidden - self._embedded
        return (hidden, *inputs[1:])

    def _keys(self, layer: int, part: str, module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        """Keys and values of tokens that are not due are the old ones."""
        if self._variation.keys == "fresh":
            return output
        key = (self._branch, layer, part)
        if key in self._layers:
            output = torch.where(self._due[:, None], output, self._layers[key])
        self._layers[key] = output
        return output

    def _leave(self, block: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        """After the blocks: what they add is kept, or forecast."""
        if self._variation.hidden:
            for chunk in active(self._course, self._iteration):
                self._add(chunk, self._embedded[0], output[0])
        if self._branch == 0:
            self._hidden = output[0]
        return output

    def _add(self, chunk: int, embedded: torch.Tensor, hidden: torch.Tensor) -> None:
        where, key = self._grid.chunk_of_tokens(chunk), (self._branch, chunk)
        kept = self._residuals.get(key, [])
        if self._plan[self._iteration]:
            self._residuals[key] = [hidden[where] - embedded[where], *kept][:KEPT]
            return
        known = [step for step in self._chunks[chunk].computed[: self._forecast.order, 0].tolist() if step >= 0]
        c = self._forecast.coefficients(self._iteration - self._course.starts[chunk], known)
        hidden[where] = embedded[where] + sum(share * residual for share, residual in zip(c, kept, strict=False))

    def _take(self, iteration: int, branch: int, velocity: torch.Tensor) -> None:
        """Keep what was computed of the tokens that are due."""
        for chunk in active(self._course, iteration):
            where, step = self._grid.chunk_of_tokens(chunk), iteration - self._course.starts[chunk]
            self._keep(chunk, branch, step, velocity[where], self._due[where])
            if branch == 0:
                self._chunks[chunk].hidden = self._hidden[where].unflatten(0, (self._grid.chunk_frames, -1))

    def _keep(self, chunk: int, branch: int, step: int, velocity: torch.Tensor, due: torch.Tensor) -> None:
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
        """The new velocity of cond, and the difference to it that uncond had."""
        for chunk in active(self._course, iteration):
            state, step = self._chunks[chunk], iteration - self._course.starts[chunk]
            now, before = state.velocities[0][:2]
            velocity[self._grid.chunk_of_tokens(chunk)] = followed = now + state.velocities[1][0] - before
            self._keep(chunk, 1, step, followed, torch.ones(len(now), dtype=torch.bool))
        return velocity

    def _forecast_all(self, iteration: int, branch: int) -> torch.Tensor:
        """The forecast of every active token that has been computed before, `[tokens, values]`; 0 for all others."""
        values = self._transformer.config.out_channels * 4
        result = torch.zeros(self._grid.tokens, values)
        for chunk in active(self._course, iteration):
            step = iteration - self._course.starts[chunk]
            if chunk in self._chunks and step > 0:
                result[self._grid.chunk_of_tokens(chunk)] = self._forecast_chunk(self._chunks[chunk], step, branch)
        return result

    def _forecast_chunk(self, state: Chunk, step: int, branch: int) -> torch.Tensor:
        """Every token from the steps that it was computed at."""
        result = torch.zeros_like(state.velocities[branch][0])
        computed = state.computed[: self._forecast.order].T  # [tokens, order]
        for steps in computed.unique(dim=0):
            c = self._forecast.coefficients(step, [known for known in steps.tolist() if known >= 0])
            guess = sum(share * v for share, v in zip(c, state.velocities[branch], strict=False))
            result = torch.where((computed == steps).all(1)[:, None], guess, result)
        return result

    def _predicted(self, iteration: int, latents: torch.Tensor, forecast: torch.Tensor) -> torch.Tensor:
        """Clean latents that the cond branch would arrive at, `[frames, tokens_per_frame, values]`."""
        level = torch.zeros(self._grid.tokens, 1)
        for chunk in active(self._course, iteration):
            level[self._grid.chunk_of_tokens(chunk)] = self._course.levels[iteration - self._course.starts[chunk]]
        return (self.tokens(latents) - level * forecast).unflatten(0, (self._grid.frames, -1))

    def tokens(self, latents: torch.Tensor) -> torch.Tensor:
        """`[1, channels, frames, height, width]` to `[tokens, values]`."""
        grid = self._grid
        cut = latents[0].unflatten(3, (grid.width, -1)).unflatten(2, (grid.height, -1))
        return cut.permute(1, 2, 4, 0, 3, 5).flatten(3).flatten(0, 2)

    def _latents(self, tokens: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        grid = self._grid
        rows, columns = like.shape[3] // grid.height, like.shape[4] // grid.width
        cut = tokens.unflatten(0, (grid.frames, grid.height, grid.width)).unflatten(3, (-1, rows, columns))
        return cut.permute(3, 0, 1, 4, 2, 5).flatten(4).flatten(2, 3)[None]


def _moved(frames: torch.Tensor, where: slice) -> torch.Tensor:
    """Difference of each frame of a chunk to the one before, `[tokens]`; the first of a video copies the second's."""
    before = frames[where.start - 1 : where.stop - 1] if where.start else frames[[0, *range(where.stop - 1)]]
    moved = (frames[where] - before).abs().mean(2)
    if not where.start:
        moved[0] = moved[1]
    return moved.flatten()


def _hidden(seen: Seen) -> torch.Tensor:
    hidden, before = seen.state.hidden, None if seen.before is None else seen.before.hidden
    assert hidden is not None
    return motion_score(hidden[None], None if before is None else before[None, -1], missing=torch.nan).flatten()


def _change(seen: Seen) -> torch.Tensor:
    now, before = seen.state.velocities[0][:2]
    return (now - before).abs().mean(1)


def _detail(seen: Seen) -> torch.Tensor:
    """Variance of the predicted clean latents over 3x3 tokens."""
    frames = seen.clean[seen.frames].unflatten(1, (seen.grid.height, seen.grid.width)).permute(0, 3, 1, 2)
    near = partial(avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
    return (near(frames**2) - near(frames) ** 2).mean(1).flatten()


def _oracle(seen: Seen) -> torch.Tensor:
    assert seen.truth is not None
    return (seen.truth - seen.forecast).abs().mean(1)


SELECTORS: dict[str, Callable[[Seen], torch.Tensor]] = {
    "hidden difference": _hidden,
    "latent difference": lambda seen: _moved(seen.latents, seen.frames),
    "predicted x0": lambda seen: _moved(seen.clean, seen.frames),
    "velocity change": _change,
    "detail": _detail,
    "random": lambda seen: torch.rand(len(seen.forecast)),
    "oracle": _oracle,
}
"""What a chunk's tokens are scored by, `[tokens]`; `oracle` knows how far each forecast is off."""
