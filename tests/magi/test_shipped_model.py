"""The shipped model: trained, small, loaded like the official ones, and served by the presets."""

from pathlib import Path

import pytest
import torch

import motioncache
from motioncache_eval.detector import detect
from motioncache_eval.video import to_uint8
from motioncache_magi.pipeline import MagiPipeline

MODEL = Path(__file__).parents[2] / "MotionCache4MAGI-1" / "motioncache-tiny"


def load(variant: str) -> MagiPipeline:
    pipe = MagiPipeline.from_pretrained(MODEL, variant=variant)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def distilled() -> MagiPipeline:
    return load("distilled")


def sample(pipe: MagiPipeline, prompt: str, *, seed: int = 0, steps: int = 8, **size: int) -> torch.Tensor:
    """Latents of a video of two chunks."""
    generator = torch.Generator().manual_seed(seed)
    call = {"num_frames": 48, "num_inference_steps": steps, "generator": generator, "output_type": "latent", **size}
    return pipe(prompt, **call).frames


RESTING = "a green square resting over a navy background"
AS_PUBLISHED = {"steps": 64, "height": 32, "width": 48}
"""The published presets are made for 64 steps; a quarter of the area that the model is trained at costs little."""


@pytest.fixture(scope="module")
def vanilla(distilled: MagiPipeline) -> torch.Tensor:
    return sample(distilled, RESTING, **AS_PUBLISHED)


def test_it_is_at_most_16_megabytes() -> None:
    assert sum(path.stat().st_size for path in MODEL.rglob("*.safetensors")) < 16 * 2**20


@pytest.mark.parametrize(("variant", "branches"), [("base", 3), ("distilled", 1)])
def test_both_variants_are_served(variant: str, branches: int) -> None:
    pipe = load(variant)
    assert pipe.config.runtime.cfg_number == branches
    prompt = "a red circle moving right quickly over a teal background"
    vanilla = sample(pipe, prompt, height=32, width=48)
    with motioncache.cached(pipe, "exact"):
        exact = sample(pipe, prompt, height=32, width=48)
    assert vanilla.abs().mean() > 0.3
    assert torch.equal(vanilla, exact)


@pytest.mark.parametrize(
    ("preset", "target", "reuse", "error"),
    [
        ("slow", None, (0.03, 0.2), 0.002),
        ("fast", None, (0.2, 0.5), 0.05),
        ("forecast", 2, (0.4, 0.6), 0.002),
        ("forecast", 3.5, (0.65, 0.8), 0.05),
    ],
)
def test_presets_reuse_and_stay_close(
    distilled: MagiPipeline,
    vanilla: torch.Tensor,
    preset: str,
    target: float | None,
    reuse: tuple[float, float],
    error: float,
) -> None:
    # Measured over 24 captions: the published presets reuse 8 % and 35 %.
    with motioncache.cached(distilled, preset, target_speedup=target) as statistics:
        cached = sample(distilled, RESTING, **AS_PUBLISHED)
    assert reuse[0] < statistics.summary().hit_ratio < reuse[1]
    relative = float((vanilla - cached).square().mean() / vanilla.square().mean())
    assert relative < error


@pytest.mark.parametrize(
    ("background", "colour"), [("teal", "red"), ("navy", "green"), ("gray", "yellow"), ("brown", "white")]
)
def test_it_shows_the_captioned_colours(distilled: MagiPipeline, background: str, colour: str) -> None:
    prompt = f"a {colour} circle moving left quickly over a {background} background"
    found = detect(to_uint8(distilled.decode(sample(distilled, prompt, seed=1))))
    assert (found.background, found.shapes[0].colour) == (background, colour)
