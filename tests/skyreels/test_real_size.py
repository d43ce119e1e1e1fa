"""The real size, loaded and run: `MOTIONCACHE_REAL_SIZE=1 bash scripts/test.sh tests/skyreels/test_real_size.py -s`.

A checkpoint in the layout of the official 1.3B model, with random weights, is made on the spot (2.8 GB), with a text
encoder and an autoencoder that are small and have the official interfaces.
"""

import os
import resource
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import (
    AutoencoderKLWan,
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2Transformer3DModel,
    UniPCMultistepScheduler,
)
from transformers import UMT5Config, UMT5EncoderModel

from motioncache.config import read_yaml
from motioncache_eval.generate import Video, make_videos
from motioncache_eval.jobs import find_model, policy_of
from motioncache_eval.video import read_video
from motioncache_skyreels.memory import RELEASED
from motioncache_train.captions import create_tokenizer

LIMIT = 24e9
"""Bytes that all of this may take."""


def make_checkpoint(folder: Path) -> Path:
    """Save a pipeline with random weights in bfloat16."""
    sizes, _ = RELEASED["1.3B-540P"]
    with torch.device("meta"):
        transformer = SkyReelsV2Transformer3DModel(text_dim=4096, freq_dim=256, inject_sample_info=True, **sizes)
    transformer = transformer.to(dtype=torch.bfloat16).to_empty(device="cpu").requires_grad_(False)  # pyright: ignore
    torch.manual_seed(0)
    for name, parameter in transformer.named_parameters():
        if "norm" in name and name.endswith("weight"):
            parameter.fill_(1.0)
        else:
            parameter.normal_(std=0.02)
    tokenizer = create_tokenizer()
    encoder = UMT5Config(vocab_size=len(tokenizer), d_model=4096, d_kv=8, d_ff=8, num_layers=1, num_heads=1)
    SkyReelsV2DiffusionForcingPipeline(
        tokenizer=tokenizer,  # pyright: ignore[reportArgumentType]
        text_encoder=UMT5EncoderModel(encoder).to(dtype=torch.bfloat16),
        transformer=transformer,
        vae=AutoencoderKLWan(base_dim=8, num_res_blocks=1),
        scheduler=UniPCMultistepScheduler(flow_shift=8, use_flow_sigmas=True, prediction_type="flow_prediction"),
    ).save_pretrained(folder)
    return folder


@pytest.mark.skipif(not os.environ.get("MOTIONCACHE_REAL_SIZE"), reason="minutes, and 2.8 GB on the disk")
def test_every_preset_makes_a_video_with_the_official_size(tmp_path: Path) -> None:
    model = find_model("skyreels-v2")
    folder = make_checkpoint(tmp_path / "1.3B")
    assert 2.7e9 < sum(path.stat().st_size for path in (folder / "transformer").iterdir()) < 3e9
    size = ["height=16", "width=32", "num_frames=37", "base_num_frames=37", "num_inference_steps=6", "ar_step=1"]
    job = model.read(None, [f"model={folder}", "dtype=bfloat16", "prompt=a red circle moving right", *size])
    loaded = model.load(job)
    presets = [(str(preset), None) for preset in read_yaml(model.adapter().presets())["presets"]]
    for preset, kv in [*presets, ("slow", "int8"), ("exact", "host")]:
        started, name = time.perf_counter(), f"{preset}-{kv}"
        policy = policy_of(loaded.adapter, replace(job, preset=preset, kv=kv))
        make_videos(loaded, policy, [Video(name=name, prompt=job.prompt)], tmp_path)
        assert read_video(tmp_path / f"{name}.mp4").shape == (37, 16, 32, 3)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(f"{name}: {time.perf_counter() - started:.0f} s, peak {peak / 1e9:.1f} GB", flush=True)
        assert peak < LIMIT
