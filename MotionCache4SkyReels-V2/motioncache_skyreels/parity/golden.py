"""Reads golden files and builds the small pipeline that they were made with."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2Transformer3DModel,
    UniPCMultistepScheduler,
)
from safetensors.torch import load_file

from motioncache.config import Distance, MotionCacheConfig
from motioncache.errors import MotionCacheError
from motioncache.motion import Normalisation

PUBLISHED_COEFFICIENTS = (-52186.2437, 9230.41404, -528.275948, 13.6987616, -0.0499875664)
"""Distance polynomial of the published code for the 1.3B model (TeaCache's fit), highest power first."""


@dataclass(frozen=True)
class Golden:
    """One golden file: `tensors` and what its JSON says of them."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.stem

    @cached_property
    def about(self) -> dict[str, Any]:
        try:
            return json.loads(self.path.with_suffix(".json").read_text())
        except (OSError, json.JSONDecodeError) as error:
            raise MotionCacheError(f"{self.path.with_suffix('.json')} cannot be read: {error}") from None

    @cached_property
    def tensors(self) -> dict[str, torch.Tensor]:
        try:
            return load_file(self.path)
        except Exception as error:  # safetensors raises its own error types for damaged files
            raise MotionCacheError(f"{self.path} cannot be read: {error}") from None

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
    return MotionCacheConfig(
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
        reference_quirks=golden.name.endswith("_reference"),
    )
