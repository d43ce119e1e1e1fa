"""What a model's package registers, so that the command line, the demo and the benchmark can sample with it."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from motioncache.api import disable_cache, enable_cache
from motioncache.config import PolicyConfig
from motioncache.errors import MotionCacheError
from motioncache.registry import Adapter, Preset, resolve_preset
from motioncache_eval.out_of_memory import explain_out_of_memory
from motioncache_eval.sampling import Sample, take_sample
from motioncache_eval.team import ALONE, Team

if TYPE_CHECKING:
    from motioncache_eval.bench.model import BenchModel
    from motioncache_eval.job_cost import JobCost
    from motioncache_eval.measured_memory import MeasuredMemory, MemorySettings, Released
    from motioncache_eval.memory import Footprint

GROUP = "motioncache.jobs"
"""Entry points of the models, by name: each is a class of the kind `JobModel`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedJob:
    """A job whose pipeline is loaded.

    Attributes:
        job: the settings, with at least `model`, `preset`, `target_speedup`, `prompt`, `seed`, `num_inference_steps`,
            `num_frames`, `height`, `width`, `fps`, `device` and `output`.
        pipeline: has `set_progress_bar_config`.
        encode: encodes the prompt of a job ahead of its calls. What was made of the last prompts is kept, so that the
            videos of a prompt pay for it once; from the first on, the text encoder waits on the host.
        call: samples with the pipeline, cached or not, what a job says, and returns latents; calls its last argument
            when the first chunk is clean.
        stream: samples with the pipeline, cached or not, what a job says, and yields float frames `[frames, 3, height,
            width]` in [0, 1] of each chunk as soon as it is clean; calls its last argument after each model call with
            the share of all that are done.
        decode: latents of a job to float frames `[frames, 3, height, width]` in [0, 1] on the host.
        fit: another job of the same model, with what it leaves open filled in; refuses what cannot be sampled.
        warm_up: a short call of a job, so that no video pays for first-time allocations.
        branch: the CFG branch whose decisions are shown.
        exact_is_vanilla: the preset `exact` computes what the pipeline computes without a cache.
        team: the processes that sample together.
    """

    adapter: Adapter
    job: Any
    pipeline: Any
    encode: Callable[[Any], None]
    call: Callable[[Any, Any, Callable[[], None]], torch.Tensor]
    stream: Callable[[Any, Any, Callable[[float], object]], Generator[torch.Tensor]]
    decode: Callable[[Any, torch.Tensor], torch.Tensor]
    fit: Callable[[Any], Any]
    warm_up: Callable[[Any], object]
    branch: str
    exact_is_vanilla: bool = False
    team: Team = ALONE

    def of_job(self, job: Any) -> "LoadedJob":
        """The same pipeline for another job of its model."""
        return replace(self, job=self.fit(job))

    def check(self, policy: PolicyConfig) -> None:
        """Refuse a policy that the pipeline cannot be sampled with, before any work is done."""
        enable_cache(self.pipeline, policy, parallel=self.team.parallel, adapter=self.adapter)
        disable_cache(self.pipeline)

    def make_video(
        self, job: Any, policy: PolicyConfig | None, *, prepare: Callable[[Any], None] | None = None
    ) -> tuple[Sample, torch.Tensor]:
        """Sample a video of a job, and decode it; of several processes, the others than the first have no frames.

        Args:
            policy: None samples without a cache.
            prepare: see `take_sample`.
        """
        with explain_out_of_memory(job):
            sample = take_sample(
                self.pipeline,
                lambda: self.call(self.pipeline, job, lambda: None),
                policy,
                device=job.device,
                adapter=self.adapter,
                parallel=self.team.parallel,
                prepare=prepare,
            )
            if not self.team.leads:
                return sample, torch.empty(0, 3, job.height, job.width)
            return sample, self.decode(job, sample.latents)


