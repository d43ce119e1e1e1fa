"""Calls for which diffusers' own sampling is unsound are refused before any work, with advice that then works."""

import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import SkyReelsV2DiffusionForcingImageToVideoPipeline, UniPCMultistepScheduler
from PIL import Image

import motioncache
from motioncache import MotionCacheConfig, MotionCacheError
from motioncache.foreign import PackedHook
from motioncache_skyreels.guards import VideoSize

from .conftest import COEFFICIENTS, generate, make_pipeline


def refusal(pipeline: Any, **call: Any) -> str:
    blocks: list[int] = []
    handle = pipeline.transformer.blocks[0].register_forward_pre_hook(PackedHook(lambda *_: blocks.append(1)))
    with pytest.raises(MotionCacheError) as caught:
        generate(pipeline, **call)
    handle.remove()
    assert blocks == []  # nothing was computed in vain
    return str(caught.value)


def test_frames_that_do_not_divide_into_chunks_and_the_advice_works() -> None:
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, "exact")
    message = refusal(pipeline, num_frames=81, base_num_frames=97)
    assert "num_frames=81 does not divide into chunks of 5 latent frames (21 latent frames)" in message
    assert "num_frames=77 or 97" in message
    generate(pipeline, num_frames=77, base_num_frames=97)


def test_a_last_window_that_does_not_divide_is_refused_before_the_first() -> None:
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, "exact")
    message = refusal(pipeline, num_frames=129, overlap_history=17)
    options = [int(n) for n in re.search(r"pass num_frames=(\d+) or (\d+)", message).groups()]  # type: ignore[union-attr]
    assert options == [117, 137]
    for frames in options:
        assert generate(pipeline, num_frames=frames, overlap_history=17).shape[2] == (frames - 1) // 4 + 1


def test_a_base_that_does_not_divide_is_refused() -> None:
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, "exact")
    message = refusal(pipeline, num_frames=137, base_num_frames=81, overlap_history=17)
    assert "pass base_num_frames=77 or 97" in message


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"num_frames": 137}, "num_frames=137 exceeds base_num_frames=77, .*: pass overlap_history=17"),
        ({"num_frames": 137, "overlap_history": 0}, "overlap_history: 0 is not allowed; .* from 1"),
        ({"num_frames": 137, "overlap_history": -17}, "overlap_history: -17 is not allowed"),
        ({"num_frames": 0}, "num_frames: 0 is not allowed; allowed: a whole number from 1 to 86401"),
        ({"num_frames": 77.0}, "num_frames: 77.0 is not allowed"),
        ({"num_frames": 4_000_000_000_001}, "num_frames: 4000000000001 is not allowed"),
        ({"base_num_frames": None}, "base_num_frames: None is not allowed"),
        ({"causal_block_size": 10**9}, "causal_block_size: 1000000000 is not allowed; .* from 1 to 1000"),
        ({"guidance_scale": math.nan}, "guidance_scale: nan is not allowed; allowed: a number from 0 to 100"),
        ({"guidance_scale": math.inf}, "guidance_scale: inf"),
        ({"guidance_scale": -6}, "guidance_scale: -6"),
        ({"addnoise_condition": math.nan}, "addnoise_condition: nan"),
        ({"num_inference_steps": 1_000_000}, "num_inference_steps: 1000000 is not allowed"),
        ({"ar_step": -1}, "ar_step: -1 is not allowed; allowed: a whole number from 0 to 1000"),
        ({"fps": 1e9}, "fps: 1000000000.0 is not allowed"),
        ({"height": 1e6}, "height: 1000000.0 is not allowed; allowed: a whole number from 1 to 4096"),
        ({"width": 24}, "width must be a multiple of 16, not 24"),
    ],
)
def test_a_number_out_of_range_is_refused(call: dict[str, Any], message: str) -> None:
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, "exact")
    assert re.search(message, refusal(pipeline, **call))


@pytest.mark.parametrize("shift", [math.nan, 0.0, -8, 1e9])
def test_a_scheduler_without_a_shift_in_range_is_refused(shift: float) -> None:
    pipeline = make_pipeline()
    pipeline.scheduler = UniPCMultistepScheduler.from_config(pipeline.scheduler.config, flow_shift=shift)
    motioncache.enable_cache(pipeline, "exact")
    assert f"flow_shift: {shift} is not allowed; allowed: null, or a number from 0.01 to 100" in refusal(pipeline)


def test_numbers_of_numpy_are_numbers() -> None:
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, "exact")
    latents = generate(pipeline, num_frames=np.int64(17), base_num_frames=np.int32(17), guidance_scale=np.float32(6))
    assert torch.equal(latents, generate(pipeline, num_frames=17, base_num_frames=17))


@pytest.mark.parametrize("overlap", [77, 97, 57])
def test_windows_that_share_all_their_frames_are_refused_and_the_advice_works(overlap: int) -> None:
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, "exact")
    message = refusal(pipeline, num_frames=97, base_num_frames=57, overlap_history=overlap)
    assert "leaves windows of 15 latent frames nothing to sample" in message
    assert "pass overlap_history=17 and a base_num_frames of 37 or more" in message
    assert generate(pipeline, num_frames=57, base_num_frames=37, overlap_history=17).shape[2] == 15


def test_windows_that_share_a_part_of_a_chunk_are_refused_and_the_advice_works() -> None:
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, "exact")
    message = refusal(pipeline, num_frames=137, overlap_history=21)
    assert "share 6 latent frames, which do not divide into chunks of 5: pass overlap_history=17 or 37" in message
    for overlap in (17, 37):
        assert generate(pipeline, num_frames=137, overlap_history=overlap).shape[2] == 35


