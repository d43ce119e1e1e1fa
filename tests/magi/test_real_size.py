"""The official layout from its files to the last step, and what a chunk costs late in a long video."""

import json
import struct
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import motioncache
from motioncache_magi.loading.checkpoint import load_dit
from motioncache_magi.loading.variants import released
from motioncache_magi.model.config import MagiConfig
from motioncache_magi.model.dit import VideoDiT, parameter_dtype
from motioncache_magi.model.fp8 import hold_fp8
from motioncache_magi.model.packed import Text
from motioncache_magi.sampling.sampler import Sampler, Settings
from motioncache_magi.sampling.schedule import WindowSchedule

from .conftest import official_json
from .test_pipeline import load

NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float8_e4m3fn: "F8_E4M3"}


def write_hollow(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """A safetensors file with a true header, whose data are a hole that takes no place on the disk."""
    header, end = {}, 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": [*tensor.shape], "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


@pytest.mark.parametrize(
    ("name", "folder"),
    [("4.5B_distill", "inference_weight.distill"), ("4.5B_distill_quant", "inference_weight.fp8.distill")],
)
def test_the_official_layout_runs_from_its_files_to_the_last_step(name: str, folder: str, tmp_path: Path) -> None:
    config = MagiConfig.from_dict(json.loads(json.dumps(official_json(released(name)))), where=name)
    with torch.device("meta"):
        layout = VideoDiT(config.model)
        layout = hold_fp8(layout) if config.engine.fp8_quant else layout
    tensors = {
        name: x if x.dtype is torch.float8_e4m3fn else x.to(parameter_dtype(name, config.model.dtype))
        for name, x in layout.state_dict().items()
    }
    write_hollow(tmp_path / folder / "model.safetensors", tensors)
    model = load_dit(tmp_path, config, "meta", keep_fp8=config.engine.fp8_quant)
    values = sum(x.numel() for name, x in model.state_dict().items() if not name.endswith("_scale"))
    assert values == 4_459_898_128
    schedule = WindowSchedule.of(config, chunks=2, steps=4)
    text = torch.empty(800, 4096, device="meta")
    sampler = Sampler(
        model,
        Settings.of(config, schedule),
        torch.empty(16, 12, 90, 90, device="meta"),
        prefix=None,
        captions=[Text(model.embed_text(text)) for _ in range(2)],
        null=Text(model.embed_text(text[:50])),
    )
    assert [(chunk, tuple(latents.shape)) for chunk, latents in sampler] == [(c, (16, 6, 90, 90)) for c in range(2)]


class Counter(TorchDispatchMode):
    """Counts operators, and calls of Python functions."""

    def __init__(self) -> None:
        super().__init__()
        self.operators = self.calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operators += 1
        return func(*args, **(kwargs or {}))

    def count_call(self, frame: FrameType, event: str, argument: Any) -> None:
        self.calls += event == "call" and "motioncache" in frame.f_code.co_filename


@pytest.mark.parametrize("preset", ["exact", "teacache-slow"])
def test_the_fiftieth_chunk_costs_what_the_fifth_does(
    preset: str, distilled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = load(distilled)
    step, counts = Sampler.step, dict[int, tuple[int, int]]()

    def counted(sampler: Sampler, one: Any) -> None:
        with Counter() as counter:
            sys.setprofile(counter.count_call)
            try:
                step(sampler, one)
            finally:
                sys.setprofile(None)
        counts[one.index] = (counter.operators, counter.calls)

    monkeypatch.setattr(Sampler, "step", counted)
    with motioncache.cached(pipe, preset):
        call = {"num_frames": 54 * 24, "num_inference_steps": 4, "output_type": "latent"}
        pipe("a red circle", generator=torch.Generator().manual_seed(0), **call)
    fifth, fiftieth = counts[5], counts[50]  # one step enters a chunk
    assert fifth[0] > 200
    for early, late in zip(fifth, fiftieth, strict=True):
        assert late <= 1.05 * early, (fifth, fiftieth)
