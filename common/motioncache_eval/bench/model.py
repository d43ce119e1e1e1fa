"""What a model's package brings to the benchmark: a loaded pipeline and how it is sampled."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

import torch

from motioncache.api import Adapter
from motioncache.config import PolicyConfig
from motioncache.errors import MotionCacheError
from motioncache_eval.sampling import Sample, take_sample

GROUP = "motioncache.benches"
"""Entry points of the loaders, by the model's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchModel:
    """A loaded model.

    Attributes:
        job: the main job's configuration, with at least `prompt`, `seed`, `num_inference_steps`, `num_frames`, `fps`,
            `device`.
        call: samples with the pipeline what a job says, and returns latents.
        decode: latents to float frames `[frames, 3, height, width]` in [0, 1] on the host.
        warm_up: a short call of a job, so that no method pays for first-time allocations.
        branch: of guidance, whose decisions are shown.
        chunks: frames of the first chunk and of every other one.
    """

    adapter: Adapter
    job: Any
    pipeline: Any
    call: Callable[[Any, Any], torch.Tensor]
    decode: Callable[[torch.Tensor], torch.Tensor]
    warm_up: Callable[[Any], object]
    branch: str
    chunks: tuple[int, int]

    def sample(self, job: Any, policy: PolicyConfig | None, *, prepare: Callable[[Any], None] | None = None) -> Sample:
        """One video of a job under a policy; None is the pipeline as it comes. `prepare`: see `take_sample`."""
        call = partial(self.call, self.pipeline, job)
        return take_sample(self.pipeline, call, policy, device=job.device, prepare=prepare)

    def spans(self, frames: int) -> list[slice]:
        """The frames of each chunk, of a video of so many."""
        first, other = self.chunks
        starts = [0, *range(first, frames, other)]
        return [slice(a, b) for a, b in zip(starts, [*starts[1:], frames], strict=True)]


class Loader(Protocol):
    """Loads a model as its main job does.

    Args:
        config: the main job's YAML file.
        overrides: `key=value` texts.
    """

    def __call__(self, config: Path, overrides: Sequence[str]) -> BenchModel: ...


def find_loader(name: str) -> Loader:
    """The loader of an installed model's package.

    Raises:
        MotionCacheError: if there is none of that name; it says which there are.
    """
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        raise MotionCacheError(
            f"there is no model {name!r} to measure; installed: {', '.join(sorted(found)) or 'none'}"
        )
    return found[name].load()
