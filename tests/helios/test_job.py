"""A job of Helios through the commands, on a model of random weights."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import HeliosPipeline, HeliosPyramidPipeline, HeliosTransformer3DModel

from motioncache.api import enable_cache
from motioncache.errors import MotionCacheError
from motioncache.policies.none import NoCacheConfig
from motioncache_eval.bench.config import Method
from motioncache_eval.jobs import policy_of
from motioncache_helios.adapter import HeliosAdapter
from motioncache_helios.bench import load as load_bench
from motioncache_helios.fit_polynomial import main as fit_polynomial
from motioncache_helios.job.config import JobConfig, load_job
from motioncache_helios.job.model import HeliosJobs
from motioncache_helios.job.sample import CHUNK_LATENTS
from motioncache_train.captions import TEXT_DIM, create_tokenizer
from motioncache_train.text import create_text_encoder

from .conftest import make_pipeline

SMALL = ["height=16", "width=32", "num_frames=66", "num_inference_steps=4", "dtype=float32", "prompt=a red circle"]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline with random weights, saved as the official repository is."""
    tokenizer, pipeline = create_tokenizer(), make_pipeline()
    torch.manual_seed(0)
    transformer = HeliosTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=TEXT_DIM, freq_dim=32,
        ffn_dim=48, rope_dim=(4, 4, 4), num_layers=2,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("models") / "tiny"
    HeliosPipeline(
        tokenizer=tokenizer,  # pyright: ignore[reportArgumentType]
        text_encoder=create_text_encoder(len(tokenizer)),
        transformer=transformer,
        vae=pipeline.vae,
        scheduler=pipeline.scheduler,
    ).save_pretrained(folder)
    return folder


def test_the_shipped_settings_load() -> None:
    job = load_job(HeliosJobs.config, [])
    assert (job.num_frames, job.num_inference_steps, job.guidance_scale) == (132, 50, 5.0)
    assert policy_of(HeliosAdapter(), job) == policy_of(HeliosAdapter(), JobConfig(prompt="a", preset="slow"))


def test_a_model_is_recognised_by_its_pipeline(model_folder: Path, tmp_path: Path) -> None:
    jobs = HeliosJobs()
    assert jobs.recognises(str(model_folder))
    assert not jobs.recognises(str(tmp_path))


def test_a_benchmark_samples_without_and_with_a_cache_and_decodes(model_folder: Path) -> None:
    bench = load_bench(HeliosJobs.config, [*SMALL, f"model={model_folder}"])
    vanilla, exact = (
        bench.take(bench.job, Method(name=name, policy=policy))
        for name, policy in (("vanilla", None), ("exact", NoCacheConfig()))
    )
    assert (vanilla.sample.latents - exact.sample.latents).abs().max() < 2e-5
    assert 0 < exact.flops < vanilla.flops
    assert vanilla.first_chunk_seconds is not None
    frames = bench.decode(bench.job, vanilla.sample.latents)
    assert vanilla.sample.latents.shape[2] == 2 * CHUNK_LATENTS
    assert frames.shape == (66, 3, 16, 32)
    assert bench.spans(66) == [slice(0, 33), slice(33, 66)]


def test_a_benchmark_decodes_what_the_pipeline_decodes(model_folder: Path) -> None:
    bench = load_bench(HeliosJobs.config, [*SMALL, f"model={model_folder}", "num_inference_steps=2"])
    ours = bench.decode(bench.job, bench.call(bench.pipeline, bench.job, lambda: None))
    theirs = bench.pipeline(
        "a red circle", negative_prompt="", height=16, width=32, num_frames=66, num_inference_steps=2,
        guidance_scale=5.0, generator=torch.Generator().manual_seed(0), output_type="pt",
    ).frames[0]  # fmt: skip
    assert len(theirs) == 65  # diffusers cuts frames that fill no latent frame
    assert (ours[:65] - theirs).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("num_frames=97", "a multiple of 33"),
        ("height=20", "a multiple of 16"),
        ("num_inference_steps=1", "2 or more"),
        ("dtype=int8", "bfloat16"),
        ("model=nowhere", "there is no model folder"),
    ],
)
def test_a_setting_that_is_wrong_is_refused(override: str, says: str) -> None:
    jobs = HeliosJobs()
    with pytest.raises(MotionCacheError, match=says):
        jobs.load(jobs.read(jobs.config, [*SMALL, override]))


def test_a_pyramid_pipeline_is_refused_by_name() -> None:
    with pytest.raises(MotionCacheError, match="HeliosPyramidPipeline"):
        enable_cache(make_pipeline(HeliosPyramidPipeline), NoCacheConfig(), adapter=HeliosAdapter())


def test_a_polynomial_is_fitted(model_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "fit.json"
    options = ["num_inference_steps=6", "num_frames=33", "--degree", "2", "--output", str(output)]
    assert fit_polynomial([str(model_folder), *SMALL, *options]) == 0
    result = json.loads(output.read_text())
    assert (result["layers"], result["width"], len(result["change"])) == (2, 24, 5)
    assert all(value > 0 for value in result["change"] + result["residual_change"])
