"""What a run makes: every preset's policy, folder and videos, known before anything is loaded."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from motioncache.config import PolicyConfig
from motioncache.errors import ConfigError
from motioncache_eval.jobs import JobModel, policy_of
from motioncache_eval.vbench.config import VBenchConfig, load_vbench
from motioncache_eval.vbench.folder import OutputFolder
from motioncache_eval.vbench.prompts import Video, list_videos, suites_of
from motioncache_eval.vbench.record import Record, describe_policy, fingerprint, installed_versions

VANILLA = "vanilla"
"""In the place of a preset: no cache."""

LONG_PROMPTS = "prompts/augmented_prompts/gpt_enhanced_prompts/prompts_per_dimension_longer"
"""Where VBench's repository has its long prompts."""

_RECORDED_OTHERWISE = (
    "model", "preset", "target_speedup", "allow_foreign_calibration", "prompt", "device", "cpu_offload", "output",
    "split_guidance", "chunks_at_once",
)  # fmt: skip
"""Settings of a job that the record holds in another form, or that change no video."""


@dataclass(frozen=True, slots=True)
class Item:
    """One video of one preset."""

    preset: str
    video: Video

    def __str__(self) -> str:
        return f"{self.preset}/{self.video.key}"

    def to_json(self) -> dict[str, Any]:
        return {"preset": self.preset, "video": asdict(self.video)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Item":
        return cls(values["preset"], Video(**values["video"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run.

    Attributes:
        job: the settings of all videos, without prompt, seed and device.
        policies: of each preset, by the name of its folder; None samples without a cache.
        videos: of each preset.
    """

    settings: VBenchConfig
    model: JobModel
    job: Any
    policies: dict[str, PolicyConfig | None]
    videos: list[Video]

    @property
    def output(self) -> Path:
        return Path(self.settings.output)

    def folder(self, preset: str) -> OutputFolder:
        return OutputFolder(self.output / preset)

    def items(self) -> list[Item]:
        """All videos; those of one prompt follow each other, so that presets can be compared before all are made."""
        return [Item(preset, video) for video in self.videos for preset in self.policies]

    def seed(self, video: Video) -> int | None:
        """The seed of a video, which neither the order nor the number of processes changes; None is the model's."""
        if self.settings.same_seed or self.job.seed is None:
            return self.job.seed
        return video_seed(self.job.seed, video)

    def describe(self, preset: str) -> Record:
        """All that decides what the videos of a preset look like, but for their prompts and seeds."""
        folder, policy = Path(self.job.model), self.policies[preset]
        sampling = {key: value for key, value in asdict(self.job).items() if key not in _RECORDED_OTHERWISE}
        presets = self.model.adapter().presets()
        record = {
            "model": fingerprint(folder) if folder.is_dir() else self.job.model,
            **sampling,
            "same_seed": self.settings.same_seed,
            "policy": {"name": VANILLA} if policy is None else describe_policy(policy, presets),
            "versions": installed_versions(),
        }
        return json.loads(json.dumps(record, default=lambda value: value.value))


def make_plan(model: JobModel, config: Path, overrides: Sequence[str]) -> Plan:
    """Read the settings, and list what they ask for.

    Raises:
        MotionCacheError: if a setting, a preset or a list of prompts is wrong.
    """
    settings, job = load_vbench(model, config, overrides)
    policies = {
        name: None if preset == VANILLA else policy_of(model.adapter(), replace(job, preset=preset))
        for name, preset in _folders(settings.presets).items()
    }
    return Plan(settings=settings, model=model, job=job, policies=policies, videos=_videos(settings))


def _folders(presets: Sequence[str]) -> dict[str, str]:
    """The name of each preset's folder, which is that of the preset, or of its file."""
    folders: dict[str, str] = {}
    for preset in presets:
        name = Path(preset).stem if preset.endswith((".yaml", ".yml")) else preset
        if name in folders:
            raise ConfigError(f"vbench.presets: two of {', '.join(presets)} would have the folder {name}: rename one")
        folders[name] = preset
    return folders


def _videos(settings: VBenchConfig) -> list[Video]:
    long = _path(settings.long_prompts)
    if long is not None and not long.exists() and settings.dry_run:
        print(f"the long prompts are not there ({long}); names and numbers are those of the short ones")
        long = None
    if long is not None and not long.exists():
        raise ConfigError(
            f"vbench.long_prompts: there is no {long}; clone https://github.com/Vchitect/VBench, and pass "
            f"long_prompts=VBench/{LONG_PROMPTS}, or null for the short prompts"
        )
    flickering = settings.flickering_samples
    return list_videos(
        suites_of(settings.dimensions),
        samples=settings.samples_per_prompt,
        full_info=_path(settings.full_info),
        short=_path(settings.short_prompts),
        long=long,
        samples_of={} if flickering is None else {"temporal_flickering": flickering},
    )


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def video_seed(seed: int, video: Video) -> int:
    """A seed that depends on the video alone."""
    digest = hashlib.sha256(f"{seed}/{video.suite}/{video.name}".encode()).digest()
    return int.from_bytes(digest[:7], "big")
