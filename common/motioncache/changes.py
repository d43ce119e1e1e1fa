"""What a callback changes of what the cache has kept: weights, adapters, and latents of chunks that are clean."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn


def version_of(tensor: torch.Tensor) -> int:
    """How often a tensor has been changed in place; 0 for those of inference mode, which do not count."""
    return 0 if tensor.is_inference() else tensor._version  # pyright: ignore[reportPrivateUsage]


class LatentsWatch:
    """Tells whether a callback has changed the latents that it was handed.

    Args:
        tensors: what it is handed, by name.
    """

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        self._latents: torch.Tensor | None = tensors.get("latents")
        self._version = 0 if self._latents is None else version_of(self._latents)
        uncounted = self._latents is not None and self._latents.is_inference()
        self._values = self._latents.clone() if self._latents is not None and uncounted else None

    def changed(self, returned: Mapping[str, Any]) -> bool:
        """Compare with what it has returned."""
        if returned.get("latents", self._latents) is not self._latents:
            return True
        if self._latents is None:
            return False
        in_place = self._values is not None and not torch.equal(self._latents, self._values)
        return in_place or version_of(self._latents) != self._version


def weights_state(transformer: nn.Module, attention_kwargs: Mapping[str, Any] | None) -> list[object]:
    """A value that is another one once somebody has changed weights, adapters or their scales.

    Weights that offloading moves stay the same. A weight changed through `.data` is not noticed: nothing counts it.
    """
    state: list[object] = [(attention_kwargs or {}).get("scale")]
    for module in transformer.modules():
        own = vars(module)
        if "_active_adapter" in own:  # a layer of PEFT
            state += _adapter(own)
        if own["_parameters"]:
            moved = own.get("_hf_hook") is not None  # accelerate replaces the parameters that it offloads
            state += (
                version_of(parameter) if moved else (id(parameter), version_of(parameter))
                for parameter in own["_parameters"].values()
                if parameter is not None
            )
    return state


def _adapter(layer: Mapping[str, Any]) -> Iterator[object]:
    for name in ("_active_adapter", "_disable_adapters", "merged_adapters", "scaling"):
        yield str(layer.get(name))
