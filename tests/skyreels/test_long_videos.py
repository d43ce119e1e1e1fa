"""A long video costs the same for a late chunk as for an early one."""

from functools import wraps
from typing import Any

import torch

from motioncache.foreign import Onlooker
from motioncache_eval.device_calls import Counts, DeviceCalls
from motioncache_eval.paper import EXACT, NAMES, add_counts
from motioncache_skyreels.measure import create_transformer
from motioncache_skyreels.paper import random_pipeline, sampler

SMALL = {"num_attention_heads": 2, "attention_head_dim": 24, "ffn_dim": 64, "num_layers": 2, "text_dim": 16}
EARLY, LATE = 1, 12
"""Windows with the chunks 5 and 50: the first has five, and each of the others adds four."""


def test_the_fiftieth_chunk_costs_what_the_fifth_does() -> None:
    pipeline = random_pipeline(create_transformer(SMALL, torch.float32), "cpu")
    call = {
        "height": 16, "width": 32, "num_frames": 97 + 80 * LATE, "base_num_frames": 97, "overlap_history": 17,
        "ar_step": 1, "causal_block_size": 5, "num_inference_steps": 2, "output_type": "latent", "guidance_scale": 6.0,
    }  # fmt: skip
    costs, prepare = list[Counts](), pipeline.prepare_latents

    @wraps(prepare)
    def begin(*args: Any, **options: Any) -> Any:
        costs.append(Counts())
        return prepare(*args, **options)

    def count(forward: Any, *args: Any, **options: Any) -> Any:
        if len(costs) - 1 not in (EARLY, LATE):
            return forward(*args, **options)
        with DeviceCalls("cpu") as calls:
            out = forward(*args, **options)
        add_counts(costs[-1], calls.counts)
        return out

    pipeline.prepare_latents = begin
    sample = sampler(pipeline, EXACT, "cpu", call)
    pipeline.transformer.forward = Onlooker(pipeline.transformer.forward, count)
    sample()
    assert len(costs) == LATE + 1
    assert costs[EARLY].flops > 0
    for name in NAMES:
        assert getattr(costs[LATE], name) <= 1.05 * getattr(costs[EARLY], name), name
