"""A long video costs the same for a late chunk as for an early one."""

from typing import Any

import torch

from motioncache.foreign import Onlooker
from motioncache_eval.device_calls import Counts, DeviceCalls
from motioncache_eval.paper import EXACT
from motioncache_skyreels.measure import create_autoencoder, create_transformer, host_pipeline
from motioncache_skyreels.paper import sampler

SMALL = {"num_attention_heads": 2, "attention_head_dim": 24, "ffn_dim": 64, "num_layers": 2, "text_dim": 16}
EARLY, LATE = 2, 25
"""Windows with the chunks 5 and 50: the first has three, and each of the others begins with one of the last and adds two."""
NAMES = ("launches", "flops", "bytes", "waits", "copies")


def test_the_fiftieth_chunk_costs_what_the_fifth_does() -> None:
    pipeline = host_pipeline(create_transformer(SMALL, torch.float32), create_autoencoder())
    call = {
        "height": 32, "width": 48, "num_frames": 57 + 40 * LATE, "base_num_frames": 57, "overlap_history": 17,
        "ar_step": 1, "causal_block_size": 5, "num_inference_steps": 2, "output_type": "latent", "guidance_scale": 6.0,
    }  # fmt: skip
    costs, prepare = list[Counts](), pipeline.prepare_latents

    def begin(*args: Any, **options: Any) -> Any:
        costs.append(Counts())
        return prepare(*args, **options)

    def count(forward: Any, *args: Any, **options: Any) -> Any:
        if len(costs) - 1 not in (EARLY, LATE):
            return forward(*args, **options)
        with DeviceCalls() as calls:
            out = forward(*args, **options)
        for name in NAMES:
            setattr(costs[-1], name, getattr(costs[-1], name) + getattr(calls.counts, name))
        return out

    pipeline.prepare_latents = begin
    sample = sampler(pipeline, EXACT, "meta", call)
    pipeline.transformer.forward = Onlooker(pipeline.transformer.forward, count)
    sample()
    early, late = costs[EARLY], costs[LATE]
    assert len(costs) == LATE + 1
    assert early.flops > 0
    for name in NAMES:
        assert getattr(late, name) <= 1.05 * getattr(early, name), name
