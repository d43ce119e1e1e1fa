"""How a video of the history is made again: as a command, and in Python."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from motioncache_eval.studio.history import Entry
from motioncache_eval.studio.models import VANILLA, WISHES

OUTSIDE = ("model", "preset", "output")
"""Settings that a command says otherwise."""

CALL = ("num_frames", "height", "width", "num_inference_steps", "negative_prompt", "image", "video", "guidance_scale")
"""Settings that are arguments of a pipeline's call by the same name."""

SKYREELS_CALL = (
    "base_num_frames", "overlap_history", "addnoise_condition", "ar_step", "causal_block_size", "fps",
)  # fmt: skip


def as_command(entry: Entry, defaults: Mapping[str, Any]) -> str:
    """A shell command that makes the same video.

    Args:
        defaults: settings of the model where the command names none.
    """
    config, uncached = entry.report["config"], entry.report["preset"] == VANILLA
    own = {key: config[key] for key in WISHES if config.get(key) not in (None, "")}
    others = {
        key: value
        for key, value in config.items()
        if key not in (*own, *OUTSIDE) and key in defaults and value not in (None, defaults[key])
    }
    preset = "exact" if uncached else entry.report["preset"]  # the demo makes the uncached video besides
    texts = [
        f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in (own | others).items()
    ]
    command = "demo" if uncached else "generate"
    return shlex.join(["motioncache", command, f"model={entry.report['model']}", f"preset={preset}", *texts])


def as_python(entry: Entry) -> str:
    """A Python program that makes the same video, and writes it."""
    config = entry.report["config"]
    head, more = _load(config)
    arguments = {key: config[key] for key in CALL if config.get(key) not in (None, "")}
    arguments |= {key: config[key] for key in SKYREELS_CALL if "ar_step" in config and config[key] is not None}
    lines = "".join(f"    {name}={value!r},\n" for name, value in (arguments | more).items())
    return (
        f"{head}{_enable(entry.report['preset'], config)}"
        f"frames = pipe(\n    {config['prompt']!r},\n{lines}"
        f"    generator=torch.Generator().manual_seed({config['seed']}),\n).frames[0]\n"
        f'export_to_video(list(frames), "video.mp4", fps={config["fps"]})\n'
    )


def _load(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The lines that load a pipeline, and arguments of its call that no setting names."""
    if "ar_step" in config:
        return _load_diffusers("SkyReelsV2DiffusionForcingPipeline", config), {}
    if "variant" in config:
        return _load_magi(config), {}
    return _load_diffusers("HeliosPipeline", config), {"num_latent_frames_per_chunk": 9}


def _load_diffusers(pipeline: str, config: Mapping[str, Any]) -> str:
    placed = "pipe.enable_model_cpu_offload" if config["cpu_offload"] else "pipe.to"
    shift = config.get("flow_shift")
    scheduler = f"type(pipe.scheduler).from_config(pipe.scheduler.config, flow_shift={shift})"
    return (
        f"import motioncache\nimport torch\nfrom diffusers import {pipeline}\n"
        "from diffusers.utils import export_to_video\n\n"
        f"pipe = {pipeline}.from_pretrained(\n    {_place(config)!r}, dtype=torch.{config['dtype']}\n)\n"
        f"{'' if shift is None else f'pipe.scheduler = {scheduler}{chr(10)}'}"
        f"{placed}({config['device']!r})\n"
    )


def _load_magi(config: Mapping[str, Any]) -> str:
    named = {"variant": "variant", "special_tokens": "special_tokens", "weights": "weights", "cpu_offload": "offload"}
    options = "".join(f", {theirs}={config[ours]!r}" for ours, theirs in named.items() if config[ours])
    return (
        "import motioncache\nimport torch\nfrom diffusers.utils import export_to_video\n"
        "from motioncache_magi.pipeline import MagiPipeline\n\n"
        f"pipe = MagiPipeline.from_pretrained({_place(config)!r}{options}, device={config['device']!r})\n"
    )


def _place(config: Mapping[str, Any]) -> str:
    model = config["model"]
    return str(Path(model).resolve()) if Path(model).exists() else model


def _enable(preset: str, config: Mapping[str, Any]) -> str:
    if preset == VANILLA:
        return ""
    options = {key: config.get(key) for key in ("target_speedup", "kv", "split_guidance")}
    more = "".join(f", {key}={value!r}" for key, value in options.items() if value)
    return f"motioncache.enable_cache(pipe, preset={preset!r}{more})\n"
