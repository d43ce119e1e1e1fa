"""Step distance of transformers of Wan's kind: how far the time modulation moves between two denoise steps.

The modulation depends on timestep and frame rate alone. So the distances of a schedule are computed once, before
sampling, in float32 on the host, and no denoise step waits for the device.
"""

from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear, silu

from motioncache.distance import polynomial, relative_l1
from motioncache.errors import MotionCacheError
from motioncache.plain import is_plain_linear
from motioncache.policies.distance import Distance, DistanceConfig

Timesteps = tuple[float, ...]
"""Timesteps of a chunk's latent frames."""


class StepDistance:
    """Distances between the timesteps of a chunk's latent frames at two steps.

    Args:
        transformer: its `condition_embedder` turns a timestep into the modulation.
        fps: index of the frame rate in the model's fps embedding; None for a model without one.
    """

    def __init__(self, transformer: Any, config: DistanceConfig, fps: int | None = None) -> None:
        self._transformer = transformer
        self._config = config
        self._fps = self._fps_term(fps)
        self._modulations: dict[float, torch.Tensor] = {}

    def between(self, previous: Timesteps, current: Timesteps) -> float | torch.Tensor:
        """The step distance from one step to the next.

        Returns:
            A float, or float32 `[frames]` if `distance` is per token and the frames' timesteps differ.
        """
        if self._config.distance is Distance.per_chunk:
            change = self._within_fit_range(self.relative_change(previous, current))
            return self._not_negative(polynomial(change, self._config.coefficients))
        changes = relative_l1(self.modulation(current), self.modulation(previous), keep=(0,))  # [frames]
        if self._config.clamp_distance and self._config.fit_range:
            changes = changes.clamp(*self._config.fit_range)
        per_frame = polynomial(changes, self._config.coefficients)
        per_frame = per_frame.clamp(min=0) if self._config.clamp_distance else per_frame
        return float(per_frame[0]) if bool((per_frame == per_frame[0]).all()) else per_frame

    def relative_change(self, previous: Timesteps, current: Timesteps) -> float:
        """Relative change of the modulation, which the polynomial turns into a distance."""
        return float(relative_l1(self.modulation(current), self.modulation(previous)))

    def _within_fit_range(self, change: float) -> float:
        if not (self._config.clamp_distance and self._config.fit_range):
            return change
        low, high = self._config.fit_range
        return min(max(change, low), high)

    def _not_negative(self, distance: float) -> float:
        return max(distance, 0.0) if self._config.clamp_distance else distance

    def modulation(self, timesteps: Timesteps) -> torch.Tensor:
        """Modulation of each latent frame, frame rate included, float32 `[frames, 6, channels]`."""
        missing = [t for t in dict.fromkeys(timesteps) if t not in self._modulations]
        if missing:
            self._modulations.update(zip(missing, self._modulate(missing), strict=True))
        return torch.stack([self._modulations[t] for t in timesteps])

    def _modulate(self, timesteps: list[float]) -> torch.Tensor:
        embedder = self._transformer.condition_embedder
        sinusoid: torch.Tensor = embedder.timesteps_proj(torch.tensor(timesteps)).float()
        hidden = silu(_linear(embedder.time_embedder.linear_1, sinusoid))
        hidden = _linear(embedder.time_embedder.linear_2, hidden)
        return _in_six(_linear(embedder.time_proj, silu(hidden))) + self._fps

    def _fps_term(self, fps: int | None) -> torch.Tensor:
        if fps is None:
            return torch.zeros(())
        transformer = self._transformer
        table = transformer.fps_embedding
        embedding = table(torch.tensor(fps, device=table.weight.device)).detach().to("cpu", torch.float32)
        gate, out = transformer.fps_projection.net[0], transformer.fps_projection.net[2]
        return _in_six(_linear(out, silu(_linear(gate.proj, embedding))))


def _in_six(x: torch.Tensor) -> torch.Tensor:
    """Shift, scale and gate of both halves of a block, `[..., 6, channels]`."""
    return x.reshape(*x.shape[:-1], 6, -1)


def _linear(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Run a layer in float32 on the host; one with packed weights or an adapter runs as it is."""
    if is_plain_linear(layer):
        bias: Any = layer.bias  # None without one
        bias = None if bias is None else bias.detach().to("cpu", torch.float32)
        return linear(x, layer.weight.detach().to("cpu", torch.float32), bias)
    weights = [*layer.parameters(), *layer.buffers()]
    if any(weight.is_meta for weight in weights):
        raise MotionCacheError(
            "the weights of the time embedding are not in memory (sequential CPU offload moves every layer by itself); "
            "use enable_model_cpu_offload or enable_group_offload instead"
        )
    floating = [weight.dtype for weight in weights if weight.is_floating_point() and weight.dtype.itemsize > 1]
    with torch.no_grad():
        out: torch.Tensor = layer(x.to(weights[0].device, floating[0] if floating else torch.float32))
    return out.to("cpu", torch.float32)
