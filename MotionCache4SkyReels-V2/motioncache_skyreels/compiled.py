"""The functions of a block as the user compiles them: one graph each, for any number of rows, chunks and branches."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from diffusers.models.transformers.transformer_skyreels_v2 import SkyReelsV2TransformerBlock

from motioncache.compiling import Backend, backend_of, compile_function
from motioncache.patch import Patch
from motioncache_skyreels.packed import BlockFunctions, after_attention, before_attention


def take_compilers(patch: Patch, model: Any, transformer: Any, functions: BlockFunctions) -> None:
    """Compile the functions of blocks as the user has compiled the model or its blocks, which then run as they are.

    Args:
        model: the pipeline's transformer, which may wrap `transformer`.
    """
    backend: Backend | None = None
    if model is not transformer and not patch.is_set(model, "forward"):
        backend = backend_of(model)
        patch.set_value(model, "forward", transformer.__call__)
    for module in (transformer, *transformer.blocks):
        compiled = vars(module).get("_compiled_call_impl")
        if compiled is not None:
            backend = backend_of(compiled)
            patch.set_value(module, "_compiled_call_impl", None)
    if backend is not None:
        functions.before = partial(_before, compile_function(before_attention, backend))
        functions.after = partial(_after, compile_function(_after_two, backend))


def _before(
    compiled: Any,
    block: SkyReelsV2TransformerBlock,
    hidden: torch.Tensor,
    rotary: tuple[torch.Tensor, torch.Tensor],
    table: torch.Tensor,
    frames: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return compiled(block, hidden, rotary, table, _by_row(frames, hidden))


def _after(
    compiled: Any,
    block: SkyReelsV2TransformerBlock,
    hidden: torch.Tensor,
    attended: torch.Tensor,
    table: torch.Tensor,
    frames: torch.Tensor,
    branches: Mapping[str, slice],
    texts: Mapping[str, tuple[torch.Tensor, torch.Tensor]],
) -> torch.Tensor:
    """A single branch counts as two, whose rows attend to the same prompt: another number would be another graph."""
    first, last = next(iter(branches)), list(branches)[-1]
    middle = branches[first].stop if first != last else hidden.shape[1] // 2
    key, value = texts[last]
    again = key.view(key.shape), value.view(value.shape)  # the same object twice would be another graph as well
    return compiled(block, hidden, attended, table, _by_row(frames, hidden), middle, texts[first], again)


def _after_two(
    block: SkyReelsV2TransformerBlock,
    hidden: torch.Tensor,
    attended: torch.Tensor,
    table: torch.Tensor,
    frames: torch.Tensor,
    middle: int,
    first: tuple[torch.Tensor, torch.Tensor],
    last: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    branches = {"first": slice(0, middle), "last": slice(middle, hidden.shape[1])}
    return after_attention(block, hidden, attended, table, frames, branches, {"first": first, "last": last})


def _by_row(frames: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """The latent frame of every row: groups of rows are fused away, and would be another graph, as would be a view."""
    return frames.repeat_interleave(hidden.shape[1] // len(frames)).clone()
