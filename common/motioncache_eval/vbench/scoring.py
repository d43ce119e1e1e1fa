"""Scores the videos of a plan, each dimension in a process of VBench's own environment."""

import json
import math
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

from motioncache.whole_file import whole_file
from motioncache_eval.vbench import evaluate
from motioncache_eval.vbench.folder import explain_errors, hold
from motioncache_eval.vbench.manifest import read_manifest
from motioncache_eval.vbench.package import missing_environment, named_python, packaged_full_info
from motioncache_eval.vbench.plan import Plan
from motioncache_eval.vbench.prompts import SUITE_OF_DIMENSION, check_dimensions
from motioncache_eval.vbench.results import Results, write_results
from motioncache_eval.vbench.scores import Score

WITH_VBENCHS_PROMPTS = (
    "object_class", "multiple_objects", "color", "spatial_relationship", "scene", "appearance_style",
)  # fmt: skip
"""Dimensions for which VBench's list says of each prompt what to look for."""


def score_videos(plan: Plan) -> int:
    """Score every preset in every dimension, print the table, and write it to the folder of the run.

    Where VBench's environment is not there, the table says so.

    Returns:
        An exit status: 0 if all was scored, or nothing because the environment is not there; 1 otherwise.
    """
    absent = missing_environment()
    results = Results(dimensions=check_dimensions(plan.settings.dimensions), presets=list(plan.policies))
    with hold(plan.output), explain_errors(plan.output):
        full_info = None if absent else _full_info(plan)
        for preset in results.presets:
            for dimension in results.dimensions:
                found = absent if full_info is None else _score(plan, preset, dimension, full_info)
                assert found is not None
                results.add(preset, dimension, found)
        write_results(plan, results)
    return 1 if results.reasons and not absent else 0


def _full_info(plan: Plan) -> Path:
    """VBench's list of prompts, or one of the same form that is made of other prompts."""
    settings = plan.settings
    if settings.full_info is not None or settings.short_prompts is None:
        return Path(settings.full_info) if settings.full_info else packaged_full_info()
    prompts = dict.fromkeys((video.suite, video.short) for video in plan.videos)
    entries = [
        {"prompt_en": short, "dimension": [name for name, of in SUITE_OF_DIMENSION.items() if of == suite]}
        for suite, short in prompts
    ]
    path = plan.output / "full_info.json"
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(entries, ensure_ascii=False, indent=1), encoding="utf-8")
    return path


def _score(plan: Plan, preset: str, dimension: str, full_info: Path) -> Score | str:
    """One dimension's score, or why there is none; one whose videos are still the same is not taken again."""
    if plan.settings.full_info is None and plan.settings.short_prompts and dimension in WITH_VBENCHS_PROMPTS:
        return f"{dimension} is scored on VBench's own prompts alone"
    suite = SUITE_OF_DIMENSION[dimension]
    folder = plan.folder(preset).root / "scores" / dimension
    folder.mkdir(parents=True, exist_ok=True)
    results, scored = folder / f"{dimension}_eval_results.json", folder / "videos.sha256"
    key = _key(plan, preset, suite)
    if not (results.exists() and scored.exists() and scored.read_text() == key):
        scored.unlink(missing_ok=True)
        results.unlink(missing_ok=True)
        print(f"scoring {preset} in {dimension}", flush=True)
        device = (plan.settings.devices or _first_device())[0]
        arguments = [dimension, plan.folder(preset).videos / suite, full_info.resolve(), folder, device]
        log = folder / "log.txt"
        status = _run([str(named_python()), evaluate.__file__, *map(str, arguments)], log)
        if status or not results.exists():
            reason = f"{_last_line(log)} ({log})"
            print(f"error: {preset} has no score in {dimension}: {reason}", file=sys.stderr)
            return reason
        scored.write_text(key)
    return read_results(results, dimension)


def _key(plan: Plan, preset: str, suite: str) -> str:
    """A hash of a suite's videos."""
    entries = read_manifest(plan.folder(preset).manifest).values()
    videos = sorted(f"{entry.video} {entry.sha256}" for entry in entries if entry.video.startswith(f"{suite}/"))
    return sha256("\n".join(videos).encode()).hexdigest()


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
