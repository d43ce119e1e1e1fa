"""The paper's videos: what is counted of a few layers stands for all, and the table compares with vanilla."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from motioncache.errors import ConfigError
from motioncache_eval.device_calls import Counts
from motioncache_eval.paper import (
    METHODS,
    LayerCounts,
    PaperResult,
    PaperSettings,
    PaperVideo,
    Planned,
    measure_paper,
    paper_table,
    read_paper,
    spaced,
    write_paper,
)


class Model:
    """Two passes through ten layers that multiply once each, and a product besides; of fewer rows with reuse."""

    paper = PaperVideo(title="a model", layers=10, shares={"slow": 0.5}, published={})

    def __init__(self) -> None:
        self.passes: list[int] = []

    def sample_paper(self, method: str, device: str) -> Callable[[], object]:
        raise AssertionError("there is no GPU")

    def count_paper(self, method: str, layers: LayerCounts) -> Callable[[], object]:
        x = torch.zeros(4, 4, device="meta")
        rows = 4 if method in ("vanilla", "exact") else 2

        def multiply() -> torch.Tensor:
            self.passes.append(rows)
            return x[:rows].matmul(x)

        def sample() -> None:
            x.matmul(x)
            for _ in range(2):
                layers.run(rows, multiply, lambda: x)

        return lambda: layers.call(sample)


def test_one_layer_stands_for_all_and_a_pass_is_made_once() -> None:
    model = Model()
    results = list(measure_paper(model, "meta"))
    assert [one.method for one in results] == list(METHODS)
    assert {one.counts.launches for one in results} == {1 + 2 * 10}
    assert [one.counts.flops for one in results[1:3]] == [21 * 2 * 64, (2 + 20) * 64]
    assert model.passes == [4, 4, 2, 2, 2]
    assert {one.seconds for one in results} == {None}


def test_the_table_says_how_much_of_the_saved_flops_is_saved_in_time(tmp_path: Path) -> None:
    vanilla = PaperResult(model="m", method="vanilla", counts=Counts(launches=1000, flops=8 * 10**15), seconds=100)
    slow = PaperResult(model="m", method="slow", counts=Counts(launches=900, waits=7, flops=2 * 10**15), seconds=30)
    write_paper(tmp_path / "new" / "paper.json", "meta", [vanilla, slow])
    gpu, results = read_paper(tmp_path / "new" / "paper.json")
    assert (gpu, results) == (None, [vanilla, slow])
    lines = paper_table("a GPU", results).markdown()
    assert lines[-1] == "| m | slow | 900 | 7 | 2.0 | 4.00x | 30 | 3.33x | 0.83 |"
    counted = PaperResult(model="m", method="vanilla", counts=vanilla.counts)
    assert paper_table(None, [counted]).markdown()[-1] == "| m | vanilla | 1,000 | 0 | 8.0 | 1.00x |"


def test_shares_are_evenly_spaced() -> None:
    assert spaced(6, 0.5).tolist() == [True, False, True, False, True, False]
    assert spaced(1000, 0.29).sum() == 290
    assert spaced(4, 1.0).all()
    assert Planned(0.5, 1).computes_together([0, 4])


@pytest.mark.parametrize("wrong", [{"setting": "standard"}, {"device": "cpu"}])
def test_what_is_not_there_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        PaperSettings(**wrong)
