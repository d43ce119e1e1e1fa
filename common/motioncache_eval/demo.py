"""The demo: one prompt with the chosen preset, without a cache, with `exact`, and with `forecast` at equal FLOPs.

A model's package loads the pipeline and says how it is called; everything else is here.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from motioncache.config import PolicyConfig, read_yaml
from motioncache.errors import MotionCacheError
from motioncache.extras import require_extra
from motioncache.forecast.budget import ForecastConfig
from motioncache.policies.none import NoCacheConfig
from motioncache.registry import FORECAST, Adapter
from motioncache.whole_file import whole_file
from motioncache_eval.demo_page import DemoPage, describe, make_views, write_demo_page
from motioncache_eval.demo_results import Result, forecast_notes, measure, print_table, run_report, table_rows
from motioncache_eval.figures import draw_decisions
from motioncache_eval.jobs import LoadedJob, preset_of
from motioncache_eval.motion_map import MotionRecorder
from motioncache_eval.outputs import RunFolder, write_video
from motioncache_eval.report import write_json
from motioncache_eval.sampling import Sample
from motioncache_eval.table import Table
from motioncache_eval.video import side_by_side, to_uint8, watchable

VANILLA, EXACT = "vanilla", "exact"

MEASURED = 1.1
"""A forecast that takes this many times its FLOPs had a window that was computed in full to be measured."""

TAKEN_NAMES = (VANILLA, EXACT, FORECAST, "side_by_side")
"""Names of files that a preset of one's own cannot have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoConfig:
    """Settings of the demo besides those of its job.

    Args:
        compare: sample the prompt without a cache, with `exact` and with `forecast` as well; false makes the video of
            the chosen preset alone.
        parallel: what the processes that `torchrun` has started divide, each with a GPU of its own: `ulysses`, `cfg` or
            `cfg+ulysses`; null for one process.
    """

    compare: bool = True
    parallel: str | None = None


def check_packages() -> None:
    """Refuse to start if the videos or the figure could not be written in the end."""
    require_extra("av", "writing videos")
    require_extra("matplotlib", "drawing figures")


def run_demo(loaded: LoadedJob, policy: PolicyConfig, settings: DemoConfig, *, command: str) -> int:
    """Write the results to a new folder and print the table; return the exit status.

    Args:
        command: runs the same demo again in a shell.
    """
    job = loaded.job
    name = preset_name(loaded.adapter, job, policy)
    loaded.check(policy)
    if not loaded.team.leads:
        Follower(loaded, name, policy).produce(compare=settings.compare)
        return 0
    with RunFolder.create(Path(job.output), name) as run:
        size = f"{job.num_frames} frames of {job.width}x{job.height}"
        print(f'prompt: "{job.prompt}"\n{size}, writing to {run.path}', flush=True)
        Demo(loaded, run, name, policy, command).produce(compare=settings.compare)
        folder = run.complete()
    print(f"results are in {folder}")
    return 0


def preset_name(adapter: Adapter, job: Any, policy: PolicyConfig) -> str:
    """What the chosen preset is called in files and tables."""
    if isinstance(policy, NoCacheConfig):
        return EXACT
    if job.preset is None:
        default = str(read_yaml(adapter.presets()).get("preset"))
        return default if job.target_speedup is None else FORECAST
    own_file = job.preset.endswith((".yaml", ".yml"))
    name = Path(job.preset).stem if own_file else job.preset
    return "preset" if own_file and name in TAKEN_NAMES else name


