"""The tables of memory are those of the committed figures, and the estimate agrees with the figures."""

import importlib
from dataclasses import replace
from types import ModuleType

import pytest

from motioncache.config import KVStorage
from motioncache_eval.jobs import installed_models
from motioncache_eval.measured_memory import KV, OUTPUTS, TEXT_KV, MeasuredMemory, flags_of
from motioncache_eval.memory import Footprint
from motioncache_magi.loading.variants import FP8_VARIANTS, VARIANTS, released
from motioncache_magi.memory import memory as magi_memory
from motioncache_skyreels.memory import RELEASED, create_empty
from motioncache_skyreels.memory import memory as skyreels_memory
from motioncache_skyreels.peak import KeptKeys

from .blocks import ROOT


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    return importlib.import_module("write_memory")


def test_the_tables_are_up_to_date(writer: ModuleType) -> None:
    for path, page in writer.pages(writer.read()).items():
        assert path.read_text() == page, f"{path.name} is out of date: run python docs/write_memory.py"


def test_every_released_model_has_figures(writer: ModuleType) -> None:
    figures = writer.read()
    for model in installed_models().values():
        released = model.released()
        for name in released.names:
            plain = [one for one in figures[name] if not one.flags]
            assert [one.frames for one in plain] == list(released.lengths)
            ways = released.ways if name in writer.SEVERAL else released.ways[:1]
            assert [one.flags for one in figures[name][: len(ways)]] == [*map(flags_of, ways)]


UPPER_BOUNDS = {("4.5B_base", "kv=host")}
"""What is estimated as if all that ever comes from the host were there at one time."""


def test_the_estimate_agrees_with_the_figures(writer: ModuleType) -> None:
    for name, rows in writer.read().items():
        for measured in rows:
            if (name, *measured.flags) in UPPER_BOUNDS:
                total = estimate(name, measured).total(offload=True)
                assert measured.peak(offload=True) <= total <= 1.1 * measured.peak(offload=True)
            elif not any(flag.startswith(("weights=int8", "gpus")) for flag in measured.flags):
                exact = not measured.flags and name not in FP8_VARIANTS  # at their peak a text is still without a layer
                check_estimate(estimate(name, measured), measured, exact=exact)


def estimate(name: str, measured: MeasuredMemory) -> Footprint:
    chosen = dict(flag.split("=") for flag in measured.flags)
    if name in (*VARIANTS, *FP8_VARIANTS):
        config = released(name)
        config = replace(config, runtime=replace(config.runtime, num_frames=measured.frames))
        return magi_memory(
            config,
            name,
            kv=KVStorage(chosen.get("kv", "model")),
            keeps_active="preset" not in chosen,
            keep_fp8=name in FP8_VARIANTS,
        )
    sizes, (height, width) = RELEASED[name]
    return skyreels_memory(
        create_empty(sizes),
        name,
        height=height,
        width=width,
        num_frames=measured.frames,
        kept=KeptKeys(
            kv=KVStorage(chosen.get("kv", "model")),
            all_chunks="preset" not in chosen,
            synchronous="synchronous" in chosen,
            residuals="preset" not in chosen,
        ),
        split_guidance="split_guidance" in chosen,
    )


def check_estimate(estimated: Footprint, measured: MeasuredMemory, *, exact: bool) -> None:
    (parts,) = (stage.parts for stage in measured.stages if stage.name == "sampling")
    if exact:
        assert (estimated.kv_cache, estimated.text_kv) == (parts[KV], parts[TEXT_KV]), measured.name
        assert 0.7 * estimated.outputs < parts[OUTPUTS] <= estimated.outputs  # at the peak, a chunk may have none yet
    for offload in (False, True):
        assert estimated.total(offload=offload) == pytest.approx(
            measured.peak(offload=offload), rel=0.02 if exact else 0.03
        ), measured.name
