"""Small videos in the folders of VBench sampling."""

from pathlib import Path
from typing import Any

import torch

from motioncache_eval.vbench.check import VideoSize
from motioncache_eval.vbench.folder import OutputFolder
from motioncache_eval.vbench.manifest import Entry, add_entry, describe_file
from motioncache_eval.vbench.prompts import Video
from motioncache_eval.video import write_mp4

SIZE = VideoSize(frames=5, height=16, width=32)
SETTINGS: dict[str, Any] = {"model": "abc", "height": 16, "policy": {"name": "MotionCacheConfig", "threshold": 0.1}}
VIDEOS = [
    Video(suite="scene", name=f"{short}-0.mp4", short=short, prompt=short, index=0) for short in ("alley", "beach")
]


def noise(frames: int = 5, height: int = 16, width: int = 32) -> torch.Tensor:
    return torch.rand(frames, 3, height, width, generator=torch.Generator().manual_seed(0))


def write(path: Path, video: torch.Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mp4(path, (video * 255).to(torch.uint8).permute(0, 2, 3, 1).numpy(), fps=8)


def enter(folder: OutputFolder, video: Video) -> None:
    size, digest = describe_file(folder.path(video))
    add_entry(folder.manifest, Entry(video=video.key, size=size, sha256=digest, seconds=1.5, seed=7))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])
