"""Reads and writes the files of a benchmark, for its tests."""

import json
import re
from pathlib import Path
from typing import Any

import yaml


def write(folder: Path, values: dict[str, Any]) -> Path:
    path = folder / "bench.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def cells(config: Path) -> dict[str, dict[str, Any]]:
    folder = config.parent / "results" / "cells"
    return {f"{path.parent.name}/{path.stem}": json.loads(path.read_text()) for path in folder.glob("*/*.json")}


def page_data(config: Path) -> dict[str, Any]:
    text = (config.parent / "results" / "report.html").read_text()
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, flags=re.DOTALL)
    assert found is not None
    return json.loads(found.group(1))
