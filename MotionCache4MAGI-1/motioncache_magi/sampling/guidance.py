"""Which branches a model call needs, and how their velocities are joined."""

from dataclasses import dataclass

import torch

from motioncache_magi.model.config import MagiConfig
from motioncache_magi.sampling.kv_layout import ALONE, NEARLY_CLEAN, PAST, TEXT

Velocities = dict[tuple[str, int], torch.Tensor]
"""Velocities by branch and chunk, `[due, values of a patch]`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scales:
    """Weights of a chunk's guidance at one time: velocity = (1 - past) U + (past - text) B + text A.

    A sees the text and the past, B the past alone, U neither.
    """

    past: float
    text: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Guidance:
    """Guidance by time (base models), or none but that of the nearly clean chunk (distilled models).

    Args:
        distilled: the model carries its guidance inside: one branch.
        times, past, text: scales from each time on.
        nearly_clean_from: above this time the oldest chunk of a distilled model is also computed without its past.
        nearly_clean_weight: share of the velocity with the past; the rest is the one without.
    """

    distilled: bool
    times: tuple[float, ...]
    past: tuple[float, ...]
    text: tuple[float, ...]
    nearly_clean_from: float
    nearly_clean_weight: float = 0.7

    @classmethod
    def of(cls, config: MagiConfig) -> "Guidance":
        runtime = config.runtime
        return cls(
            distilled=runtime.cfg_number == 1,
            times=runtime.cfg_t_range,
            past=runtime.prev_chunk_scales,
            text=runtime.text_scales,
            nearly_clean_from=config.engine.distill_nearly_clean_chunk_threshold,
        )

    def scales(self, t: float) -> Scales:
        """The scales at a time."""
        index = int(torch.searchsorted(torch.tensor(self.times) - 1e-7, torch.tensor(t))) - 1  # float32
        return Scales(past=self.past[index], text=self.text[index])

    def repeats_nearly_clean(self, t: float) -> bool:
        """Whether the oldest chunk, at time `t`, is computed a second time without its past."""
        return self.distilled and t > self.nearly_clean_from


def join_branches(
    guidance: Guidance, velocities: Velocities, chunk: int, t: float, due: bool | torch.Tensor
) -> torch.Tensor:
    """The guided velocity of a chunk's due tokens at a time, `[due, values]`."""
    if guidance.distilled:
        velocity = velocities[TEXT, chunk]
        if (NEARLY_CLEAN, chunk) not in velocities:
            return velocity
        again = velocities[NEARLY_CLEAN, chunk]  # all tokens
        again = again[due.to(again.device)] if isinstance(due, torch.Tensor) else again
        return guidance.nearly_clean_weight * velocity + (1 - guidance.nearly_clean_weight) * again
    scales = guidance.scales(t)
    guided = (scales.past - scales.text) * velocities[PAST, chunk]
    if scales.text != 0:
        guided = guided + scales.text * velocities[TEXT, chunk]
    if scales.past != 1:
        guided = guided + (1 - scales.past) * velocities[ALONE, chunk]
    return guided
