from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from motioncache import NoCacheConfig
from motioncache.api import cached, get_hook
from motioncache.decision import ChunkState, Decision
from motioncache.probe import Probe
from motioncache_eval.fit_polynomial import StoreResidual
from motioncache_eval.ranking.recording import Recording
from motioncache_skyreels.record import Watch, main

from .conftest import SMALL, generate


def test_the_hooks_see_the_residuals_that_the_engine_keeps(pipeline: Any) -> None:
    """Two independent ways to the same figures: hooks on the stock model, and the engine of the cache."""
    kept: dict[tuple[int, int], torch.Tensor] = {}

    class Residuals(Probe):
        def committed(self, decision: Decision, state: ChunkState) -> None:
            call = decision.call
            if call.branch == "cond" and call.kv_only is None:
                kept[call.chunk, call.step] = state.outputs[0][0].clone()

    with cached(pipeline, NoCacheConfig()):
        engine = get_hook(pipeline).engine
        engine.policy, engine.probe = StoreResidual(), Residuals()
        latents = generate(pipeline)
    watch = Watch(pipeline.transformer)
    with watch.attached():
        assert torch.allclose(generate(pipeline), latents, atol=1e-4)
    assert not pipeline.transformer._forward_hooks
    made = watch.recorder.recording("any", np.zeros((77, 16, 32, 3), np.uint8), watch.grid)
    assert sorted(zip(made.chunk, made.step, strict=True)) == [(c, s) for c in range(4) for s in range(1, 10)]
    for chunk, step, change in zip(made.chunk, made.step, made.change, strict=True):
        expected = (kept[int(chunk), int(step)] - kept[int(chunk), int(step) - 1]).abs().mean(-1)
        assert change == pytest.approx(expected.numpy(), rel=1e-3, abs=1e-5)


def test_the_command_records_what_is_missing(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red circle\na blue square\n")
    arguments = [str(model_folder), "--prompts", str(prompts), "--output", str(tmp_path / "out"), *SMALL]
    assert main(arguments) == 0
    found = Recording.load(tmp_path / "out" / "01.npz")
    assert found.prompt == "a blue square"
    assert found.change.shape == (10, 5 * 2 * 4)  # two chunks of five steps after their first
    assert not np.isnan(found.proxies["predicted"]).any()
    (tmp_path / "out" / "00.npz").unlink()
    capsys.readouterr()
    assert main(arguments) == 0
    assert capsys.readouterr().out.count(".npz") == 1
    prompts.write_text("a red circle\na green square\n")
    assert main(arguments) == 2
    assert "01.npz is a recording of 'a blue square', not of 'a green square'" in capsys.readouterr().err


def test_a_long_video_and_synchronous_sampling_are_refused(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for change in ("ar_step=0", "num_frames=57"):
        overrides = [*SMALL, "overlap_history=17", change]
        assert main([str(model_folder), "--output", str(tmp_path), *overrides]) == 2
        assert "one window, sampled asynchronously" in capsys.readouterr().err