def windows(size: VideoSize) -> list[int]:
    """Latent frames of the windows, one after the other."""
    assert size.base is not None
    assert size.overlap is not None
    lengths, sampled = [], 0
    while sampled < size.latent_frames:
        lengths.append(min(size.latent_frames - sampled + (size.overlap if lengths else 0), size.base))
        sampled += lengths[-1] - (size.overlap if len(lengths) > 1 else 0)
    return lengths


def test_a_video_divides_if_all_its_windows_do() -> None:
    sizes = [
        VideoSize(num_frames=4 * frames - 3, chunk=chunk, factor=4, base=base, overlap=overlap)
        for chunk in (1, 2, 3, 5)
        for base in (5, 6, 10)
        for overlap in (1, 2, 4)
        for frames in range(base + 1, 40)
    ]
    for size in sizes:
        assert size.windows == len(windows(size))
        assert size.divides(size.latent_frames) == all(length % size.chunk == 0 for length in windows(size))


def test_asynchronous_sampling_without_chunks_is_refused() -> None:
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, "exact")
    assert "pass causal_block_size=5" in refusal(pipeline, causal_block_size=1, ar_step=3)


def image_pipeline() -> Any:
    return make_pipeline(SkyReelsV2DiffusionForcingImageToVideoPipeline)


IMAGE = Image.new("RGB", (32, 16), (90, 120, 150))


def test_an_image_in_a_chunk_of_several_frames_is_refused_and_the_advice_works() -> None:
    pipeline = image_pipeline()
    motioncache.enable_cache(pipeline, "exact")
    message = refusal(pipeline, image=IMAGE)
    assert "1 given latent frames do not fill chunks of 5" in message
    assert "ar_step=0, causal_block_size=1" in message
    generate(pipeline, image=IMAGE, ar_step=0, causal_block_size=1)


def test_an_end_frame_with_chunks_is_refused() -> None:
    pipeline = image_pipeline()
    motioncache.enable_cache(pipeline, "exact")
    assert "last_image cannot be combined with chunks of 5" in refusal(pipeline, image=IMAGE, last_image=IMAGE)


@pytest.mark.parametrize("call", [{}, {"last_image": IMAGE}])
def test_image_to_video_with_full_attention_equals_vanilla(call: dict[str, Any]) -> None:
    pipeline = image_pipeline()
    options = {"image": IMAGE, "ar_step": 0, "causal_block_size": 1, **call}
    vanilla = generate(pipeline, **options)
    with motioncache.cached(pipeline, "exact"):
        assert (vanilla - generate(pipeline, **options)).abs().max() < 2e-5
    with motioncache.cached(pipeline, MotionCacheConfig(coefficients=COEFFICIENTS, warmup=1, threshold=0.3)):
        generate(pipeline, **options)


def test_a_model_without_a_polynomial_is_refused_with_the_command_that_fits_one() -> None:
    pipeline = make_pipeline()
    with pytest.raises(
        MotionCacheError, match=r"2 layers and width 48: fit one with `python -m motioncache_skyreels\.fit_polynomial"
    ):
        motioncache.enable_cache(pipeline, "slow")
    generate(pipeline)  # and nothing was left behind
    assert "prepare_latents" not in vars(pipeline)


def test_weights_that_are_not_in_memory_are_refused() -> None:
    pipeline = make_pipeline()
    pipeline.transformer.condition_embedder.time_proj.to("meta")
    motioncache.enable_cache(pipeline, MotionCacheConfig(coefficients=COEFFICIENTS))
    with pytest.raises(MotionCacheError, match="sequential CPU offload"):
        generate(pipeline)


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(MotionCacheError, match=r"unknown preset 'slwo'; .* has: exact, slow, fast"):
        motioncache.enable_cache(make_pipeline(), "slwo")


def test_a_forward_that_somebody_replaced_is_refused() -> None:
    pipeline = make_pipeline()
    pipeline.transformer.forward = lambda *a, **k: torch.zeros(1)
    with pytest.raises(MotionCacheError, match=r"replaced by .*lambda"):
        motioncache.enable_cache(pipeline, "exact")
    assert "cache_context" not in vars(pipeline.transformer)


def test_a_transformer_that_is_cached_through_another_pipeline_is_refused_and_stays_as_it_is() -> None:
    pipeline = make_pipeline()
    vanilla = generate(pipeline)
    other = type(pipeline)(**pipeline.components)
    other.set_progress_bar_config(disable=True)
    motioncache.enable_cache(pipeline, "exact")
    assert torch.equal(generate(other), vanilla)  # its own calls are none of ours
    with pytest.raises(MotionCacheError, match="cache of another pipeline that shares it"):
        motioncache.enable_cache(other, "exact")
    assert (generate(pipeline) - vanilla).abs().max() < 2e-5
    motioncache.disable_cache(pipeline)
    assert torch.equal(generate(pipeline), vanilla)


def test_a_compiled_part_of_a_block_is_refused() -> None:
    pipeline = make_pipeline()
    pipeline.transformer.blocks[0].ffn.compile()
    with pytest.raises(MotionCacheError, match=r"`blocks\.0\.ffn` is compiled"):
        motioncache.enable_cache(pipeline, "exact")


def test_another_transformer_is_refused() -> None:
    pipeline = make_pipeline()
    pipeline.transformer = torch.nn.Linear(1, 1)
    with pytest.raises(MotionCacheError, match="the pipeline's transformer is a Linear"):
        motioncache.enable_cache(pipeline, "exact")
