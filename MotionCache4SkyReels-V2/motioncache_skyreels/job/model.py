"""SkyReels-V2 as it is registered under `motioncache.jobs`."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motioncache.checkpoints import read_mapping
from motioncache.errors import ConfigError
from motioncache_eval.jobs import LoadedJob
from motioncache_skyreels.job.config import JobConfig, load_job

if TYPE_CHECKING:
    from motioncache_eval.bench.model import BenchModel
    from motioncache_eval.measured_memory import MeasuredMemory, MemorySettings, Released
    from motioncache_eval.memory import Footprint
    from motioncache_eval.speed import ModelCall, SpeedSettings
    from motioncache_skyreels.adapter import SkyReelsAdapter

_PACKAGE = Path(__file__).parents[1]


class SkyReelsJobs:
    """See `motioncache_eval.jobs.JobModel`. What needs a model library is imported where it is used."""

    schema = JobConfig
    config = _PACKAGE.parents[1] / "addconfig" / "config.yaml"
    takes = "a folder in diffusers' format with a SkyReels-V2 diffusion-forcing pipeline, or a hub id of one"

    def adapter(self) -> "SkyReelsAdapter":
        from motioncache_skyreels.adapter import SkyReelsAdapter

        return SkyReelsAdapter()

    def recognises(self, model: str) -> bool:
        """A folder by its `model_index.json`, and a hub id by its name or that file."""
        folder = Path(model)
        if folder.exists():
            return _names_skyreels(folder / "model_index.json")
        if model.count("/") != 1 or model.startswith((".", "/", "~")):
            return False
        return "skyreels" in model.lower() or _names_skyreels(_download_index(model))

    def read(self, config: Path | None, overrides: Sequence[str]) -> JobConfig:
        return load_job(config, overrides)

    def load(self, job: JobConfig) -> LoadedJob:
        from motioncache_skyreels.cli import quiet_libraries
        from motioncache_skyreels.job.load import check_size, load_pipeline
        from motioncache_skyreels.job.sample import decode, run_pipeline, warm_up
        from motioncache_skyreels.job.text import Prompts
        from motioncache_skyreels.window import BRANCHES

        quiet_libraries()
        pipeline = load_pipeline(job)
        check_size(pipeline, job)
        prompts = Prompts(pipeline)
        return LoadedJob(
            adapter=self.adapter(),
            job=job,
            pipeline=pipeline,
            encode=prompts.encode,
            call=partial(run_pipeline, prompts=prompts),
            decode=lambda _, latents: decode(pipeline, latents),
            warm_up=partial(warm_up, pipeline),
            branch=BRANCHES[0],
        )

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

    def override(self, values: dict[str, Any], overriding: Mapping[str, Any]) -> dict[str, Any]:
        return {**values, **overriding}


def _names_skyreels(index: Path | None) -> bool:
    """Whether a `model_index.json` is that of a SkyReels-V2 pipeline."""
    if index is None or not index.is_file():
        return False
    try:
        return "SkyReelsV2" in str(read_mapping(index).get("_class_name"))
    except ConfigError:
        return False


def _download_index(model: str) -> Path | None:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(model, "model_index.json"))
    except Exception:  # no network, no such repository, no such file: then it cannot be recognised
        return None