class JobModel(Protocol):
    """A model's package, as it is registered under `motioncache.jobs`; making one imports no model library.

    Attributes:
        schema: the dataclass of a job's settings.
        config: YAML file of a job, with the small model if one is shipped; an installed wheel has none.
        shipped: whether a small model is shipped.
        takes: what the setting `model` may be, in words.
    """

    schema: type
    config: Path
    shipped: bool
    takes: str

    def adapter(self) -> Adapter: ...

    def recognises(self, model: str) -> bool:
        """Whether a folder or hub id holds this model."""
        ...

    def read(self, config: Path | None, overrides: Sequence[str]) -> Any:
        """The job of a YAML file, or of the defaults, with `key=value` texts."""
        ...

    def load(self, job: Any) -> LoadedJob:
        """Load the pipeline of a job, and refuse sizes that it cannot sample."""
        ...

    def cost(self, job: Any) -> "JobCost | None":
        """What a job takes, from configurations alone; None where that is not known."""
        ...

    def bench(self, config: Path | None, overrides: Sequence[str]) -> "BenchModel":
        """Load the model as the benchmark measures it."""
        ...

    def footprints(self) -> "list[Footprint]":
        """What the released models take of a GPU's memory."""
        ...

    def released(self) -> "Released":
        """The released models whose memory can be measured without their weights."""
        ...

    def measure_memory(self, name: str, settings: "MemorySettings") -> "MeasuredMemory":
        """What a released model takes of a GPU's memory, measured on meta tensors."""
        ...

    def override(self, values: dict[str, Any], overriding: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a file with others in place; what belongs to the file's own model goes with that."""
        ...


def load_in_team(model: JobModel, job: Any, team: Team) -> LoadedJob:
    """Load the pipeline of a job in each of the processes that sample together, on the process's own GPU."""
    loaded = model.load(job if team.device is None else replace(job, device=team.device))
    return replace(loaded, team=team)


def policy_of(adapter: Adapter, job: Any) -> PolicyConfig:
    """The policy that a job's `preset` and `target_speedup` stand for, with what the job says of memory."""
    return preset_of(adapter, job, job.preset, job.target_speedup)


def preset_of(adapter: Adapter, job: Any, preset: Preset, target_speedup: float | None = None) -> PolicyConfig:
    """The policy that a preset and a target stand for, with a job's `allow_foreign_calibration` and memory settings."""
    memory = {name: getattr(job, name) for name in ("kv", "split_guidance") if hasattr(job, name)}
    allowed: bool = job.allow_foreign_calibration
    return resolve_preset(adapter, preset, target_speedup, allow_foreign_calibration=allowed, **memory)


def installed_models() -> dict[str, JobModel]:
    """All models that installed packages register, by name."""
    found = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    return {point.name: point.load()() for point in found}


def find_model(name: str) -> JobModel:
    """The model that is registered under a name.

    Raises:
        MotionCacheError: if there is none; it says which there are.
    """
    models = installed_models()
    if name not in models:
        raise MotionCacheError(f"there is no model {name!r}; installed: {', '.join(models) or 'none'}")
    return models[name]


def recognise_model(model: str) -> JobModel:
    """The registered model that a name, a folder or a hub id stands for.

    Raises:
        MotionCacheError: if none knows it.
    """
    models = installed_models()
    if model in models:
        return models[model]
    for one in models.values():
        if one.recognises(model):
            return one
    wrong = f"model={model} is a folder of no installed model"
    if not model or not Path(model).exists():
        wrong = f"there is no model folder {model}, nor is that a hub id that is known" if model else "model= is empty"
    raise MotionCacheError(f"{wrong}; pass {describe_models(models)}")


def describe_models(models: Mapping[str, JobModel]) -> str:
    """What the key `model` may be, in words."""
    if not models:
        return "a model: none is installed; run pip install -e . in the repository again, which registers its models"
    takes = "; or ".join(f"{one.takes} ({name})" for name, one in models.items())
    small = ", ".join(name for name, one in models.items() if one.shipped)
    return f"one of {small} for the small models that are shipped; or {takes}"
