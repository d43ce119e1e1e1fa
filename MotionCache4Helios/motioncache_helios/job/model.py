"""Helios as it is registered under `motioncache.jobs`."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motioncache.errors import MotionCacheError
from motioncache_diffusers.index import pipeline_class
from motioncache_eval.jobs import LoadedJob
from motioncache_helios.job.config import JobConfig, load_job

if TYPE_CHECKING:
    from motioncache_eval.bench.model import BenchModel
    from motioncache_eval.measured_memory import MeasuredMemory, MemorySettings, Released
    from motioncache_eval.memory import Footprint
    from motioncache_helios.adapter import HeliosAdapter

_PACKAGE = Path(__file__).parents[1]


class HeliosJobs:
    """See `motioncache_eval.jobs.JobModel`. What needs a model library is imported where it is used."""

    schema = JobConfig
    config = _PACKAGE.parent / "addconfig" / "job.yaml"
    shipped = False
    takes = "a folder in diffusers' format with a HeliosPipeline, or a hub id of one"

    def adapter(self) -> "HeliosAdapter":
        from motioncache_helios.adapter import HeliosAdapter

        return HeliosAdapter()

    def recognises(self, model: str) -> bool:
        """A folder or a hub id by its `model_index.json`."""
        return pipeline_class(model) == "HeliosPipeline"

    def read(self, config: Path | None, overrides: Sequence[str]) -> JobConfig:
        return load_job(config, overrides)

    def load(self, job: JobConfig) -> LoadedJob:
        from motioncache_diffusers.terminal import quiet_libraries
        from motioncache_diffusers.text import Prompts
        from motioncache_helios.job.sample import decode, load_pipeline, run_pipeline, stream_frames, warm_up
        from motioncache_helios.window import BRANCHES

        quiet_libraries()
        pipeline = load_pipeline(job)
        prompts = Prompts(pipeline)
        return LoadedJob(
            adapter=self.adapter(),
            job=job,
            pipeline=pipeline,
            encode=prompts.encode,
            call=partial(run_pipeline, prompts=prompts),
            stream=partial(stream_frames, prompts=prompts),
            fit=lambda job: job,
            decode=lambda _, latents: decode(pipeline, latents),
            warm_up=partial(warm_up, pipeline),
            branch=BRANCHES[0],
        )

    def cost(self, job: JobConfig) -> None:
        return None

    def bench(self, config: Path | None, overrides: Sequence[str]) -> "BenchModel":
        from motioncache_helios.bench import load

        return load(config, overrides)

    def footprints(self) -> "list[Footprint]":
        return []

    def released(self) -> "Released":
        from motioncache_eval.measured_memory import Released

        return Released(names=(), frames_key="num_frames", lengths=())

    def measure_memory(self, name: str, settings: "MemorySettings") -> "MeasuredMemory":
        raise MotionCacheError(f"the memory of {name} is not measured yet")

    def override(self, values: dict[str, Any], overriding: Mapping[str, Any]) -> dict[str, Any]:
        return {**values, **overriding}
