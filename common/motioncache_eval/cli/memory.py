"""`motioncache memory MODEL [key=value ...]`: measure what a released model takes of a GPU's memory, without a GPU.

The real code runs on tensors that have a size and no content, with the cache on and guidance as the model has it, while
every chunk of a window is computed: the most that the preset takes. No weights are loaded.
"""

from collections.abc import Iterator
from dataclasses import replace

from motioncache.config import parse_overrides, structured
from motioncache.errors import MotionCacheError
from motioncache_eval.cli.keys import describe_keys
from motioncache_eval.cli.options import HELP
from motioncache_eval.jobs import JobModel, installed_models
from motioncache_eval.measured_memory import MeasuredMemory, MemorySettings, Released, flags_of
from motioncache_eval.memory import GIB, RESERVE

CARDS = (24, 48, 80, 141)

SHOWN = 8
"""Parts of a stage that are shown by name."""


def main(arguments: list[str]) -> int:
    """Print the parts, the peak, and what fits on which card."""
    models = installed_models()
    names = {name: model for model in models.values() for name in model.released().names}
    if set(HELP) & set(arguments):
        print(f"usage: motioncache memory MODEL [key=value ...]\n\n{__doc__}\nMODEL is one of: {', '.join(names)}\n")
        print(f"Keys:\n{describe_keys(MemorySettings)}")
        return 0
    name, texts = _named(arguments, names)
    settings = structured(MemorySettings, parse_overrides(texts, [MemorySettings]), where="overrides")
    measured = names[name].measure_memory(name, settings)
    print("\n".join(describe(measured, offload=settings.cpu_offload)), flush=True)
    print("\nWhat fits, with a GiB left for CUDA:")
    candidates = _Candidates(names[name], name, settings, measured)
    for card in CARDS:
        print(f"  {card:4d} GB  {candidates.describe_fit(card)}", flush=True)
    return 0


def _named(arguments: list[str], names: dict[str, JobModel]) -> tuple[str, list[str]]:
    """The released model, and the other arguments."""
    first, *rest = arguments or [""]
    name = first.removeprefix("model=")
    if name not in names:
        raise MotionCacheError(f"there is no released model {name!r}; pass one of {', '.join(names)}")
    return name, rest


def describe(measured: MeasuredMemory, *, offload: bool) -> list[str]:
    """The parts of every stage and the peak."""
    lines = [measured.name]
    for stage in measured.stages:
        lines.append(f"{stage.name}: {measured.stage_total(stage, offload=offload) / GIB:.2f} GiB")
        held = sorted(measured.held(stage, offload))
        lines += [_line(f"weights of the {name}", measured.weights[name]) for name in held]
        parts = list(stage.parts.items())
        lines += [_line(part, size) for part, size in parts[:SHOWN]]
        if parts[SHOWN:]:
            lines.append(_line(f"{len(parts) - SHOWN} others", sum(size for _, size in parts[SHOWN:])))
    peaks = [f"{measured.peak(offload=one) / GIB:.1f} GiB" for one in (False, True)]
    return [*lines, f"peak: {peaks[0]}; with cpu_offload=true: {peaks[1]}"]


def _line(name: str, size: int) -> str:
    return f"  {size / GIB:8.2f}  {name}"


def fitting_flags(measured: MeasuredMemory, card: int) -> str | None:
    """The flags with which a video fits on a card of so many GiB, or None if it does not."""
    for offload, more in ((False, ()), (True, ("cpu_offload=true",))):
        if measured.peak(offload=offload) + RESERVE <= card * GIB:
            return " ".join((*measured.flags, *more))
    return None


class _Candidates:
    """The video that was asked for, ways that take less memory, and shorter windows; measured when they are needed."""

    def __init__(self, model: JobModel, name: str, settings: MemorySettings, measured: MeasuredMemory) -> None:
        self._released: Released = model.released()
        self._measured = [measured]
        self._asked = measured.frames
        self._others = self._measure_others(model, name, settings, measured.frames)

    def _measure_others(
        self, model: JobModel, name: str, settings: MemorySettings, frames: int
    ) -> Iterator[MeasuredMemory]:
        lengths = [frames, *(length for length in self._released.lengths if length < frames)]
        tried = {(frames, settings)}
        for length in lengths:
            for way in self._released.ways:
                changed = replace(settings, **way)
                if (length, changed) not in tried:
                    tried.add((length, changed))
                    sized = changed if length == frames else replace(changed, **{self._released.frames_key: length})
                    yield replace(model.measure_memory(name, sized), flags=flags_of(way))

    def describe_fit(self, card: int) -> str:
        """The flags for the longest window that fits."""
        for measured in self._all():
            flags = fitting_flags(measured, card)
            if flags is not None:
                shorter = f"{self._released.frames_key}={measured.frames}" if measured.frames != self._asked else ""
                return " ".join(part for part in (shorter, flags) if part) or "as it is"
        return "does not fit"

    def _all(self) -> Iterator[MeasuredMemory]:
        yield from self._measured
        for measured in self._others:
            self._measured.append(measured)
            yield measured
