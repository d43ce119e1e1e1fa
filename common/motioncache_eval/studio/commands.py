"""How a video of the history is made again: as a command, and in Python."""

import shlex
from pathlib import Path
from typing import Any

from motioncache_eval.studio.history import Entry
from motioncache_eval.studio.models import VANILLA, WISHES

CALL = {"height", "width", "num_frames", "num_inference_steps", "negative_prompt", "image", "video"}
"""Settings that are arguments of a pipeline's call by the same name."""

SKYREELS_CALL = (
    "base_num_frames", "overlap_history", "addnoise_condition", "guidance_scale", "ar_step", "causal_block_size", "fps",
)  # fmt: skip


def as_command(entry: Entry) -> str:
    """A shell command that makes the same video."""
    config = entry.report["config"]
    values = {key: config[key] for key in WISHES if config.get(key) not in (None, "")}
    command = "demo" if entry.report["preset"] == VANILLA else "generate"
    preset = [] if entry.report["preset"] == VANILLA else [f"preset={entry.report['preset']}"]
    texts = [f"{key}={value}" for key, value in values.items()]
    return shlex.join(["motioncache", command, f"model={entry.report['model']}", *texts, *preset])


def as_python(entry: Entry) -> str:
    """A Python program that makes the same video, and writes it."""
    config, preset = entry.report["config"], entry.report["preset"]
    diffusers = "causal_block_size" in config
    names = sorted(CALL & {key for key, value in config.items() if value not in (None, "")})
    names += SKYREELS_CALL if diffusers else ()
    arguments = "".join(f"    {name}={config[name]!r},\n" for name in names if config.get(name) is not None)
    head = _load_diffusers(config) if diffusers else _load_magi(config)
    return (
        f"{head}{_enable(preset, config)}"
        f"frames = pipe(\n    {config['prompt']!r},\n{arguments}"
        f"    generator=torch.Generator().manual_seed({config['seed']}),\n).frames[0]\n"
        f'export_to_video(list(frames), "video.mp4", fps={config["fps"]})\n'
    )


def _load_diffusers(config: dict[str, Any]) -> str:
    return (
        "import motioncache\nimport torch\nfrom diffusers import SkyReelsV2DiffusionForcingPipeline\n"
        "from diffusers.utils import export_to_video\n\n"
        f"pipe = SkyReelsV2DiffusionForcingPipeline.from_pretrained(\n"
        f"    {_place(config)!r}, dtype=torch.{config['dtype']}\n)\n"
        f"pipe.to({config['device']!r})\n"
    )


def _load_magi(config: dict[str, Any]) -> str:
    variant = "" if config.get("variant") is None else f", variant={config['variant']!r}"
    return (
        "import motioncache\nimport torch\nfrom diffusers.utils import export_to_video\n"
        "from motioncache_magi.pipeline import MagiPipeline\n\n"
        f"pipe = MagiPipeline.from_pretrained({_place(config)!r}{variant}, device={config['device']!r})\n"
    )


def _place(config: dict[str, Any]) -> str:
    model = config["model"]
    return str(Path(model).resolve()) if Path(model).exists() else model


def _enable(preset: str, config: dict[str, Any]) -> str:
    if preset == VANILLA:
        return ""
    target = config.get("target_speedup")
    more = "" if target is None else f", target_speedup={target}"
    return f"motioncache.enable_cache(pipe, preset={preset!r}{more})\n"
