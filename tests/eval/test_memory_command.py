"""`motioncache memory` says what a model takes and what fits, and refuses what it does not know."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from motioncache.errors import MotionCacheError
from motioncache_eval import out_of_memory
from motioncache_eval.cli import main
from motioncache_eval.cli.memory import fitting_flags
from motioncache_eval.jobs import find_model
from motioncache_eval.measured_memory import MeasuredMemory, MemorySettings, Stage
from motioncache_eval.memory import GIB, Footprint
from motioncache_eval.out_of_memory import explain_out_of_memory, fitting


def measured(frames: int, less: int = 0) -> MeasuredMemory:
    """A model that takes 10 GiB of weights, 10 of an encoder's, and a GiB for each five frames, less some."""
    return MeasuredMemory(
        name=f"a model, {frames} frames",
        frames=frames,
        weights={"transformer": 10 * GIB, "text encoder": 10 * GIB},
        stages=(
            Stage(name="prompt", needs=("text encoder",), parts={}),
            Stage(name="sampling", needs=("transformer",), parts={"K/V": frames * GIB // 5 - less * GIB, "GELU": 0}),
        ),
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, MemorySettings]]:
    """What was measured, and nothing is."""
    calls: list[tuple[str, MemorySettings]] = []

    def measure(self: Any, name: str, settings: MemorySettings) -> MeasuredMemory:
        calls.append((name, settings))
        return measured(settings.base_num_frames or 97, less=4 * (settings.kv == "host" and settings.preset == "slow"))

    monkeypatch.setattr(type(find_model("skyreels-v2")), "measure_memory", measure)
    return calls


def test_it_prints_parts_peaks_and_what_fits(
    asked: list[tuple[str, MemorySettings]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["memory", "1.3B-540P", "preset=exact"]) == 0
    printed = capsys.readouterr().out
    assert "19.40  K/V" in printed
    assert "peak: 39.4 GiB; with cpu_offload=true: 29.4 GiB" in printed
    fits = [line.strip() for line in printed.splitlines() if " GB " in line]
    assert fits == [
        "24 GB  base_num_frames=57 cpu_offload=true",  # 10 + 11.4, and a GiB for CUDA
        "48 GB  as it is",
        "80 GB  as it is",
        "141 GB  as it is",
    ]
    assert [settings.base_num_frames for _, settings in asked if settings.kv is None] == [None, 77, 57]
    assert {settings.preset for _, settings in asked} == {"exact"}


def test_settings_that_take_less_come_before_shorter_windows(
    asked: list[tuple[str, MemorySettings]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["memory", "1.3B-540P", "preset=slow", "num_frames=97", "base_num_frames=77"]) == 0
    (fit,) = [line.split("GB")[1].strip() for line in capsys.readouterr().out.splitlines() if " 24 GB " in line]
    assert fit == "kv=host cpu_offload=true"  # 10 + 15.4 - 4, and a GiB for CUDA
    assert [(settings.base_num_frames, settings.kv) for _, settings in asked] == [
        (77, None),
        (77, "int8"),
        (77, "host"),
    ]


def test_a_card_keeps_a_gib_for_cuda() -> None:
    assert fitting_flags(measured(50), 31) == ""  # 30 GiB
    assert fitting_flags(measured(50), 30) == "cpu_offload=true"
    assert fitting_flags(measured(50), 20) is None


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ([], "there is no released model ''; pass one of"),
        (["5B"], "there is no released model '5B'; pass one of"),
        (["1.3B-540P", "heigth=544"], "heigth"),
        (["1.3B-540P", "height=545"], "height: 545"),
        (["1.3B-540P", "num_frames"], "write key=value"),
    ],
)
def test_what_is_not_known_is_refused_in_one_line(
    arguments: list[str], found: str, asked: list[tuple[str, MemorySettings]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["memory", *arguments]) == 2
    error = capsys.readouterr().err
    assert found in error
    assert len(error.splitlines()) == 1
    assert not asked


@dataclass(frozen=True)
class Job:
    """A job for a model of 10 GiB and as much for its text encoder."""

    device: str = "cuda"
    num_frames: int = 97
    base_num_frames: int = 97
    width: int = 960
    height: int = 544
    cpu_offload: bool = False
    kv: str | None = None
    split_guidance: bool = False


def estimate(job: Job) -> Footprint:
    kv = {None: 19, "int8": 9, "host": 1}[job.kv] * job.base_num_frames // 97
    return Footprint(
        name="", transformer=10 * GIB, text_encoder=10 * GIB, autoencoder=GIB, kv_cache=kv * GIB, text_kv=0, outputs=0,
        activations=10 * GIB // (1 + job.split_guidance),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("card", "remedies"),
    [
        (None, "cpu_offload=true, kv=int8 or kv=host, dtype=bfloat16, a smaller base_num_frames, or a smaller video"),
        (48, "cpu_offload=true or base_num_frames=77"),  # 39 and a GiB, or 46
        (32, "cpu_offload=true kv=int8"),
        (23, "cpu_offload=true kv=host"),
        (18, "cpu_offload=true kv=host split_guidance=true"),
        (8, "cpu_offload=true, kv=int8 or kv=host, dtype=bfloat16, a smaller base_num_frames, or a smaller video"),
    ],
)
def test_an_error_of_a_gpu_says_what_sampling_takes_and_what_fits(
    card: int | None, remedies: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(out_of_memory, "card_size", lambda _: None if card is None else card * GIB)
    found = (
        "cuda has too little memory for 97 frames of 960x544, which take about 50 GiB, or 39 GiB with "
        f"cpu_offload=true: pass {remedies}"
    )
    with pytest.raises(MotionCacheError, match=f"^{found}$"), explain_out_of_memory(Job(), estimate):
        raise torch.OutOfMemoryError


def test_what_is_on_already_is_not_advised() -> None:
    assert fitting(Job(cpu_offload=True, kv="int8"), estimate, 23 * GIB) == "kv=host"
    assert fitting(Job(), estimate, None) is None
