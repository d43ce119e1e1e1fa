"""Draws the picture of docs/method.md: `python benchmarks/draw_plan.py`.

Above: how far a forecast is from the velocity, relative to it, from the last two computed steps and from the last one
alone. In the middle: what an error of a step becomes in the video. Below: the planned iterations for three budgets, in
a window of three chunks.
"""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from motioncache.forecast.calibration import Calibration
from motioncache.forecast.planner import plan_iterations
from motioncache.forecast.prediction import Forecast
from motioncache.forecast.profile import WindowProfile

ROOT = Path(__file__).resolve().parents[1]
MODELS = {"SkyReels-V2": "MotionCache4SkyReels-V2", "MAGI-1": "MotionCache4MAGI-1"}
GAPS = (1, 2, 4, 8)
SHARES = (0.5, 0.35, 0.25)
STEPS, STAGGER, CHUNKS = 30, 5, 3


def main() -> None:
    figure = Figure(figsize=(11, 8), layout="constrained")
    panels = figure.subplots(3, 2, height_ratios=(1, 0.6, 1))
    for column, (name, folder) in enumerate(MODELS.items()):
        calibration = Calibration.load(ROOT / folder / "addconfig" / "calibration.json")
        sigmas = resample(calibration.sigmas)
        draw_errors(panels[0, column], name, calibration.at(sigmas, 1), calibration.at(sigmas, 2))
        draw_sensitivity(panels[1, column], calibration.at(sigmas, 2))
        draw_planned(panels[2, column], calibration.at(sigmas, 2))
    figure.savefig(ROOT / "docs" / "plan.png", dpi=110)


def resample(sigmas: tuple[float, ...]) -> tuple[float, ...]:
    """The noise levels of a schedule of `STEPS` steps that falls as the measured one."""
    return tuple(np.interp(np.linspace(0, 1, STEPS), np.linspace(0, 1, len(sigmas)), sigmas))


def draw_errors(panel: Axes, model: str, order_1: Forecast, order_2: Forecast) -> None:
    for i, gap in enumerate(GAPS):
        label = "every step" if gap == 1 else f"every {gap} steps"
        panel.semilogy(*relative_error(order_2, gap), color=f"C{i}", label=label)
        panel.semilogy(*relative_error(order_1, gap), color=f"C{i}", linestyle=":")
    panel.set_title(f"{model}: relative error of a forecast (dotted: of the last velocity alone)", fontsize=9)
    panel.set_xlabel("denoise step")
    panel.legend(fontsize=8)
    panel.grid(alpha=0.3)


def relative_error(forecast: Forecast, gap: int) -> tuple[list[int], list[float]]:
    """By step: root mean square error of its forecast from computed steps `gap` apart, over that of the velocity."""
    steps = range(2 * gap, len(forecast.sigmas))
    size = forecast.products.diagonal()
    error = [forecast.errors((s - gap, s - 2 * gap))[s] / forecast.weight[s] / size[s] for s in steps]
    return list(steps), np.sqrt(error).tolist()


def draw_sensitivity(panel: Axes, forecast: Forecast) -> None:
    panel.semilogy(forecast.sensitivity, color="black")
    panel.set_title("sensitivity: squared error of the final latents over that of the step", fontsize=9)
    panel.set_xlabel("denoise step")
    panel.grid(alpha=0.3)


def draw_planned(panel: Axes, forecast: Forecast) -> None:
    profile = make_profile(forecast.sigmas)
    for row, share in enumerate(SHARES):
        planned = plan_iterations(profile, forecast, share * profile.full_flops)
        top = row * (CHUNKS + 1)
        for chunk, start in enumerate(profile.starts):
            height = top + chunk
            computed = [i for i in range(start, start + STEPS) if planned[i]]
            panel.plot([start, start + STEPS - 1], [height, height], color="0.8", linewidth=1, zorder=1)
            panel.scatter(computed, [height] * len(computed), s=14, color=f"C{row}", zorder=2)
        panel.text(-1, top + 1, f"{share:.0%}\nof the\nFLOPs", va="center", ha="right", fontsize=8)
    panel.set_xlim(left=-6)
    panel.invert_yaxis()
    panel.set_yticks([])
    panel.set_xlabel("iteration of the window; a dot is computed, a line is a chunk")


def make_profile(sigmas: tuple[float, ...]) -> WindowProfile:
    """A window of chunks that start one after the other; an iteration costs as much as it has active chunks."""
    iterations = STEPS + STAGGER * (CHUNKS - 1)
    starts = tuple(STAGGER * chunk for chunk in range(CHUNKS))
    flops = tuple(sum(0 <= i - start < STEPS for start in starts) for i in range(iterations))
    return WindowProfile(
        iterations=iterations,
        starts=starts,
        iteration_flops=flops,
        fixed_flops=0,
        sigmas=sigmas,
        uncached_flops=sum(flops),
    )


if __name__ == "__main__":
    main()
