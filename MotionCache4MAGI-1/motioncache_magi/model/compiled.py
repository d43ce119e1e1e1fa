"""torch.compile on MAGI-1: two graphs for all layers, before attention and after it, for any number of rows."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from motioncache.compiling import backend_of, uncompiled
from motioncache.stand_in import MISSING, StandIn
from motioncache_magi.model.layers import Attention, Layer


class Compilable(nn.Module):
    """A model whose layers compile what lies before and after attention, which runs as it is."""

    def compile(self, **options: Any) -> None:
        """Compile the layers; a copy or a pickle comes uncompiled, as that of any module.

        Args:
            options: of `torch.compile`; sizes are dynamic whatever they say.
        """
        compile: Callable[..., Any] = partial(torch.compile, **{**options, "dynamic": True})
        project, finish = compile(Attention.project), compile(Layer.finish)
        for layer in self.modules():
            if isinstance(layer, Layer):
                attention = layer.self_attention
                _replace(attention, "project", partial(_project, project, attention))
                _replace(layer, "finish", partial(_finish, finish, layer))

    compile_repeated_blocks = compile  # as models of diffusers call it


def unwrapped(model: Any) -> Any:
    """The model in what `torch.compile(model)` gives, with its layers compiled alike; any other as it is."""
    inner = uncompiled(model)
    if inner is not model:
        inner.compile(backend=backend_of(model))
    return inner


def _replace(module: nn.Module, name: str, function: Callable[..., Any]) -> None:
    setattr(module, name, StandIn(module, name, MISSING, function))


def _project(
    compiled: Any, attention: Attention, x: torch.Tensor, rotary: tuple[torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    return compiled(attention, x.contiguous(), rotary)


def _finish(
    compiled: Any,
    layer: Layer,
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
