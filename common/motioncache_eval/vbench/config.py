"""Which of VBench's prompts are sampled, how often, where, and on which devices."""

from dataclasses import dataclass

from motioncache_eval.settings import require, require_device, require_path

MOST_SAMPLES = 1000
"""VBench takes 25 of a prompt at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VBenchConfig:
    """Which prompts are sampled, and where the videos go.

    Args:
        dimensions: VBench dimensions.
        full_info: path of `VBench_full_info.json`; null takes that of an installed `vbench`.
        short_prompts, long_prompts: a folder of text files, or one file; see `prompts.list_videos`.
        samples_per_prompt: videos per prompt; VBench's standard is 5 (25 for temporal_flickering), the paper made 1.
        devices: each gets one process; an empty list means all CUDA devices, or the CPU if there are none.
        output: folder of the videos, which each suite has a folder for, and of the record of their settings.
    """

    dimensions: tuple[str, ...] = ("subject_consistency",)
    full_info: str | None = None
    short_prompts: str | None = None
    long_prompts: str | None = None
    samples_per_prompt: int = 1
    devices: tuple[str, ...] = ()
    output: str = "outputs/vbench"

    def __post_init__(self) -> None:
        samples = self.samples_per_prompt
        require("samples_per_prompt", samples, 1 <= samples <= MOST_SAMPLES, f"from 1 to {MOST_SAMPLES}")
        for device in self.devices:
            require_device(device)

        for name in ("full_info", "short_prompts", "long_prompts", "output"):
            require(name, getattr(self, name), getattr(self, name) != "", "null, or a path")
            require_path(name, getattr(self, name))
