"""The tables of speed are those of the committed figures."""

import importlib
import json

import pytest

from .blocks import ROOT


@pytest.mark.parametrize(("folder", "name"), [("docs", "write_speed"), ("benchmarks", "compiled")])
def test_the_tables_are_up_to_date(folder: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / folder))
    writer = importlib.import_module(name)
    page = writer.page() if name == "write_speed" else writer.page(json.loads(writer.RESULTS.read_text()))
    assert writer.PAGE.read_text() == page, f"speed.md is out of date: run python {folder}/{name}.py"
