"""The models that the studio offers, and the one that is loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from motioncache.config import PolicyConfig, plain_values, read_yaml
from motioncache.errors import ConfigError, MotionCacheError
from motioncache_eval.cli.options import Choice, choose
from motioncache_eval.job_cost import JobCost
from motioncache_eval.jobs import LoadedJob, policy_of
from motioncache_eval.settings import require

VANILLA = "vanilla"
"""Stands among the presets for sampling without a cache."""

WISHES = (
    "prompt", "negative_prompt", "image", "video", "num_frames", "height", "width", "num_inference_steps", "seed",
    "target_speedup",
)  # fmt: skip
"""Settings of a job that the page sets. What a model does not have of them is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What somebody asks for: a job, and the policy it is sampled with.

    Attributes:
        model: as it is offered.
        preset: the name of a preset, or `vanilla`.
        policy: None samples without a cache.
    """

    model: str
    preset: str
    job: Any
    policy: PolicyConfig | None

    def on(self, device: str) -> "Wanted":
        """The same on another device."""
        return replace(self, job=replace(self.job, device=device))


class Models:
    """The models that the studio offers; on each device, the one that was asked for last stays loaded.

    Args:
        names: what a job's `model` may be: names of shipped models, folders and hub ids.
        settings: `key=value` texts for every job, such as the device.

    Raises:
        MotionCacheError: for a name that stands for no model, or a setting that a model does not take.
    """

    def __init__(self, names: Sequence[str], settings: Sequence[str] = ()) -> None:
        self._choices: dict[str, Choice] = {name: choose([f"model={name}", *settings]) for name in names}
        self._loaded: dict[str, tuple[str, LoadedJob]] = {}  # by device

    @property
    def names(self) -> list[str]:
        return list(self._choices)

    def presets(self, name: str) -> list[str]:
        """What a model can be sampled with."""
        path = self._choice(name).model.adapter().presets()
        return [VANILLA, *map(str, plain_values(read_yaml(path).get("presets"), where=f"{path}: presets"))]

    def takes(self, name: str) -> set[str]:
        """The settings that the page may set for a model."""
        return {field.name for field in fields(self._choice(name).model.schema)} & set(WISHES)

    def defaults(self, name: str) -> dict[str, Any]:
        """The settings of a job of a model where none is named; empty for a model that is not offered any more."""
        return asdict(choose([f"model={name}"]).job(_None, "prompt=a video")) if name in self._choices else {}

    def read(self, name: str, preset: str, wishes: Mapping[str, object]) -> Wanted:
        """Check what somebody asks for; nothing is loaded yet.

        Args:
            wishes: by the names of `WISHES`; None takes the model's own.

        Raises:
            MotionCacheError: for a setting out of range, or one that the model does not have.
        """
        choice, presets = self._choice(name), self.presets(name)
        require("preset", preset, preset in presets, ", ".join(presets))
        unknown = [key for key, value in wishes.items() if value is not None and key not in self.takes(name)]
        if unknown:
            raise ConfigError(f"{name} takes no {', '.join(unknown)}: leave it out")
        texts = [f"{key}={value}" for key, value in wishes.items() if value is not None]
        chosen = "null" if preset == VANILLA else preset
        try:
            job = choice.job(_None, *texts, f"preset={chosen}")
        except ConfigError as error:  # whoever asks knows of no file
            raise ConfigError(
                str(error).removeprefix(f"{choice.config.name if choice.config else 'overrides'}.")
            ) from None
        policy = None if preset == VANILLA else policy_of(choice.model.adapter(), job)
        return Wanted(model=name, preset=preset, job=job, policy=policy)

    def load(self, wanted: Wanted) -> LoadedJob:
        """The model on the job's device, loaded if it is not yet; the one before it is let go first."""
        device = wanted.job.device
        if self._loaded.get(device, ("",))[0] != wanted.model:
            self._loaded.pop(device, None)
            self._loaded[device] = (wanted.model, self._choice(wanted.model).model.load(wanted.job))
        return self._loaded[device][1].of_job(wanted.job)

    def cost(self, wanted: Wanted) -> JobCost | None:
        """What a video takes; None where the model's package does not know."""
        return self._choice(wanted.model).model.cost(wanted.job)

    def _choice(self, name: str) -> Choice:
        if name not in self._choices:
            raise MotionCacheError(
                f"the studio was not started with the model {name!r}; it has: {', '.join(self.names)}"
            )
        return self._choices[name]


@dataclass(frozen=True, slots=True)
class _None:
    """The settings of a command that has none of its own."""