class Demo:
    """The videos of one run, each written as soon as it is sampled.

    Args:
        name: see `preset_name`.
        policy: what the chosen preset stands for.
        command: see `run_demo`.
    """

    def __init__(self, loaded: LoadedJob, run: RunFolder, name: str, policy: PolicyConfig, command: str) -> None:
        self.loaded = loaded
        self.job = loaded.job
        self.run = run
        self.name = name
        self.command = command
        self.policies: dict[str, PolicyConfig | None] = {name: policy}
        self.samples: dict[str, Sample] = {}
        self.videos: dict[str, torch.Tensor] = {}
        self._recorder = MotionRecorder(loaded.branch)

    def produce(self, *, compare: bool) -> None:
        """Sample the chosen preset, then what it is compared with, and write what there is to say about them.

        The chosen preset comes first: if it cannot sample this video, nobody has waited for the others.
        """
        started = time.perf_counter()
        self._progress("warming up", leave=False)
        self.loaded.warm_up(self.job)
        self._take(self.name, prepare=self._recorder.attach)
        if compare and not (self.name == EXACT and self.loaded.exact_is_vanilla):
            self._compare()
        self.samples = {name: self.samples[name] for name in self._reading_order()}
        results = measure(self.samples, self.videos, VANILLA)
        self._draw_decisions()
        report = run_report(self.job, self.policies, self.samples, results)
        if VANILLA in self.samples:
            self._write_page(results, report)
        print_table(results)
        seconds = time.perf_counter() - started
        report |= {"preset": self.name, "processes": self.loaded.team.size, "seconds_of_whole_run": seconds}
        write_json(self.run.path / "run.json", report)

    def _reading_order(self) -> list[str]:
        """What was sampled, as tables and the page show it: what is compared with comes before what is compared."""
        return [name for name in dict.fromkeys((VANILLA, EXACT, self.name, FORECAST)) if name in self.samples]

    def _compare(self) -> None:
        """Sample the others, and put vanilla beside the chosen preset."""
        self.policies[VANILLA] = None
        self._take(VANILLA)
        self._write_side_by_side()
        if self.loaded.exact_is_vanilla:
            print("exact computes what vanilla computes on this model, and is left out")
        elif self.name != EXACT:
            self.policies[EXACT] = preset_of(self.loaded.adapter, self.job, NoCacheConfig())
            self._take(EXACT)
        if not isinstance(self.policies[self.name], NoCacheConfig | ForecastConfig):
            self._take_forecast()

    def _take_forecast(self) -> None:
        """Sample `forecast` at the FLOPs of the chosen preset, or say why that cannot be done."""
        chosen = self.samples[self.name].summary
        assert chosen is not None
        try:
            ratio = chosen.vanilla_flops / chosen.flops
            self.policies[FORECAST] = preset_of(self.loaded.adapter, self.job, FORECAST, ratio)
            self._take(FORECAST)
            if self._measured_first(FORECAST, chosen.flops):
                print("forecast measured this model in that video, and is sampled again at the FLOPs of", self.name)
                self._take(FORECAST)
        except MotionCacheError as error:
            self.policies.pop(FORECAST, None)
            print(f"forecast is left out: {error}", flush=True)

    def _measured_first(self, name: str, budget: float) -> bool:
        """Whether a video of `forecast` was computed in full, since nothing was known of the model before it."""
        summary = self.samples[name].summary
        return summary is not None and summary.flops > MEASURED * budget

    def _take(self, name: str, *, prepare: Callable[[Any], None] | None = None) -> None:
        """Sample with one of the policies, decode, and write the video."""
        self._progress(name.ljust(8), leave=True, mininterval=0.5)
        sample, video = self.loaded.make_video(self.job, self.policies[name], prepare=prepare)
        write_video(self.run.path / f"{name}.mp4", watchable(to_uint8(video)), fps=self.job.fps)
        self.samples[name], self.videos[name] = sample, video

    def _progress(self, name: str, **options: Any) -> None:
        self.loaded.pipeline.set_progress_bar_config(desc=name, **options)

    def _write_side_by_side(self) -> None:
        names = (VANILLA, self.name)
        results = measure({name: self.samples[name] for name in names}, self.videos, VANILLA)
        both = [watchable(to_uint8(self.videos[name])) for name in names]
        frames = side_by_side(both, [describe(name, results[name]) for name in names])
        write_video(self.run.path / "side_by_side.mp4", frames, fps=self.job.fps)

    def _draw_decisions(self) -> None:
        """Draw what the chosen preset computed, and one decision over its frame."""
        trace, branch = self.samples[self.name].trace, self.loaded.branch
        assert trace is not None
        motion = self._recorder.motion_map(trace, to_uint8(self.videos[self.name]))
        title = f"{self.name}: what was computed ({branch} branch)"
        with whole_file(self.run.path / "decisions.png") as path:
            draw_decisions(path, trace, motion, title=title, branch=branch)

    def _write_page(self, results: dict[str, Result], report: dict[str, Any]) -> None:
        """Write the page.

        Args:
            report: see `run_report`.
        """
        header, *rows = table_rows(results)
        views = make_views(self.samples, self.videos, results, self._recorder.weights(), self.job.fps, self.name)
        page = DemoPage(
            prompt=self.job.prompt,
            lead=self._lead(),
            chosen=self.name,
            results=results,
            views=views,
            table=Table(title="Cost and fidelity of every preset", header=header, rows=rows),
            notes=forecast_notes(self.samples),
            policy=report["policies"][self.name],
            machine=report["machine"],
            versions=report["versions"],
            command=self.command,
        )
        write_demo_page(self.run.path / "report.html", page)

    def _lead(self) -> str:
        """What was compared, in a sentence for the page."""
        job = self.job
        return (
            f"The preset {self.name} against no cache: {job.num_frames} frames of {job.width}x{job.height}, "
            f"{job.num_inference_steps} denoise steps. dB is PSNR over decoded frames; 120 dB stands for identical."
        )


class Follower(Demo):
    """Samples what the first of several processes samples, and writes nothing."""

    def __init__(self, loaded: LoadedJob, name: str, policy: PolicyConfig) -> None:
        nowhere: Any = None
        super().__init__(loaded, nowhere, name, policy, "")

    def produce(self, *, compare: bool) -> None:
        self._progress("", disable=True)
        self.loaded.warm_up(self.job)
        self._take(self.name)
        if compare and not (self.name == EXACT and self.loaded.exact_is_vanilla):
            self._compare()

    def _take(self, name: str, *, prepare: Callable[[Any], None] | None = None) -> None:
        self.samples[name], _ = self.loaded.make_video(self.job, self.policies[name])

    def _write_side_by_side(self) -> None:
        pass
