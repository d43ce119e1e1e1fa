"""Group offloading of single layers with a stream, as far as a CPU can show it: weights that are away are NaN."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers.hooks import group_offloading
from diffusers.hooks.group_offloading import GroupOffloadingConfig, GroupOffloadingType, ModuleGroup

import motioncache
from motioncache import MotionCacheConfig, NoCacheConfig
from motioncache.config import KVStorage, PolicyConfig

from .conftest import generate, make_pipeline

CPU = torch.device("cpu")

SHORT: dict[str, Any] = {"num_frames": 37, "base_num_frames": 37, "num_inference_steps": 6, "ar_step": 2}


class Stream:
    """A stream that has nothing to wait for."""

    def synchronize(self) -> None:
        pass


def tensors(group: ModuleGroup) -> list[torch.Tensor]:
    own = [tensor for module in group.modules for tensor in (*module.parameters(), *module.buffers())]
    return [*own, *group.parameters, *group.buffers]


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What groups do: their weights come from `cpu_param_dict`, and NaN is left where they were."""
    done: list[str] = []

    def onload(group: ModuleGroup) -> None:
        done.append("on")
        for tensor in tensors(group):
            tensor.data = group.cpu_param_dict[tensor]

    def offload(group: ModuleGroup) -> None:
        done.append("off")
        for tensor in tensors(group):
            tensor.data = torch.full_like(group.cpu_param_dict[tensor], torch.nan)

    monkeypatch.setattr(ModuleGroup, "onload_", onload)
    monkeypatch.setattr(ModuleGroup, "offload_", offload)
    return done


def offload_leaves(transformer: torch.nn.Module) -> None:
    """What `enable_group_offload(offload_type="leaf_level", use_stream=True)` does, which insists on a GPU."""
    group_offloading._apply_group_offloading(
        transformer,
        GroupOffloadingConfig(
            onload_device=CPU,
            offload_device=CPU,
            offload_type=GroupOffloadingType.LEAF_LEVEL,
            non_blocking=True,
            record_stream=False,
            low_cpu_mem_usage=True,
            stream=Stream(),  # pyright: ignore[reportArgumentType]
        ),
    )


@pytest.mark.parametrize("cache_first", [True, False])
@pytest.mark.parametrize("kind", ["exact", "tokens", "chunks"])
def test_every_weight_is_there_when_it_is_read(
    kind: str, cache_first: bool, config: Callable[..., MotionCacheConfig], moves: list[str]
) -> None:
    policies: dict[str, Callable[[], PolicyConfig]] = {
        "exact": lambda: NoCacheConfig(kv=KVStorage.host),
        "tokens": lambda: config(kv=KVStorage.int8),
        "chunks": lambda: config(chunk_phase_updates=None),
    }
    policy = policies[kind]()
    plain, pipeline = make_pipeline(), make_pipeline()
    with motioncache.cached(plain, policy):
        expected = generate(plain, **SHORT)
    if cache_first:
        motioncache.enable_cache(pipeline, policy)
        offload_leaves(pipeline.transformer)
    else:
        offload_leaves(pipeline.transformer)
        motioncache.enable_cache(pipeline, policy)
    moves.clear()
    assert torch.equal(generate(pipeline, **SHORT), expected)
    assert moves.count("on") >= moves.count("off") > 100
    assert pipeline.transformer.blocks[0].ffn.net[2].weight.isnan().all()  # it is away again
