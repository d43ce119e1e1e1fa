"""Files of results: strict JSON, whole or absent, and cells that are no results say so."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from motioncache.errors import MotionCacheError
from motioncache.whole_file import whole_file
from motioncache_eval.bench.results import is_complete, read_cell
from motioncache_eval.report import write_json

CELL: dict[str, Any] = {
    "method": "slow",
    "family": "slow",
    "prompt": "a red circle",
    "fingerprint": "0123456789abcdef",
    "flops": 10,
    "psnr_db": 30.0,
    "psnr_of_chunks_db": [30.0],
    "median_seconds": 1.0,
    "decode_seconds": 0.1,
}


@pytest.mark.parametrize(
    ("report", "says"),
    [
        ({"psnr_db": math.nan}, "psnr_db is nan"),
        ({"results": {"slow": {"seconds": [1.0, math.inf]}}}, "results.slow.seconds.1 is inf"),
        ({"chunks": ({"psnr_db": -math.inf},)}, "chunks.0.psnr_db is -inf"),
    ],
)
def test_a_figure_that_is_no_number_is_refused_by_its_name(tmp_path: Path, report: dict[str, Any], says: str) -> None:
    with pytest.raises(MotionCacheError, match=says):
        write_json(tmp_path / "run.json", report)
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {"a": [1.5, None], "text": "NaN 猫"})
    assert json.loads((tmp_path / "run.json").read_text()) == {"a": [1.5, None], "text": "NaN 猫"}
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def write_half(path: Path, interrupt: type[BaseException]) -> None:
    with whole_file(path) as temporary:
        temporary.write_text("half")
        raise interrupt


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, RuntimeError])
def test_an_interrupt_leaves_the_file_that_was_there(tmp_path: Path, interrupt: type[BaseException]) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(interrupt):
        write_half(path, interrupt)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(MotionCacheError, match="folder cannot be written"):
        write_json(tmp_path / "folder", {})
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_name_as_long_as_names_may_be_can_be_written(tmp_path: Path) -> None:
    write_json(tmp_path / ("a" * 250 + ".json"), {})
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "000.json cannot be read"),
        ("[1]", "000.json holds no result"),
        ("{}", "000.json is no result: method is missing or damaged"),
        (json.dumps(CELL | {"psnr_db": "30"}), "psnr_db is missing or damaged"),
        (json.dumps(CELL | {"psnr_db": math.nan}), "it holds NaN, which is no figure"),
        (json.dumps(CELL).replace("30.0", "1e999"), "psnr_db is missing or damaged"),
        (json.dumps(CELL | {"flops": True}), "flops is missing or damaged"),
        (json.dumps(CELL | {"psnr_of_chunks_db": []}), "psnr_of_chunks_db is missing or damaged"),
        (json.dumps(CELL | {"prompt": None}), "prompt is missing or damaged"),
        ('{"error": 5}', "5"),
        ("[" * 100_000, "000.json cannot be read"),
    ],
)
def test_a_cell_that_is_no_result_says_so_and_is_measured_again(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "000.json"
    path.write_text(text)
    assert says in read_cell(path)["error"]
    assert not is_complete(path)


def test_a_cell_is_read(tmp_path: Path) -> None:
    write_json(tmp_path / "000.json", CELL)
    assert read_cell(tmp_path / "000.json") == CELL
    assert is_complete(tmp_path / "000.json")
    assert read_cell(tmp_path / "001.json") == {"error": "not measured yet"}
