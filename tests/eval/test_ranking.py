import json
from pathlib import Path

import numpy as np
import pytest
import torch

from motioncache_eval.ranking.__main__ import main
from motioncache_eval.ranking.measures import auc, ndcg, random_ndcg, ranks, spearman
from motioncache_eval.ranking.proxies import (
    LAST_CHANGE,
    ChunkStep,
    detail,
    frame_difference,
    moving_tokens,
    relative_frame_difference,
)
from motioncache_eval.ranking.rank import differences, rank
from motioncache_eval.ranking.recording import Recorder, Recording

CHANGE = np.array([0.1, 0.9, 0.3, 0.2, 0.8, 0.4, 0.5, 0.6])


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    assert ranks(np.array([2.0, 1.0, 2.0, 3.0])).tolist() == [2.5, 1.0, 2.5, 4.0]


def test_a_perfect_a_reversed_and_an_ignorant_order() -> None:
    constant = np.ones(8)
    assert [spearman(score, CHANGE) for score in (CHANGE**3, -CHANGE, constant)] == pytest.approx([1, -1, 0])
    assert [auc(score, CHANGE) for score in (CHANGE**3, -CHANGE, constant)] == pytest.approx([1, 0, 0.5])
    assert ndcg(CHANGE**3, CHANGE) == pytest.approx(1)
    assert ndcg(constant, CHANGE) == pytest.approx(random_ndcg(CHANGE))
    assert ndcg(-CHANGE, CHANGE) < random_ndcg(CHANGE)


def test_spearman_and_ndcg_of_a_known_case() -> None:
    score, change = np.array([3.0, 1.0, 2.0]), np.array([1.0, 0.0, 2.0])
    assert spearman(score, change) == pytest.approx(0.5)  # 1 - 6 * (1 + 0 + 1) / (3 * 8)
    assert ndcg(score, change) == pytest.approx((1 + 2 / np.log2(3)) / (2 + 1 / np.log2(3)))


def test_the_baseline_is_what_random_orders_score() -> None:
    rng = np.random.default_rng(0)
    change = rng.gamma(0.5, size=200)
    shuffled = [[f(rng.permutation(200).astype(float), change) for f in (spearman, auc, ndcg)] for _ in range(2000)]
    assert np.mean(shuffled, axis=0) == pytest.approx([0, 0.5, random_ndcg(change)], abs=0.005)


def recording(rng: np.random.Generator, prompt: str) -> Recording:
    """Six steps of one chunk: `good` knows the change up to noise, `bad` knows nothing, `late` comes with step 2."""
    change = rng.gamma(0.5, size=(6, 300)).astype(np.float32)
    late = change.copy()
    late[0] = np.nan
    noisy = change * rng.uniform(0.5, 2, change.shape).astype(np.float32)
    return Recording(
        prompt=prompt,
        step=np.arange(1, 7),
        chunk=np.zeros(6, np.int64),
        change=change,
        moving=change > np.median(change),
        proxies={
            "good": noisy,
            "bad": rng.uniform(size=change.shape).astype(np.float32),
            "late": late,
            "residual": 10 * change,
        },
    )


def test_proxies_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    ranking = rank([recording(rng, "one"), recording(rng, "two")])
    assert ranking.steps == [1, 2, 3, 4, 5, 6]
    for measure, floor in (("spearman", 0.8), ("auc", 0.9), ("ndcg", 0.95)):
        assert min(ranking.scores["good"][measure]) > floor
        assert np.mean(ranking.scores["bad"][measure]) == pytest.approx(np.mean(ranking.random[measure]), abs=0.04)
        assert np.isnan(ranking.scores["late"][measure][0])
        assert ranking.scores["late"][measure][1:] == pytest.approx([1] * 5)
    assert min(ranking.ratio) > 2
    assert [video["prompt"] for video in ranking.videos] == ["one", "two"]


def test_differences_are_those_of_the_steps_that_are_asked_for() -> None:
    made = recording(np.random.default_rng(0), "one")
    found = differences([made, made], np.array([2, 3]))
    assert found["between steps"].tolist() == [*made.change[1:3].ravel()] * 2
    assert found["between frames"].tolist() == [*(10 * made.change[1:3]).ravel()] * 2


def test_the_command_writes_table_plot_and_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    for i, prompt in enumerate(("one", "two")):
        recording(rng, prompt).save(recordings / f"{i}.npz")
    assert main([str(recordings), "--output", str(tmp_path / "out")]) == 0
    table = (tmp_path / "out" / "ranking.md").read_text()
    assert table.strip() in capsys.readouterr().out
    assert "| *random order* | 0.000 | 0.000 | 0.000 | 0.500 | 0.500 | 0.500 |" in table
    assert all((tmp_path / "out" / name).stat().st_size > 10_000 for name in ("ranking.png", "density.png"))
    figures = json.loads((tmp_path / "out" / "ranking.json").read_text())
    assert figures["scores"]["late"]["ndcg"][0] is None  # not NaN, which is no JSON
    assert figures["scores"]["good"]["spearman"][0] > 0.8


def test_bad_input_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    assert "holds no recordings" in capsys.readouterr().err
    (tmp_path / "0.npz").write_text("broken")
    assert main([str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    assert "is not a recording" in capsys.readouterr().err
    recording(np.random.default_rng(0), "one").save(tmp_path / "0.npz")
    content = (tmp_path / "0.npz").read_bytes()
    (tmp_path / "0.npz").write_bytes(content[: len(content) // 2])
    assert main([str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    assert "is not a recording" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_frame_differences() -> None:
    x = torch.tensor([[1.0, 2.0], [2.0, 2.0], [4.0, -2.0]])[..., None]  # 3 frames of 2 tokens
    assert frame_difference(x, 2).tolist() == [[1, 0], [2, 4]]  # the first frame is the chunk before's
    assert frame_difference(x, 3).tolist() == [[1, 0], [1, 0], [2, 4]]  # nothing before: as the second frame
    assert relative_frame_difference(x, 2).flatten().tolist() == pytest.approx([1, 0, 1, 2])
    assert detail(x, 1).tolist() == [[3, 3]]


def test_moving_tokens_are_those_whose_patch_changes() -> None:
    video = np.zeros((9, 16, 32, 3), np.uint8)  # 3 latent frames of 2x4 tokens
    video[5:, :8, 8:16] = 200  # one patch changes between frames 4 and 5: in the third latent frame
    moving = moving_tokens(video, (3, 2, 4))
    assert moving.shape == (3, 8)
    assert np.argwhere(moving).tolist() == [[2, 1]]


def step(value: float, hidden: float) -> ChunkStep:
    x = torch.full((2, 3, 4), value)
    return ChunkStep(latents=x, embedded=x, hidden=x + hidden, velocity=x, predicted=x)


def test_rows_begin_with_the_second_step_and_know_the_last_change_from_the_third(tmp_path: Path) -> None:
    recorder = Recorder()
    for value, hidden in ((0.0, 1.0), (5.0, 3.0), (7.0, 2.5)):
        recorder.add(0, step(value, hidden), 2)
    made = recorder.recording("a prompt", np.zeros((5, 8, 24, 3), np.uint8), (2, 1, 3))
    made.save(tmp_path / "made.npz")
    for found in (made, Recording.load(tmp_path / "made.npz")):
        assert found.prompt == "a prompt"
        assert found.step.tolist() == [1, 2]
        assert np.allclose(found.change, [[2] * 6, [0.5] * 6])
        assert np.isnan(found.proxies[LAST_CHANGE][0]).all()
        assert np.allclose(found.proxies[LAST_CHANGE][1], 2)
        assert not found.moving.any()
