"""The table of traffic is that of the script that writes it; the tests of both models compare its sums with counts."""

import importlib

import pytest

from .blocks import ROOT


def test_the_table_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    writer = importlib.import_module("write_gpus")
    assert writer.PAGE.read_text() == writer.page(), "gpus.md is out of date: run python docs/write_gpus.py"
