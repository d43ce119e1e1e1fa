"""Scores the videos of a plan, each dimension in a process of VBench's own environment, and writes the table."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from motioncache.errors import MotionCacheError
from motioncache.whole_file import whole_file
from motioncache_eval.report import write_json
from motioncache_eval.vbench import evaluate
from motioncache_eval.vbench.folder import explain_errors, hold
from motioncache_eval.vbench.manifest import read_manifest
from motioncache_eval.vbench.plan import Plan
from motioncache_eval.vbench.prompts import SUITE_OF_DIMENSION, check_dimensions, find_full_info
from motioncache_eval.vbench.scores import Score, remarks, score_table, totals

PYTHON = "VBENCH_PYTHON"
"""Environment variable: the Python that has `vbench`; without it, that of `scripts/vbench_env.sh`."""

VBENCH_ENVIRONMENT = Path(__file__).parents[3] / ".venv-vbench" / "bin" / "python"


def find_python() -> Path:
    """The Python that has `vbench`.

    Raises:
        MotionCacheError: if there is none.
    """
    python = Path(os.environ.get(PYTHON) or VBENCH_ENVIRONMENT)
    if not python.exists():
        raise MotionCacheError(
            f"VBench's environment is not there ({python}): run bash scripts/vbench_env.sh, which makes it, set "
            f"{PYTHON} to a Python that has vbench, or pass score=false"
        )
    return python


def score_videos(plan: Plan) -> int:
    """Score every preset in every dimension, print the table, and write it to the folder of the run.

    Returns:
        An exit status: 0 if all was scored, 1 if some dimension could not be.
    """
    python, full_info = find_python(), find_full_info(plan.settings.full_info)
    failed: list[str] = []
    scores: dict[str, dict[str, Score]] = {preset: {} for preset in plan.policies}
    with hold(plan.output), explain_errors(plan.output):
        for preset in plan.policies:
            for dimension in check_dimensions(plan.settings.dimensions):
                score = _score(plan, preset, dimension, python, full_info)
                if isinstance(score, Score):
                    scores[preset][dimension] = score
                else:
                    failed.append(score)
                    print(f"error: {score}", file=sys.stderr)
        write_scores(plan.output, scores)
    return 1 if failed else 0


def write_scores(output: Path, scores: Mapping[str, Mapping[str, Score]]) -> None:
    """Print the table, and write it as `scores.md`, and the figures as `scores.json`."""
    text = "\n".join([*score_table(scores).markdown(), "", *(f"- {line}" for line in remarks(scores))])
    print(text)
    with whole_file(output / "scores.md") as temporary:
        temporary.write_text(text + "\n")
    figures: dict[str, Any] = {
        preset: {
            "dimensions": {name: score.value for name, score in of.items()},
            **totals({name: score.value for name, score in of.items()}),
        }
        for preset, of in scores.items()
    }
    write_json(output / "scores.json", figures)


def _score(plan: Plan, preset: str, dimension: str, python: Path, full_info: Path) -> Score | str:
    """One dimension's score, or why there is none; one whose videos are still the same is not taken again."""
    root, suite = plan.folder(preset).root, SUITE_OF_DIMENSION[dimension]
    entries = read_manifest(plan.folder(preset).manifest).values()
    videos = sorted(f"{entry.video} {entry.sha256}" for entry in entries if entry.video.startswith(f"{suite}/"))
    key = sha256("\n".join(videos).encode()).hexdigest()
    folder = root / "scores" / dimension
    folder.mkdir(parents=True, exist_ok=True)
    results, scored = folder / f"{dimension}_eval_results.json", folder / "videos.sha256"
    if not (results.exists() and scored.exists() and scored.read_text() == key):
        scored.unlink(missing_ok=True)
        results.unlink(missing_ok=True)
        print(f"scoring {preset} in {dimension}", flush=True)
        device = (plan.settings.devices or _first_device())[0]
        arguments = [dimension, plan.folder(preset).videos / suite, full_info.resolve(), folder, device]
        status = _run([str(python), evaluate.__file__, *map(str, arguments)], folder / "log.txt")
        if status or not results.exists():
            return f"{preset} has no score in {dimension}: {_last_line(folder / 'log.txt')} ({folder / 'log.txt'})"
        scored.write_text(key)
    return read_results(results, dimension)


def _first_device() -> tuple[str]:
    import torch

    return ("cuda",) if torch.cuda.is_available() else ("cpu",)


def _run(command: list[str], log: Path) -> int:
    # vbench 0.1.5 loads checkpoints that torch refuses since 2.6; they are those that vbench itself downloads.
    environment = os.environ | {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
    environment.pop("PYTHONPATH", None)
    with log.open("wb") as output:
        return subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        ).returncode


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "VBench printed nothing"


def read_results(path: Path, dimension: str) -> Score | str:
    """The score in a file that VBench wrote, or why it is none."""
    try:
        value, videos = json.loads(path.read_text(encoding="utf-8"))[dimension][:2]
        by_name = {Path(one["video_path"]).name: one["video_results"] for one in videos}
        score = float(value)
    except (ValueError, KeyError, TypeError) as error:
        return f"{path} holds no score of {dimension}: {error!r}"
    if not math.isfinite(score):
        return f"{path}: the score of {dimension} is {score}, so VBench found no video"
    plain = {name: float(one) for name, one in by_name.items() if isinstance(one, int | float)}
    return Score(value=score, videos=plain)
