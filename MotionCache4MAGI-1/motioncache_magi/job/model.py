"""MAGI-1 as it is registered under `motioncache.jobs`."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motioncache_eval.jobs import LoadedJob
from motioncache_magi.job.config import MagiJobConfig, load_magi_job, override

if TYPE_CHECKING:
    from motioncache_eval.bench.model import BenchModel
    from motioncache_eval.job_cost import JobCost
    from motioncache_eval.measured_memory import MeasuredMemory, MemorySettings, Released
    from motioncache_eval.memory import Footprint
    from motioncache_eval.paper import LayerCounts, PaperVideo
    from motioncache_eval.speed import ModelCall, SpeedSettings
    from motioncache_magi.cache.adapter import MagiAdapter


class MagiJobs:
    """See `motioncache_eval.jobs.JobModel`. What needs a model library is imported where it is used."""

    schema = MagiJobConfig
    config = Path(__file__).parents[2] / "addconfig" / "job.yaml"
    shipped = True
    takes = "a folder in the layout of the official repository, with magi, vae and t5"

    def adapter(self) -> "MagiAdapter":
        from motioncache_magi.cache.adapter import MagiAdapter

        return MagiAdapter()

    def recognises(self, model: str) -> bool:
        """A folder by its folder `magi`; released weights have to be on this machine."""
        return any((Path(model) / place).is_dir() for place in ("magi", "ckpt/magi"))

    def read(self, config: Path | None, overrides: Sequence[str]) -> MagiJobConfig:
        return load_magi_job(config, overrides)

    def load(self, job: MagiJobConfig) -> LoadedJob:
        from motioncache_magi.job.sample import (
            complete_job,
            decode,
            encode,
            load_pipeline,
            quiet_libraries,
            run_pipeline,
            stream_frames,
            warm_up,
        )

        quiet_libraries()
        pipeline = load_pipeline(job)
        return LoadedJob(
            adapter=self.adapter(),
            job=complete_job(pipeline, job),
            pipeline=pipeline,
            encode=partial(encode, pipeline),
            call=run_pipeline,
            stream=stream_frames,
            decode=partial(decode, pipeline),
            fit=partial(complete_job, pipeline),
            warm_up=partial(warm_up, pipeline),
            branch=pipeline.branch,
            exact_is_vanilla=True,
        )

    def cost(self, job: MagiJobConfig) -> "JobCost":
        from motioncache_magi.job.cost import job_cost

        return job_cost(job)

    def bench(self, config: Path | None, overrides: Sequence[str]) -> "BenchModel":
        from motioncache_magi.bench import load

        return load(config, overrides)

    def footprints(self) -> "list[Footprint]":
        from motioncache_magi.memory import released_footprints

        return released_footprints()

    def released(self) -> "Released":
        from motioncache_eval.measured_memory import Released
        from motioncache_magi.loading.variants import FP8_VARIANTS, VARIANTS

        names, ways = (*VARIANTS, *FP8_VARIANTS), ({}, {"kv": "int8"}, {"kv": "host"})
        presets = ({"preset": "exact"}, {"gpus": 2}, {"gpus": 4})
        return Released(names=names, frames_key="num_frames", lengths=(240, 96, 48), ways=ways, presets=presets)

    def measure_memory(self, name: str, settings: "MemorySettings") -> "MeasuredMemory":
        from motioncache_magi.measure import measure_released

        return measure_released(name, settings)

    def count_calls(self, name: str, settings: "SpeedSettings") -> "list[ModelCall]":
        from motioncache_magi.speed import count_released

        return count_released(name, settings)

    @property
    def paper(self) -> "PaperVideo":
        from motioncache_magi.paper import PAPER

        return PAPER

    def sample_paper(self, method: str, device: str) -> Callable[[], object]:
        from motioncache_magi.paper import sample_paper

        return sample_paper(method, device)

    def count_paper(self, method: str, layers: "LayerCounts") -> Callable[[], object]:
        from motioncache_magi.paper import count_paper

        return count_paper(method, layers)

    def override(self, values: dict[str, Any], overriding: Mapping[str, Any]) -> dict[str, Any]:
        return override(values, overriding)
