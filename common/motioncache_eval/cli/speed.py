"""`motioncache speed MODEL [key=value ...]`: count what a model call asks of a GPU, without a GPU.

The real code runs a few denoise steps at the real size on tensors that have a size and no content. For every kind of
model call it prints the kernels that are launched, the times that the host waits for the device or copies to it, FLOPs,
and the bytes that operators read and write, each for itself, which fused kernels do not. No weights are loaded.

`motioncache speed setting=paper` makes the paper's videos of both models with random weights, without a cache and with
the presets: on a GPU it takes their time, and elsewhere it counts what they ask of one. It writes JSON and prints a
table; `python docs/write_speed.py FILE` puts it into the documents.
"""

from pathlib import Path

from motioncache.config import parse_overrides, structured
from motioncache.errors import MotionCacheError
from motioncache_eval.cli.keys import describe_keys
from motioncache_eval.cli.options import HELP
from motioncache_eval.jobs import installed_models
from motioncache_eval.paper import (
    PaperResult,
    PaperSettings,
    SamplesPaper,
    measure_paper,
    paper_table,
    read_paper,
    write_paper,
)
from motioncache_eval.speed import CARDS, CountsCalls, SpeedSettings, count_table, kinds_of, roofline


def main(arguments: list[str]) -> int:
    """Print the counts and the roofline of the costliest call."""
    counted = [model for model in installed_models().values() if isinstance(model, CountsCalls)]
    names = {name: model for model in counted for name in model.released().names}
    if set(HELP) & set(arguments):
        print(f"usage: motioncache speed MODEL [key=value ...]\n\n{__doc__}\nMODEL is one of: {', '.join(names)}\n")
        print(f"Keys:\n{describe_keys(SpeedSettings)}\n\nKeys with setting=paper:\n{describe_keys(PaperSettings)}")
        return 0
    if any(argument.startswith("setting=") for argument in arguments):
        return _paper(arguments)
    first, *texts = arguments or [""]
    name = first.removeprefix("model=")
    if name not in names:
        raise MotionCacheError(f"there is no released model {name!r}; pass one of {', '.join(names)}")
    settings = structured(SpeedSettings, parse_overrides(texts, [SpeedSettings]), where="overrides")
    kinds = kinds_of(names[name].count_calls(name, settings))
    print("\n".join(count_table(kinds).markdown()))
    print("\nThe costliest call takes at least, by the data sheets:")
    costliest = max(kinds, key=lambda call: call.counts.flops)
    print("\n".join(f"  {roofline(costliest, card)}" for card in CARDS), flush=True)
    return 0


def _paper(arguments: list[str]) -> int:
    """Measure the paper's videos, model by model and preset by preset."""
    settings = structured(PaperSettings, parse_overrides(arguments, [PaperSettings]), where="overrides")
    device = settings.chosen_device
    if device == "meta":
        print("There is no GPU to take the time on: counted is what the videos ask of one.\n", flush=True)
    results: list[PaperResult] = []
    for model in installed_models().values():
        if isinstance(model, SamplesPaper):
            for one in measure_paper(model, device):
                results.append(one)
                print(f"{one.model}, {one.method}: done", flush=True)
    write_paper(Path(settings.output), device, results)
    gpu, results = read_paper(Path(settings.output))
    print("\n".join(["", *paper_table(gpu, results).markdown(), "", f"written: {settings.output}"]), flush=True)
    return 0
