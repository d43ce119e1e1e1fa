"""Reads golden files and builds the small pipeline that they were made with."""

from functools import cached_property
from typing import Any

from diffusers import (
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2Transformer3DModel,
    UniPCMultistepScheduler,
)

from motioncache.motion import Normalisation
from motioncache.policies.distance import Distance
from motioncache.policies.motioncache import MotionCacheConfig
from motioncache_eval.parity import DISTANCE_ROUNDING, WEIGHT_ROUNDING, GoldenFile, Tolerance, read_json
from motioncache_skyreels.compat.published import PublishedMotionCacheConfig

PUBLISHED_COEFFICIENTS = (-52186.2437, 9230.41404, -528.275948, 13.6987616, -0.0499875664)
"""Distance polynomial of the published code for the 1.3B model (TeaCache's fit), highest power first."""


LATENTS = Tolerance(name="latents", absolute=2e-5)
WEIGHTS = Tolerance(name="weights", absolute=1e-6, floor=WEIGHT_ROUNDING)
DISTANCES = Tolerance(name="distances", absolute=1e-12, relative=1e-5, floor=DISTANCE_ROUNDING)


class Golden(GoldenFile):
    """One golden file: `tensors` and what its JSON says of them."""

    @cached_property
    def about(self) -> dict[str, Any]:
        return read_json(self.path.with_suffix(".json"))

    def sibling(self, name: str) -> "Golden":
        """Another file of the same folder."""
        return Golden(self.path.with_name(name))


def build_pipeline(golden: Golden) -> SkyReelsV2DiffusionForcingPipeline:
    """A pipeline around the tiny transformer whose weights lie beside a golden file."""
    weights = golden.sibling(golden.about.get("weights", "weights_diffusers.safetensors"))
    io = golden.about.get("io", {})
    return SkyReelsV2DiffusionForcingPipeline(
        tokenizer=None,  # pyright: ignore[reportArgumentType]
        text_encoder=None,  # pyright: ignore[reportArgumentType]
        transformer=build_transformer(weights),
        vae=None,  # pyright: ignore[reportArgumentType]
        scheduler=UniPCMultistepScheduler(
            flow_shift=io.get("shift", 8.0), use_flow_sigmas=True, prediction_type="flow_prediction"
        ),
    )


def build_transformer(weights: Golden) -> SkyReelsV2Transformer3DModel:
    transformer = SkyReelsV2Transformer3DModel(**weights.about["diffusers_config"])
    transformer.load_state_dict(weights.tensors)
    return transformer.eval()


def cache_config(golden: Golden) -> MotionCacheConfig:
    """The config of an end-to-end trace; `*_reference` files hold the published behaviour.

    Both kinds were made without clamping the distance: that is a choice of ours.
    """
    given = golden.about["cache_config"]
    kind = PublishedMotionCacheConfig if golden.name.endswith("_reference") else MotionCacheConfig
    return kind(
        warmup=given["warmup"],
        chunk_phase_updates=given["phase1"],
        threshold=given["threshold"],
        distance=Distance(given["distance"]),
        coefficients=PUBLISHED_COEFFICIENTS,
        clamp_distance=False,
        normalisation=Normalisation(given["norm"]),
        floor=given["floor"],
        temporal_vote=given["temporal"],
        minimum_update_ratio=given["min_ratio"],
    )
