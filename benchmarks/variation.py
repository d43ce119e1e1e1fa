"""A variation of `forecast` to try on SkyReels-V2: what it does, what it costs, and which iterations it plans."""

from collections.abc import Callable
from dataclasses import dataclass

from motioncache.errors import ConfigError
from motioncache.forecast.planner import plan_iterations
from motioncache.forecast.prediction import Forecast
from motioncache.forecast.profile import WindowProfile
from motioncache.grid import TokenGrid
from motioncache_skyreels.cost import SkyReelsCost


@dataclass(frozen=True, slots=True, kw_only=True)
class Variation:
    """What is tried.

    Attributes:
        budget: share of the FLOPs of `exact` that the video may take.
        forecast: makes the variation's forecast from the calibrated one.
        tokens: share of every chunk's tokens that is computed between the planned iterations.
        keys: where the keys of the other tokens come from there. `fresh`: they are computed, from what the blocks added
            to the token last time. `stale`: they are those of last time.
        selector: name of the score of tokens in `token_scores.SELECTORS`; the tokens with the highest are computed.
        age: whether scores are multiplied by the number of steps since the token was computed.
        hidden: whether what the blocks add is forecast in place of the velocity, with the velocity's coefficients.
        uncond_every: the uncond branch is computed at every so many-th planned iteration; at the others its difference
            to the cond branch is taken to be the last one.
        own_planned, own_coefficients: whether the iterations are planned, and the coefficients made, from the
            velocities of the very video that is sampled, and not from the calibration.
    """

    budget: float
    forecast: Callable[[Forecast], Forecast] = lambda forecast: forecast
    tokens: float = 0.0
    keys: str = "fresh"
    selector: str = "predicted x0"
    age: bool = True
    hidden: bool = False
    uncond_every: int = 1
    own_planned: bool = False
    own_coefficients: bool = False


@dataclass(frozen=True, slots=True)
class Cost:
    """Counts the FLOPs of a variation."""

    variation: Variation
    profile: WindowProfile
    model: SkyReelsCost
    grid: TokenGrid

    def video(self, planned: tuple[bool, ...]) -> int:
        """FLOPs of a video with these planned iterations."""
        total, computed = self.profile.fixed_flops, 0
        for iteration, due in enumerate(planned):
            if due:
                both_branches = iteration in self.profile.starts or computed % self.variation.uncond_every == 0
                total += self.profile.iteration_flops[iteration] // (1 if both_branches else 2)
                computed += 1
            elif self.variation.tokens or self.variation.hidden:
                total += self._between(iteration)
        return total

    def _between(self, iteration: int) -> int:
        """FLOPs of both branches at an iteration that is not planned: of some tokens, or with `hidden` of the head."""
        tokens = self.grid.tokens_per_chunk
        due = round(self.variation.tokens * tokens)
        total = self.model.time(self.grid.frames)
        for chunk in active_chunks(self.profile, iteration):
            total += self.model.embedding(tokens)
            if self.variation.hidden:
                total += 2 * self.model.head(tokens)
                continue
            total += 2 * (self.model.tokens(due, self.grid.chunk_of_tokens(chunk).stop) + self.model.head(due))
            if self.variation.keys == "fresh":  # keys and values of the tokens that are not due
                total += 2 * self.model.layers * (tokens - due) * 4 * self.model.width**2
        return total


def plan_variation(variation: Variation, profile: WindowProfile, forecast: Forecast, cost: Cost) -> tuple[bool, ...]:
    """Plan as many iterations as the variation's budget pays for, with all that the variation computes besides.

    Raises:
        ConfigError: if the budget pays for no choice of iterations.
    """
    budget = variation.budget * profile.full_flops
    for percent in range(100 * variation.uncond_every, 5, -1):
        planned = plan_iterations(profile, forecast, percent / 100 * budget)
        if cost.video(planned) <= budget:
            return planned
    raise ConfigError(f"the budget of {variation.budget:g} pays for no choice of iterations")


def active_chunks(profile: WindowProfile, iteration: int) -> list[int]:
    """The chunks that are denoised at an iteration."""
    return [i for i, start in enumerate(profile.starts) if 0 <= iteration - start < len(profile.sigmas)]
