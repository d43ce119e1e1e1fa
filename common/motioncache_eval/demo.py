"""The demo: one prompt is sampled without a cache, with the preset `exact` and with the chosen preset, and compared.

A model's package loads the pipeline and says how it is called; everything else is here.
"""

import shlex
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from motioncache.config import PolicyConfig
from motioncache.errors import MotionCacheError
from motioncache.extras import require_extra
from motioncache.policies.none import NoCacheConfig
from motioncache.registry import Adapter, resolve_preset
from motioncache_eval.command import check_output_folder
from motioncache_eval.demo_page import DemoPage, describe, make_views, write_demo_page
from motioncache_eval.figures import draw_decisions
from motioncache_eval.metrics import fidelity
from motioncache_eval.motion_map import MotionRecorder
from motioncache_eval.report import environment, write_json
from motioncache_eval.sampling import Sample, take_sample
from motioncache_eval.table import Table
from motioncache_eval.video import side_by_side, to_uint8, watchable, write_mp4

FIGURES = ("seconds", "speed-up", "TFLOPs", "computed", "PSNR dB", "SSIM")

Result = dict[str, float]
"""The figures of one preset, see `measure`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """A loaded pipeline and how to call it.

    Attributes:
        settings: the job's configuration, a dataclass with at least `preset`, `prompt`, `output`, `fps`, `device`,
            `num_frames`, `num_inference_steps`, `height` and `width`.
        policy: the policy that the chosen preset stands for.
        call: samples the prompt with the pipeline as it stands, cached or not, and returns latents.
        warm_up: samples a few steps, so that first-time allocations slow down none of the presets.
        decode: turns latents into float frames `[frames, 3, height, width]` in [0, 1] on the host.
        progress: sets options of the pipeline's progress bar.
        branch: the CFG branch whose decisions are drawn.
    """

    settings: Any
    policy: PolicyConfig
    pipeline: object
    call: Callable[[], torch.Tensor]
    warm_up: Callable[[], object]
    decode: Callable[[torch.Tensor], torch.Tensor]
    progress: Callable[..., object]
    branch: str


def check_demo(settings: Any, adapter: Adapter) -> PolicyConfig:
    """Refuse what would fail later, before the model is loaded; return the policy of the chosen preset."""
    policy = resolve_preset(adapter, settings.preset, settings.target_speedup)
    check_packages()
    check_output_folder(Path(settings.output))
    return policy


def check_packages() -> None:
    """Refuse to start if the videos or the figure could not be written in the end."""
    require_extra("av", "writing videos")
    require_extra("matplotlib", "drawing figures")


def run_demo(demo: Demo) -> int:
    """Write the results to a new folder and print the table; return the exit status."""
    settings = demo.settings
    folder = create_folder(Path(settings.output), settings.preset)
    size = f"{settings.num_frames} frames of {settings.width}x{settings.height}"
    print(f'prompt: "{settings.prompt}"\n{size}, writing to {folder}')
    try:
        results = produce(folder, demo)
    except BaseException:
        with suppress(OSError):
            folder.rmdir()  # only if nothing was written to it
        raise
    print_table(results)
    print(f"results are in {folder}")
    return 0


def create_folder(output: Path, preset: str) -> Path:
    """Make a new folder for this run; a folder that exists is never touched."""
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{Path(preset).stem}"
    for attempt in range(100):
        folder = output / (stem if not attempt else f"{stem}-{attempt}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            message = f"output={output} cannot be written: {error.strerror}; pass another folder"
            raise MotionCacheError(message) from None
        return folder
    raise MotionCacheError(f"{output} holds a hundred runs of this second; wait a moment")


def produce(folder: Path, demo: Demo) -> dict[str, Result]:
    """Sample all presets, and write the videos, the picture of the decisions, `run.json` and the page."""
    started = time.perf_counter()
    demo.progress(desc="warming up", leave=False)
    demo.warm_up()
    recorder = MotionRecorder(demo.branch)
    samples = sample_presets(demo, recorder)
    videos = {preset: demo.decode(sample.latents) for preset, sample in samples.items()}
    results = measure(samples, videos)
    write_videos(folder, videos, results, demo.settings.fps)
    draw_last_preset(folder / "decisions.png", demo, samples, videos, recorder)
    seconds = time.perf_counter() - started
    report = run_report(demo, samples, results)
    write_json(folder / "run.json", {**report, "seconds_of_whole_run": seconds})
    rows = [[preset, *format_figures(result)] for preset, result in results.items()]
    table = Table(title="Cost and fidelity of every preset", header=["", *FIGURES], rows=rows)
    chosen = list(samples)[-1]
    page = DemoPage(
        prompt=demo.settings.prompt,
        lead=lead(demo.settings, chosen),
        chosen=chosen,
        results=results,
        views=make_views(samples, videos, results, recorder.weights(), demo.settings.fps, chosen),
        table=table,
        policy=report["policy"],
        machine=report["machine"],
        versions=report["versions"],
        command=shlex.join(["python", *sys.orig_argv[1:]]),
    )
    write_demo_page(folder / "report.html", page)
    return results


def lead(settings: Any, chosen: str) -> str:
    """What was compared, in a sentence for the page."""
    return (
        f"The preset {chosen} against no cache: {settings.num_frames} frames of {settings.width}x{settings.height}, "
        f"{settings.num_inference_steps} denoise steps. dB is PSNR over decoded frames; 120 dB stands for identical."
    )


def sample_presets(demo: Demo, recorder: MotionRecorder) -> dict[str, Sample]:
    """Sample without a cache (`vanilla`), with `exact`, and with the chosen preset under its own name.

    The chosen preset is called `preset` if its own name is taken. It is sampled first: if a video of this size cannot
    be sampled with it, nobody has waited for the others.
    """
    policies: dict[str, PolicyConfig | None] = {"vanilla": None, "exact": NoCacheConfig()}
    if not isinstance(demo.policy, NoCacheConfig):
        name = Path(demo.settings.preset).stem
        policies["preset" if name in policies else name] = demo.policy
    *others, chosen = policies
    samples: dict[str, Sample] = {}
    for preset in (chosen, *others):
        demo.progress(desc=preset.ljust(8), leave=True, mininterval=0.5)
        samples[preset] = take_sample(
            demo.pipeline,
            demo.call,
            policies[preset],
            device=demo.settings.device,
            prepare=recorder.attach if preset == chosen else None,
        )
    return {preset: samples[preset] for preset in policies}


def measure(samples: Mapping[str, Sample], videos: Mapping[str, torch.Tensor]) -> dict[str, Result]:
    """Compare every preset with vanilla.

    The FLOPs of vanilla are those that run, including the pairs of tokens that the attention mask hides.
    """
    vanilla, counted = samples["vanilla"], samples["exact"].summary
    assert counted is not None
    results: dict[str, Result] = {}
    for preset, sample in samples.items():
        quality = fidelity(videos[preset], videos["vanilla"])
        difference = (sample.latents.float() - vanilla.latents.float()).abs().max()
        results[preset] = {
            "seconds": sample.seconds,
            "speedup": vanilla.seconds / sample.seconds,
            "flops": counted.vanilla_flops if sample.summary is None else sample.summary.flops,
            "psnr_db": quality.psnr_db,
            "ssim": quality.ssim,
            "max_abs_latent_difference": float(difference),
            "computed_share": 1.0 if sample.summary is None else sample.summary.computed_share,
        }
    return results


def write_videos(folder: Path, videos: Mapping[str, torch.Tensor], results: Mapping[str, Result], fps: int) -> None:
    """Write the uncached video, that of the last preset, and both side by side with their figures."""
    presets = ["vanilla", list(videos)[-1]]
    shown = [watchable(to_uint8(videos[preset])) for preset in presets]
    for name, frames in zip(("vanilla", "motioncache"), shown, strict=True):
        write_mp4(folder / f"{name}.mp4", frames, fps=fps)
    both = side_by_side(shown, [describe(preset, results[preset]) for preset in presets])
    write_mp4(folder / "side_by_side.mp4", both, fps=fps)


def draw_last_preset(
    path: Path,
    demo: Demo,
    samples: Mapping[str, Sample],
    videos: Mapping[str, torch.Tensor],
    recorder: MotionRecorder,
) -> None:
    """Draw what the last preset computed, and one decision over its frame."""
    preset = list(samples)[-1]
    trace = samples[preset].trace
    assert trace is not None
    motion = recorder.motion_map(trace, to_uint8(videos[preset]))
    title = f"{preset}: what was computed ({demo.branch} branch)"
    draw_decisions(path, trace, motion, title=title, branch=demo.branch)


def run_report(demo: Demo, samples: Mapping[str, Sample], results: Mapping[str, Result]) -> dict[str, Any]:
    """The content of `run.json`: configuration, versions, and the figures of every preset, whole and by chunk."""
    chunks = {preset: sample.summary.chunks for preset, sample in samples.items() if sample.summary is not None}
    policy: Any = demo.policy
    return {
        "config": asdict(demo.settings),
        "policy": {"name": type(policy).__name__, **asdict(policy)},
        **environment(demo.settings.device),
        "results": results,
        "chunks": {preset: [asdict(chunk) for chunk in rows] for preset, rows in chunks.items()},
    }


def format_figures(result: Result) -> list[str]:
    """The texts of one preset's `FIGURES`."""
    return [
        f"{result['seconds']:.2f}",
        f"{result['speedup']:.2f}x",
        f"{result['flops'] / 1e12:.3f}",
        f"{result['computed_share']:.1%}",
        f"{result['psnr_db']:.2f}",
        f"{result['ssim']:.4f}",
    ]


def print_table(results: Mapping[str, Result]) -> None:
    """Print the `FIGURES` of every preset."""
    print("\n" + " " * 12 + "".join(f"{name:>10s}" for name in FIGURES))
    for preset, result in results.items():
        print(f"{preset:12s}" + "".join(f"{figure:>10s}" for figure in format_figures(result)))
    print("PSNR and SSIM against vanilla, on decoded frames; 120 dB stands for identical\n")
