"""A SkyReels-V2 pipeline without a cache on several processes, through diffusers' own context parallelism."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import ContextParallelConfig
from diffusers.hooks.context_parallel import remove_context_parallel
from diffusers.models._modeling_parallel import ContextParallelInput, ContextParallelOutput

from motioncache.errors import MotionCacheError
from motioncache.parallel import Group


def context_parallel_plan(layers: int) -> dict[str, Any]:
    """Where the tokens of a diffusion-forcing transformer are divided and put together.

    diffusers has no plan for this model. With a timestep for each latent frame, the modulation that blocks get has a
    row for each token, `[B, 6, tokens, D]`, and is divided like the tokens; tokens are put together before the last
    modulation, which has rows for all of them.
    """
    rotary = ContextParallelInput(split_dim=1, expected_dims=4, split_output=True)
    tokens = ContextParallelInput(split_dim=1, expected_dims=3)
    modulation = ContextParallelInput(split_dim=2, expected_dims=4)
    return {
        "rope": {0: rotary, 1: rotary},
        "blocks.0": {"hidden_states": tokens},
        "blocks.*": {"encoder_hidden_states": tokens, "temb": modulation},
        f"blocks.{layers - 1}": ContextParallelOutput(gather_dim=1, expected_dims=3),
    }


@contextmanager
def uncached_parallel(pipeline: Any, world: Group) -> Iterator[None]:
    """Divide tokens among all processes, for the length of the block; the pipeline runs its CFG branches by turns."""
    transformer = pipeline.transformer
    plan = context_parallel_plan(len(transformer.blocks))
    config = ContextParallelConfig(ulysses_degree=world.size, ulysses_anything=True)
    try:
        with _counted_accelerators():
            transformer.enable_parallelism(config=config, cp_plan=plan)
    except ValueError as error:
        raise MotionCacheError(f"diffusers divides no tokens here: {error}") from None
    try:
        yield
    finally:
        remove_context_parallel(transformer, plan)
        for holder in (transformer, *transformer.attn_processors.values()):
            vars(holder).pop("_parallel_config", None)  # their classes have None


@contextmanager
def _counted_accelerators() -> Iterator[None]:
    """Let a machine without an accelerator count one: diffusers divides by their number."""
    counted = torch.accelerator.device_count
    if not counted():
        torch.accelerator.device_count = lambda: 1
    try:
        yield
    finally:
        torch.accelerator.device_count = counted
