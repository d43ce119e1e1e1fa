"""SkyReels-V2 as it is registered under `motioncache.jobs`."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motioncache_diffusers.index import pipeline_class
from motioncache_eval.jobs import LoadedJob
from motioncache_skyreels.job.config import JobConfig, load_job

if TYPE_CHECKING:
    from motioncache_eval.bench.model import BenchModel
    from motioncache_eval.job_cost import JobCost
    from motioncache_eval.measured_memory import MeasuredMemory, MemorySettings, Released
    from motioncache_eval.memory import Footprint
    from motioncache_eval.paper import LayerCounts, PaperVideo
    from motioncache_eval.speed import ModelCall, SpeedSettings
    from motioncache_skyreels.adapter import SkyReelsAdapter

_PACKAGE = Path(__file__).parents[1]


class SkyReelsJobs:
    """See `motioncache_eval.jobs.JobModel`. What needs a model library is imported where it is used."""

    schema = JobConfig
    config = _PACKAGE.parents[1] / "addconfig" / "config.yaml"
    shipped = True
    takes = "a folder in diffusers' format with a SkyReels-V2 diffusion-forcing pipeline, or a hub id of one"

    def adapter(self) -> "SkyReelsAdapter":
        from motioncache_skyreels.adapter import SkyReelsAdapter

        return SkyReelsAdapter()

    def recognises(self, model: str) -> bool:
        """A folder by its `model_index.json`, and a hub id by its name or that file."""
        is_id = model.count("/") == 1 and not model.startswith((".", "/", "~")) and not Path(model).exists()
        return (is_id and "skyreels" in model.lower()) or "SkyReelsV2" in pipeline_class(model)

    def read(self, config: Path | None, overrides: Sequence[str]) -> JobConfig:
        return load_job(config, overrides)

    def load(self, job: JobConfig) -> LoadedJob:
        from motioncache_diffusers.autoencoder import decode
        from motioncache_diffusers.terminal import quiet_libraries
        from motioncache_diffusers.text import Prompts
        from motioncache_skyreels.job.load import check_size, load_pipeline
        from motioncache_skyreels.job.sample import run_pipeline, stream_frames, warm_up
        from motioncache_skyreels.window import BRANCHES

        quiet_libraries()
        pipeline = load_pipeline(job)
        prompts = Prompts(pipeline)

        def fit(job: JobConfig) -> JobConfig:
            check_size(pipeline, job)
            return job

        return LoadedJob(
            adapter=self.adapter(),
            job=fit(job),
            pipeline=pipeline,
            encode=prompts.encode,
            call=partial(run_pipeline, prompts=prompts),
            stream=partial(stream_frames, prompts=prompts),
            decode=lambda _, latents: decode(pipeline, latents),
            fit=fit,
            warm_up=partial(warm_up, pipeline),
            branch=BRANCHES[0],
        )

    def cost(self, job: JobConfig) -> "JobCost":
        from motioncache_skyreels.job.cost import job_cost

        return job_cost(job)

    def bench(self, config: Path | None, overrides: Sequence[str]) -> "BenchModel":
        from motioncache_skyreels.bench import load

        return load(config, overrides)

    def footprints(self) -> "list[Footprint]":
        from motioncache_skyreels.memory import released_footprints

        return released_footprints()

    def released(self) -> "Released":
        from motioncache_eval.measured_memory import Released
        from motioncache_skyreels.memory import PRESETS, RELEASED, WAYS

        return Released(
            names=tuple(RELEASED), frames_key="base_num_frames", lengths=(97, 77, 57, 37), ways=WAYS, presets=PRESETS
        )

    def measure_memory(self, name: str, settings: "MemorySettings") -> "MeasuredMemory":
        from motioncache_skyreels.measure import measure_released

        return measure_released(name, settings)

    def count_calls(self, name: str, settings: "SpeedSettings") -> "list[ModelCall]":
        from motioncache_skyreels.speed import count_released

        return count_released(name, settings)

    @property
    def paper(self) -> "PaperVideo":
        from motioncache_skyreels.paper import PAPER

        return PAPER

    def sample_paper(self, method: str, device: str) -> Callable[[], object]:
        from motioncache_skyreels.paper import sample_paper

        return sample_paper(method, device)

    def count_paper(self, method: str, layers: "LayerCounts") -> Callable[[], object]:
        from motioncache_skyreels.paper import count_paper

        return count_paper(method, layers)

    def override(self, values: dict[str, Any], overriding: Mapping[str, Any]) -> dict[str, Any]:
        return {**values, **overriding}
