"""Nonsense in jobs and in calls of pipelines: it is refused in one line and at once, and what is accepted is listed."""

import math
import random
import time
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import SkyReelsV2DiffusionForcingPipeline

import motioncache
from motioncache import MotionCacheError
from motioncache.config import structured
from motioncache_magi.job.config import MagiJobConfig
from motioncache_magi.model.dit import VideoDiT
from motioncache_magi.pipeline import MagiPipeline
from motioncache_magi.vae.config import VaeConfig
from motioncache_magi.vae.vit import ViTVAE
from motioncache_skyreels.job.config import JobConfig

from ..magi.conftest import VAE, small_config
from ..skyreels.conftest import make_pipeline

HUGE = 10**400
VALUES: list[Any] = [
    *(None, True, False, 0, 1, 2, -1, 5, 16, 17, 48, 97, 10**6, 10**12, HUGE, -HUGE, 0.0, -0.5, 0.5, 2.5, 1e6, 1e300),
    *(math.nan, math.inf, -math.inf, "", " ", "1", "17", "1e9", "nan", ".inf", "cpu", "cuda:0", "cuda:x", "tpu"),
    *("float32", "bfloat16", "float8", "${oc.env:HOME}", "???", "a\nb", "\0", "x" * 10_000, b"16", [], [16], [None]),
    *({}, {"a": 1}, (1, 2), {1}, object, len, 1j, Path("x")),
]
"""What is put into every field and argument."""


def words(value: Any) -> str:
    """A value, as the lists of this file write it."""
    text = repr(value)
    return text if len(text) < 30 else f"{type(value).__name__} of {len(text)}"


def outcome(call: Callable[[], object]) -> bool:
    """Whether a call is accepted; a refusal is of our own, has one line that is not too long, and comes at once."""
    started, refusal = time.process_time(), None  # the clock would count what else the machine does
    try:
        call()
    except MotionCacheError as error:
        refusal = str(error)
    assert time.process_time() - started < 2
    assert refusal is None or len(refusal.splitlines()) == 1
    assert refusal is None or len(refusal) < 1000
    return refusal is None


def accepted(cases: Sequence[tuple[str, Any]], make: Callable[..., object]) -> dict[str, list[str]]:
    """By name, the values that are accepted by `make(name=value)`."""
    taken: dict[str, list[str]] = {}
    for name, value in cases:
        if outcome(lambda name=name, value=value: make(**{name: value})):
            taken.setdefault(name, []).append(words(value))
    return taken


def drawn(names: Sequence[str], count: int) -> list[tuple[str, Any]]:
    """So many values for each name, drawn for this name alone."""
    return [(name, value) for name in names for value in random.Random(name).sample(VALUES, count)]


SKYREELS_JOB = {
    "addnoise_condition": ["1", "0", "0.0"],
    "ar_step": ["1"],
    "base_num_frames": ["97"],
    "causal_block_size": ["'17'"],
    "dtype": ["'float32'"],
    "flow_shift": ["17", "0.5"],
    "fps": ["16", "2"],
    "guidance_scale": ["2.5", "16", "17"],
    "height": ["16"],
    "num_frames": ["'17'"],
    "num_inference_steps": ["5", "2", "16", "'17'"],
    "seed": ["16", "0"],
}
MAGI_JOB = {
    "dtype": ["'float32'"],
    "fps": ["None", "16", "2"],
    "height": ["17", "16", "'17'"],
    "num_frames": ["2", "'17'", "48"],
    "num_inference_steps": ["5", "2", "None", "16", "'17'"],
    "seed": ["16", "0"],
    "width": ["5"],
}
SKYREELS_CALL = {
    "addnoise_condition": ["1", "0", "0.0", "17", "16", "5"],
    "ar_step": ["1", "5"],
    "base_num_frames": ["97"],
    "causal_block_size": ["17", "16", "2"],
    "fps": ["16", "2", "5"],
    "guidance_scale": ["2.5", "16", "17", "0.5"],
    "height": ["16"],
    "num_frames": ["2", "48", "97", "5", "16", "1"],
    "num_inference_steps": ["5", "2", "16"],
    "overlap_history": ["None"],
    "width": ["48"],
}
MAGI_STREAM = {
    "height": ["16"],
    "image": ["None"],
    "num_frames": ["2", "48", "97", "5", "16", "1"],
    "num_inference_steps": ["None", "16"],
    "prompt": [
        "' '",
        "'bfloat16'",
        "'17'",
        "'cpu'",
        "'cuda:0'",
        "'float8'",
        "'.inf'",
        "'1e9'",
        "'${oc.env:HOME}'",
        "'cuda:x'",
        "'\\x00'",
    ],
    "width": ["48"],
}
"""What is accepted of the drawn pairs. A person has read these lists."""


