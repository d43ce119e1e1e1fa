"""The ranges of what a video is sampled with, shared by jobs and pipelines.

An upper limit lies beyond all that the models can do, so that a slip of the keyboard is refused instead of filling the
memory or running for days.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real

from motioncache.config import PolicyConfig
from motioncache.errors import ConfigError, MotionCacheError
from motioncache.field_types import shown


@dataclass(frozen=True, slots=True)
class Limit:
    """The least and the greatest value, both allowed."""

    least: float
    most: float
    whole: bool = True

    def admits(self, value: object) -> bool:
        """Whether a value is a number of this kind and range; numbers of numpy are, true and false are not."""
        kind = Integral if self.whole else Real
        return isinstance(value, kind) and not isinstance(value, bool) and bool(self.least <= value <= self.most)  # pyright: ignore

    def __str__(self) -> str:
        return f"a {'whole ' if self.whole else ''}number from {self.least} to {self.most}"


_AN_HOUR = 24 * 60 * 60 + 1
"""Frames of an hour at 24 frames a second; the models make seconds."""

LIMITS = {
    "height": Limit(1, 4096),  # 4K; the models were trained for 720 rows
    "width": Limit(1, 4096),
    "num_frames": Limit(1, _AN_HOUR),
    "base_num_frames": Limit(1, _AN_HOUR),
    "overlap_history": Limit(1, _AN_HOUR),
    "num_inference_steps": Limit(1, 1000),  # the noise levels that SkyReels-V2 was trained on; MAGI-1 takes 64
    "ar_step": Limit(0, 1000),  # at as many as there are denoise steps, chunks follow one another
    "causal_block_size": Limit(1, 1000),  # the models have 5
    "fps": Limit(1, 240, whole=False),  # the fastest displays
    "guidance_scale": Limit(0, 100, whole=False),  # the models take 1 to 8; latents overflow far above
    "addnoise_condition": Limit(0, 1000, whole=False),  # thousandths of a noise that replaces what is given
    "flow_shift": Limit(0.01, 100, whole=False),  # the models take 3 to 8; beyond, all noise levels are almost one
}
"""By the names of the pipelines' arguments."""


def check_limits(values: Mapping[str, object], *, optional: tuple[str, ...] = ()) -> None:
    """Refuse a value out of its range; values that have none pass.

    Args:
        optional: names of those that may be None.

    Raises:
        ConfigError: it names the value and its range.
    """
    for name, limit in LIMITS.items():
        if name not in values or (name in optional and values[name] is None):
            continue
        if not limit.admits(values[name]):
            null = "null, or " if name in optional else ""
            raise ConfigError(f"{name}: {shown(values[name])} is not allowed; allowed: {null}{limit}")


def check_batch(config: PolicyConfig, batch: int) -> None:
    """Refuse several videos at once where the decisions for one would depend on the others."""
    if batch > 1 and config.mixes_videos:
        raise MotionCacheError(
            f"this call samples {batch} videos at once, and this policy's motion weights are a mean over all of them: "
            "each video would depend on the others. Sample them one by one, or use the preset `exact` or `forecast`"
        )
