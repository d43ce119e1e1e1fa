"""Calls for which diffusers' own sampling is unsound are refused before any work, with advice that then works."""

import re
from typing import Any

import pytest
import torch
from diffusers import SkyReelsV2DiffusionForcingImageToVideoPipeline
from PIL import Image

import motioncache
from motioncache import MotionCacheConfig, MotionCacheError
from motioncache.foreign import PackedHook

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
        motioncache.enable_cache(pipeline, "paper-slow")
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


def test_a_compiled_transformer_is_refused() -> None:
    pipeline = make_pipeline()
    pipeline.transformer.blocks[0].compile()
    with pytest.raises(MotionCacheError, match=r"`blocks\.0` is compiled"):
        motioncache.enable_cache(pipeline, "exact")


def test_another_transformer_is_refused() -> None:
    pipeline = make_pipeline()
    pipeline.transformer = torch.nn.Linear(1, 1)
    with pytest.raises(MotionCacheError, match="the pipeline's transformer is a Linear"):
        motioncache.enable_cache(pipeline, "exact")
