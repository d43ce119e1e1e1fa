"""The shipped model: trained, small, loaded like any other, and served by the presets."""

from pathlib import Path

import pytest
import torch
from diffusers import SkyReelsV2DiffusionForcingPipeline

import motioncache
from motioncache_diffusers.autoencoder import decode
from motioncache_eval.detector import detect
from motioncache_eval.video import to_uint8
from motioncache_skyreels.job.config import JobConfig
from motioncache_skyreels.job.load import load_pipeline
from motioncache_skyreels.job.sample import sample

MODEL = Path(__file__).parents[2] / "MotionCache4SkyReels-V2" / "motioncache-tiny"


@pytest.fixture(scope="module")
def shipped() -> SkyReelsV2DiffusionForcingPipeline:
    pipeline = load_pipeline(JobConfig(model=str(MODEL), prompt="any"))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def job(prompt: str, **changes: int) -> JobConfig:
    sizes = {"num_frames": 37, "base_num_frames": 37, "num_inference_steps": 10, **changes}
    return JobConfig(model=str(MODEL), prompt=prompt, **sizes)  # pyright: ignore[reportArgumentType]


def test_it_is_at_most_16_megabytes() -> None:
    assert sum(path.stat().st_size for path in MODEL.rglob("*.safetensors")) < 16 * 2**20


def test_it_loads_as_a_user_loads_the_official_ones() -> None:
    pipeline = SkyReelsV2DiffusionForcingPipeline.from_pretrained(MODEL, dtype=torch.bfloat16)
    motioncache.enable_cache(pipeline, "forecast")  # its calibration knows the weights in any precision


def test_exact_equals_vanilla(shipped: SkyReelsV2DiffusionForcingPipeline) -> None:
    given = job("a red circle moving right quickly over a teal background")
    vanilla = sample(shipped, given, None)
    exact = sample(shipped, given, motioncache.NoCacheConfig())
    assert vanilla.latents.abs().mean() > 0.3
    assert (vanilla.latents - exact.latents).abs().max() < 1e-4


def test_presets_reuse_much_and_stay_close(shipped: SkyReelsV2DiffusionForcingPipeline) -> None:
    # The presets are made for 50 steps. A third of the area that the model is trained at shows as much.
    given = job("a green square resting over a navy background", num_inference_steps=50, height=32, width=64)
    vanilla = sample(shipped, given, None)
    for preset, target in (("slow", None), ("fast", None), ("forecast", 3), ("forecast", 4.5), ("forecast", 6)):
        with motioncache.cached(shipped, preset, target_speedup=target) as statistics:
            cached = sample(shipped, given, None)
        assert 0.2 < statistics.summary().hit_ratio < 0.9
        assert (vanilla.latents - cached.latents).square().mean() < 0.05 * vanilla.latents.square().mean()


@pytest.mark.parametrize(
    ("background", "colour"), [("teal", "red"), ("navy", "green"), ("gray", "yellow"), ("brown", "white")]
)
def test_it_shows_the_captioned_colours(
    shipped: SkyReelsV2DiffusionForcingPipeline, background: str, colour: str
) -> None:
    given = job(f"a {colour} circle moving left quickly over a {background} background", seed=1)
    found = detect(to_uint8(decode(shipped, sample(shipped, given, motioncache.NoCacheConfig()).latents)))
    assert (found.background, found.shapes[0].colour) == (background, colour)
