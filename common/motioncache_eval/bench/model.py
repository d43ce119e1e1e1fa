"""What a model's package brings to the benchmark: a loaded pipeline and how it is sampled."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from motioncache.errors import ConfigError
from motioncache.forecast.budget import ForecastConfig
from motioncache.forecast.calibration import Calibration, ModelIdentity
from motioncache.registry import Adapter
from motioncache_eval.bench.config import Method, fingerprint, job_settings
from motioncache_eval.jobs import LoadedJob, find_model
from motioncache_eval.meter import Meter, PeakMemory
from motioncache_eval.sampling import Sample, take_sample

Baseline = Callable[[Any, Any, Mapping[str, Any]], AbstractContextManager[None]]
"""Turns a cache of another package on for a pipeline, a job and knobs, and off at the end of the block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A sample, and what taking it cost.

    Attributes:
        model_seconds: time within the model itself.
        first_chunk_seconds: until the first chunk was clean.
        peak_bytes: see `PeakMemory`.
        flops: FLOPs of the model.
    """

    sample: Sample
    model_seconds: float
    first_chunk_seconds: float | None
    peak_bytes: int | None
    flops: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchModel(LoadedJob):
    """A loaded job with what its model's package brings to the benchmark.

    Attributes:
        transformer: what `model_methods` belong to, which do all of the model's work.
        weights: their `weights_hash` as they were loaded; caches of other packages leave modules in a transformer.
        guidance: for a job, what the velocities of a chunk's branches are multiplied with before they are added.
        identity: what a calibration knows the transformer by.
        chunks: frames of the first chunk and of every other one.
        baselines: caches of other packages, by name.
    """

    transformer: nn.Module
    model_methods: tuple[str, ...]
    weights: str
    guidance: Callable[[Any], Mapping[str, float]]
    identity: ModelIdentity
    chunks: tuple[int, int]
    baselines: Mapping[str, Baseline] = field(default_factory=dict)

    @classmethod
    def of(cls, loaded: LoadedJob, adapter: Adapter, **brought: Any) -> "BenchModel":
        """A loaded job with what is brought to it.

        Args:
            adapter: knows the policies of benchmarks, too.
        """
        parts = {field.name: getattr(loaded, field.name) for field in fields(LoadedJob)}
        return cls(**{**parts, "adapter": adapter, **brought})

    def settings(self, job: Any, method: Method) -> dict[str, Any]:
        """Everything that a result follows from, besides versions; the same on every machine."""
        settings: dict[str, Any] = {"job": job_settings(job), "policy": method.settings, "weights": self.weights}
        if isinstance(method.policy, ForecastConfig):
            calibration = self._calibration(job, method, method.policy)
            in_parts = calibration is not None and calibration.parts is not None
            order = method.policy.order_at(self.identity.guidance, in_parts=in_parts)
            settings["policy"] = {**(method.settings or {}), "order": order}
            if calibration is not None:
                settings["calibration"] = calibration_hash(calibration)
        return settings

    def _calibration(self, job: Any, method: Method, policy: ForecastConfig) -> Calibration | None:
        """What a method forecasts with; a benchmark takes none that comes from the videos sampled before.

        Raises:
            ConfigError: says how to make one.
        """
        planner = policy.planner(self.adapter.presets())
        planner.check_model(self.identity)
        calibration = planner.choose(self.identity, job.num_inference_steps or 0)
        if calibration is None and policy.target_speedup > 1:
            raise ConfigError(
                f"methods.{method.name}: without a calibration of this model, at this guidance scale and with so many "
                "steps, its first video is computed in full to measure it, so results would depend on what was sampled "
                "before: run motioncache calibrate, and pass the file as calibration"
            )
        return calibration

    def take(self, job: Any, method: Method, *, prepare: Callable[[Any], None] | None = None) -> Taken:
        """One video of a job under a method.

        Args:
            prepare: see `take_sample`.
        """
        meter = Meter(self.transformer, self.model_methods, device=job.device)
        first_chunk: list[float] = []

        def sample() -> torch.Tensor:
            started = time.perf_counter()
            with meter:
                return self.call(self.pipeline, job, lambda: first_chunk.append(time.perf_counter() - started))

        with self._baseline(method, job), PeakMemory(job.device) as memory:
            taken = take_sample(
                self.pipeline, sample, method.policy, device=job.device, adapter=self.adapter, prepare=prepare
            )
        return Taken(
            sample=taken,
            model_seconds=meter.seconds,
            first_chunk_seconds=first_chunk[0] if first_chunk else None,
            peak_bytes=memory.bytes,
            flops=meter.flops,
        )

    def _baseline(self, method: Method, job: Any) -> AbstractContextManager[None]:
        if method.baseline is None:
            return nullcontext()
        if method.baseline not in self.baselines:
            names = ", ".join(sorted(self.baselines)) or "none"
            raise ConfigError(
                f"methods.{method.name}.baseline: {method.baseline!r} is not known for this model; known: {names}"
            )
        return self.baselines[method.baseline](self.pipeline, job, method.knobs)

    def spans(self, frames: int) -> list[slice]:
        """The frames of each chunk in a video of `frames` frames."""
        first, other = self.chunks
        starts = [0, *range(first, frames, other)]
        return [slice(a, b) for a, b in zip(starts, [*starts[1:], frames], strict=True)]


def weights_hash(model: nn.Module) -> str:
    """Short hash of the beginning of every tensor: other weights are another model, whatever its folder is called."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.flatten()[:64].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def calibration_hash(calibration: Calibration) -> str:
    """Short hash of its numbers.

    The keys are part of the hash, and committed results carry it: they stay as they are.
    """
    model = calibration.model
    return fingerprint(
        {
            "layers": model.layers,
            "width": model.width,
            "levels": list(calibration.sigmas),
            "products": calibration.products.tolist(),
            "sensitivity": calibration.sensitivity.tolist(),
            **({} if calibration.parts is None else {"parts": calibration.parts.tolist()}),
        }
    )


class Loader(Protocol):
    """Loads a model as its demo does.

    Args:
        config: a demo's YAML file; None takes the model's own.
        overrides: `key=value` texts.
    """

    def __call__(self, config: Path | None, overrides: Sequence[str]) -> BenchModel: ...


def own_demo(path: Path) -> Path:
    """The YAML file of a model's own demo, for its loader.

    Raises:
        ConfigError: where there is none, as in an installed wheel.
    """
    if not path.is_file():
        raise ConfigError("the model's own demo is in the repository only: pass the YAML file of a demo, job=FILE")
    return path


def find_loader(name: str) -> Loader:
    """The loader of an installed model's package, see `find_model`."""
    return find_model(name).bench
