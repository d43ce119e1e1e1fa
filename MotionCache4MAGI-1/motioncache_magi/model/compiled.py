"""torch.compile on MAGI-1: two graphs for all layers, before attention and after it, for any number of rows."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from motioncache.compiling import backend_of, uncompiled

if TYPE_CHECKING:
    from motioncache_magi.model.layers import Layer, LayerFunctions


def compile_layers(layers: "Iterable[Layer]", functions: "LayerFunctions", **options: Any) -> None:
    """Compile what layers do before and after attention, which runs as it is.

    A copy or a pickle of a layer comes uncompiled, as that of any module.

    Args:
        options: of `torch.compile`; sizes are dynamic whatever they say.
    """
    compile: Callable[..., Any] = partial(torch.compile, **{**options, "dynamic": True})
    compiled = type(functions)(
        project=partial(_project, compile(functions.project)), finish=partial(_finish, compile(functions.finish))
    )
    for layer in layers:
        layer._compiled_call_impl = partial(layer._call_impl, functions=compiled)


def unwrapped(model: Any) -> Any:
    """The model in what `torch.compile(model)` gives, with its layers compiled alike; any other as it is."""
    inner = uncompiled(model)
    if inner is not model:
        inner.compile(backend=backend_of(model))
    return inner


def _project(
    compiled: Any, layer: "Layer", x: torch.Tensor, rotary: tuple[torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    return compiled(layer, x.contiguous(), rotary)


def _finish(
    compiled: Any,
    layer: "Layer",
    x: torch.Tensor,
    past: torch.Tensor,
    text: torch.Tensor,
    condition: torch.Tensor,
    rows: torch.Tensor,
) -> torch.Tensor:
    """A single condition counts as two, of which one is not used: another number would be another graph."""
    if len(condition) == 1:
        condition = condition.repeat(2, 1)
    return compiled(layer, x.contiguous(), past, text, condition, rows)
