"""Motion score, motion weight and temporal vote. Pure functions of tensors."""

from enum import Enum

import torch

_EPSILON = 1e-8


class Normalisation(Enum):
    """How a latent frame's motion scores become weights (see `motion_weight`)."""

    mean = "mean"
    max = "max"
    max_rescale = "max_rescale"


def motion_score(hidden: torch.Tensor, previous_frame: torch.Tensor | None, *, missing: float) -> torch.Tensor:
    """Relative frame difference of every token of a chunk.

    score_f = mean|h_f - h_(f-1)| / (mean|h_(f-1)| + 1e-8), the means over batch and channels, in float32.

    Args:
        hidden: `[batch, frames, tokens_per_frame, channels]`.
        previous_frame: the latent frame before the chunk, `[batch, tokens_per_frame, channels]`; None if there is none.
        missing: score of the first frame where `previous_frame` is None; NaN copies the second frame's scores.

    Returns:
        float32 `[frames, tokens_per_frame]`.
    """
    hidden = hidden.float()
    inner = _frame_difference(hidden[:, 1:], hidden[:, :-1])  # [frames - 1, tokens_per_frame]
    if previous_frame is not None:
        first = _frame_difference(hidden[:, :1], previous_frame.float()[:, None])
    elif missing == missing:
        first = torch.full_like(hidden[0, :1, :, 0], missing)
    else:
        first = inner[:1] if len(inner) else torch.ones_like(hidden[0, :1, :, 0])
    return torch.cat([first, inner])


def motion_weight(score: torch.Tensor, normalisation: Normalisation, floor: float) -> torch.Tensor:
    """Rescale scores `[frames, tokens_per_frame]` to weights, each latent frame by itself.

    mean: score / mean. max: score / max. max_rescale: floor + (1 - floor) * (score - min) / (max - min). The first two
    have no floor in the published method: a still region has weight 0 there, and is never updated again.
    """
    if normalisation is Normalisation.mean:
        return score / (score.mean(dim=1, keepdim=True) + _EPSILON)
    highest = score.amax(dim=1, keepdim=True)
    if normalisation is Normalisation.max:
        return score / (highest + _EPSILON)
    lowest = score.amin(dim=1, keepdim=True)
    return floor + (1 - floor) * (score - lowest) / (highest - lowest + _EPSILON)


def temporal_vote(due: torch.Tensor, frames: int, share: float) -> torch.Tensor:
    """One decision per spatial position: due in all latent frames if it is in more than `share` of them.

    Args:
        due: bool `[frames * tokens_per_frame]`.

    Returns:
        bool, the same shape.
    """
    votes = due.view(frames, -1).float().mean(dim=0)  # [tokens_per_frame]
    return (votes > share).expand(frames, -1).reshape(-1)


def _frame_difference(current: torch.Tensor, previous: torch.Tensor) -> torch.Tensor:
    """`[batch, frames, tokens, channels]` twice -> `[frames, tokens]`."""
    return (current - previous).abs().mean(dim=(0, 3)) / (previous.abs().mean(dim=(0, 3)) + _EPSILON)
