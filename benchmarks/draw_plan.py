"""The picture of docs/method.md: `python benchmarks/draw_plan.py`.

Above: how far a forecast is from the velocity, relative to it, from the last two computed steps and from the last one
alone. In the middle: what an error of a step becomes in the video. Below: the plans for three budgets, for a window of
three chunks.
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from motioncache.forecast.calibration import Calibration, Forecast
from motioncache.forecast.planner import Course, solve_plan

ROOT = Path(__file__).resolve().parents[1]
MODELS = {"SkyReels-V2": "MotionCache4SkyReels-V2", "MAGI-1": "MotionCache4MAGI-1"}
GAPS = (1, 2, 4, 8)
SHARES = (0.5, 0.35, 0.25)
STEPS, STAGGER, CHUNKS = 30, 5, 3


def relative_error(forecast: Forecast, gap: int) -> tuple[list[int], list[float]]:
    """By step: the root mean square error of its forecast over that of the velocity, computed steps `gap` apart."""
    steps = range(2 * gap, len(forecast.levels))
    size = forecast.products.diagonal()
    error = [forecast.errors((s - gap, s - 2 * gap))[s] / forecast.weight[s] / size[s] for s in steps]
    return list(steps), np.sqrt(error).tolist()


def course(levels: tuple[float, ...]) -> Course:
    """Chunks that follow each other; an iteration costs what its chunks do."""
    iterations = STEPS + STAGGER * (CHUNKS - 1)
    starts = tuple(STAGGER * chunk for chunk in range(CHUNKS))
    cost = tuple(sum(0 <= i - start < STEPS for start in starts) for i in range(iterations))
    return Course(iterations=iterations, starts=starts, cost=cost, base=0, levels=levels, vanilla=sum(cost))


def main() -> None:
    figure = Figure(figsize=(11, 8), layout="constrained")
    panels = figure.subplots(3, 2, height_ratios=(1, 0.6, 1))
    for column, (name, folder) in enumerate(MODELS.items()):
        calibration = Calibration.load(ROOT / folder / "addconfig" / "calibration.json")
        levels = tuple(
            np.interp(np.linspace(0, 1, STEPS), np.linspace(0, 1, len(calibration.levels)), calibration.levels)
        )
        above, middle, below = panels[:, column]
        for i, gap in enumerate(GAPS):
            above.semilogy(
                *relative_error(calibration.at(levels, 2), gap),
                color=f"C{i}",
                label="every step" if gap == 1 else f"every {gap} steps",
            )
            above.semilogy(*relative_error(calibration.at(levels, 1), gap), color=f"C{i}", linestyle=":")
        above.set_title(f"{name}: relative error of a forecast (dotted: of the last velocity alone)", fontsize=9)
        above.set_xlabel("denoise step")
        above.legend(fontsize=8)
        above.grid(alpha=0.3)
        middle.semilogy(calibration.at(levels, 2).sensitivity, color="black")
        middle.set_title("sensitivity: squared error of the final latents over that of the step", fontsize=9)
        middle.set_xlabel("denoise step")
        middle.grid(alpha=0.3)
        given = course(levels)
        for row, share in enumerate(SHARES):
            plan = solve_plan(given, calibration.at(levels, 2), share * given.whole)
            for chunk, start in enumerate(given.starts):
                height = row * (CHUNKS + 1) + chunk
                computed = [i for i in range(start, start + STEPS) if plan[i]]
                below.plot([start, start + STEPS - 1], [height, height], color="0.8", linewidth=1, zorder=1)
                below.scatter(computed, [height] * len(computed), s=14, color=f"C{row}", zorder=2)
            below.text(-1, row * (CHUNKS + 1) + 1, f"{share:.0%}\nof the\nFLOPs", va="center", ha="right", fontsize=8)
        below.set_xlim(left=-6)
        below.invert_yaxis()
        below.set_yticks([])
        below.set_xlabel("iteration of the window; a dot is computed, a line is a chunk")
    figure.savefig(ROOT / "docs" / "plan.png", dpi=110)


if __name__ == "__main__":
    main()
