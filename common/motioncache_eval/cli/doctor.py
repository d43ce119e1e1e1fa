"""`motioncache doctor`: versions, devices, what attention and video files need, and which videos fit which GPU."""

import os
import platform
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import torch

import motioncache
from motioncache.extras import PACKAGES
from motioncache_eval.cli.options import HELP
from motioncache_eval.jobs import installed_models
from motioncache_eval.memory import CARDS, GIB, memory_table

LIBRARIES = ("motioncache", "torch", "diffusers", "transformers", "accelerate", "flash-attn")


def main(arguments: list[str]) -> int:
    """Print what was found; nothing is measured."""
    if set(HELP) & set(arguments):
        print(f"usage: motioncache doctor\n\n{__doc__}")
        return 0
    parts: dict[str, Callable[[], list[str]]] = {
        "versions": versions,
        "devices": devices,
        "attention": attention,
        "optional packages": optional_packages,
        "video files": video_files,
    }
    for title, find in parts.items():
        print(f"{title}\n" + "\n".join(f"  {line}" for line in find()) + "\n", flush=True)
    print("Which videos fit, with the cache on: an estimate, with a GiB left for CUDA; `motioncache memory` measures.")
    print("yes: all on the GPU; offload: with cpu_offload=true; total: GiB with all on the GPU.")
    footprints = [one for model in installed_models().values() for one in model.footprints()]
    print("\n".join(memory_table(footprints, sorted({*CARDS, *own_cards()}))))
    return 0


def versions() -> list[str]:
    """Of Python and the libraries, and where the package lies."""
    found = [f"{name} {_version(name)}" for name in LIBRARIES]
    folder = Path(str(motioncache.__file__)).parent
    return [f"python {platform.python_version()} ({sys.executable})", *found, f"motioncache is run from {folder}"]


def devices() -> list[str]:
    """The CPU and every GPU, with free and total memory."""
    lines = [f"cpu: {os.cpu_count()} cores, {torch.get_num_threads()} threads, {_host_memory()}"]
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        lines.append(f"cuda:{index}: {name}, {free / GIB:.1f} of {total / GIB:.1f} GiB free")
    return lines if len(lines) > 1 else [*lines, "no CUDA device"]


def own_cards() -> list[int]:
    """Sizes of this machine's GPUs, in GiB."""
    return [torch.cuda.mem_get_info(index)[1] // GIB for index in range(torch.cuda.device_count())]


def attention() -> list[str]:
    """The kernels of scaled dot product attention that PyTorch would use here, and flash-attn."""
    if not torch.cuda.is_available():
        return ["scaled dot product attention of PyTorch, on the CPU; other kernels need a CUDA device"]
    backends = torch.backends.cuda
    kernels = {
        "flash": backends.flash_sdp_enabled(),
        "memory efficient": backends.mem_efficient_sdp_enabled(),
        "cuDNN": backends.cudnn_sdp_enabled(),
        "math": backends.math_sdp_enabled(),
    }
    own = "installed" if find_spec("flash_attn") else "not installed: pip install 'motioncache[flash]'"
    return [f"PyTorch: {', '.join(name for name, on in kernels.items() if on)}", f"FlashAttention 2: {own}"]


def optional_packages() -> list[str]:
    """Packages of the extras."""
    return [
        f"{package}: {'installed' if _found(module) else f'missing: pip install motioncache[{extra}]'}"
        for module, (package, extra) in PACKAGES.items()
    ]


def video_files() -> list[str]:
    """Whether H.264 can be written, which the command line does with PyAV."""
    ffmpeg = shutil.which("ffmpeg") or "not found, and not needed"
    return [f"PyAV: {_pyav()}", f"ffmpeg: {ffmpeg}"]


def _pyav() -> str:
    if not _found("av"):
        return "missing: pip install 'motioncache[video]'"
    import av

    return "encodes H.264" if "libx264" in av.codecs_available else "has no libx264, which writing videos needs"


def _found(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of a package in which the module would lie
        return False


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _host_memory() -> str:
    try:
        pages, free, size = (os.sysconf(name) for name in ("SC_PHYS_PAGES", "SC_AVPHYS_PAGES", "SC_PAGE_SIZE"))
    except (ValueError, OSError):  # not every system has these names
        return "memory unknown"
    return f"{free * size / GIB:.1f} of {pages * size / GIB:.1f} GiB free"