SKYREELS_NUMBERS = (
    *("height", "width", "num_frames", "num_inference_steps", "guidance_scale", "overlap_history", "base_num_frames"),
    *("addnoise_condition", "ar_step", "causal_block_size", "fps"),
)
MAGI_NUMBERS = ("height", "width", "num_frames", "num_inference_steps")
JOB_ONLY = ("seed", "device", "dtype", "cpu_offload")


def test_a_job_of_skyreels_accepts_these_and_nothing_else() -> None:
    cases = drawn((*SKYREELS_NUMBERS, "flow_shift", *JOB_ONLY), 12)
    found = accepted(cases, lambda **values: structured(JobConfig, {"prompt": "a", **values}, where="job"))
    assert found == SKYREELS_JOB


def test_a_job_of_magi_accepts_these_and_nothing_else() -> None:
    cases = drawn((*MAGI_NUMBERS, "fps", *JOB_ONLY), 12)
    given = {"prompt": "a", "model": "m"}
    found = accepted(cases, lambda **values: structured(MagiJobConfig, {**given, **values}, where="job"))
    assert found == MAGI_JOB


class Unsampled(SkyReelsV2DiffusionForcingPipeline):
    """A pipeline whose call does nothing."""

    @wraps(SkyReelsV2DiffusionForcingPipeline.__call__)
    def __call__(self, *args: Any, **kwargs: Any) -> None:
        return None


def test_a_call_of_skyreels_accepts_these_and_nothing_else() -> None:
    pipeline = make_pipeline(Unsampled)
    motioncache.enable_cache(pipeline, "exact")
    found = accepted(drawn(SKYREELS_NUMBERS, 24), lambda **values: pipeline("a", **{"overlap_history": 17, **values}))
    assert found == SKYREELS_CALL


def unsampled_magi() -> MagiPipeline:
    """A pipeline without weights in memory; what its `stream` accepts is never asked for frames."""
    config = small_config()
    torch.manual_seed(0)
    vae = ViTVAE(VaeConfig.from_official(VAE))
    with torch.device("meta"):
        transformer = VideoDiT(config.model)
    encoder: Any = None
    return MagiPipeline(transformer, vae, encoder, config)


MAGI_ARGUMENTS = (
    *MAGI_NUMBERS,
    *("prompt", "image", "video", "generator", "latents", "output_type", "switches"),
)


def test_a_stream_of_magi_accepts_these_and_nothing_else() -> None:
    pipeline = unsampled_magi()
    found = accepted(drawn(MAGI_ARGUMENTS, 24), lambda **values: pipeline.stream(**{"prompt": "a", **values}))
    assert found == MAGI_STREAM


def is_speedup(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value < math.inf and value != HUGE


@pytest.mark.parametrize("create", [make_pipeline, unsampled_magi])
def test_a_cache_is_enabled_with_none_of_these(create: Callable[[], Any]) -> None:
    pipeline = create()
    cases = [("preset", value) for value in VALUES if value is not None]
    cases += [("target_speedup", value) for value in VALUES if value is not None and not is_speedup(value)]
    assert accepted(cases, lambda **given: motioncache.enable_cache(pipeline, **given)) == {}
