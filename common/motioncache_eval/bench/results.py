"""The files of a benchmark's results: cells, videos for the page, noise, and references."""

import json
import math
from pathlib import Path
from typing import Any, NoReturn

NUMBERS = ("flops", "psnr_db", "median_seconds", "decode_seconds")
"""Figures that every cell has."""

TEXTS = ("method", "family", "prompt", "fingerprint")
"""Texts that every cell has."""


def cell_path(output: Path, folder: str, index: int) -> Path:
    """The file of a method's result for a prompt."""
    return output / "cells" / folder / f"{index:03d}.json"


def view_path(output: Path, folder: str, index: int) -> Path:
    """The file of a method's video for the page."""
    return output / "views" / folder / f"{index:03d}.json"


def noise_path(output: Path, index: int) -> Path:
    """The file of a prompt's noise."""
    return output / "noise" / f"{index:03d}.safetensors"


def reference_path(output: Path, index: int) -> Path:
    """The file of a prompt's uncached video."""
    return output / "references" / f"{index:03d}.safetensors"


def read_cell(path: Path) -> dict[str, Any]:
    """A result, or `{"error": ...}` for one that is missing, damaged or not whole."""
    cell = read_json(path)
    if "error" in cell:
        return {**cell, "error": str(cell["error"])}
    problem = next((name for name in TEXTS if not isinstance(cell.get(name), str)), None)
    problem = problem or next((name for name in NUMBERS if not _is_number(cell.get(name))), None)
    chunks = cell.get("psnr_of_chunks_db")
    if problem is None and not (isinstance(chunks, list) and chunks and all(map(_is_number, chunks))):
        problem = "psnr_of_chunks_db"
    return cell if problem is None else {"error": f"{path.name} is no result: {problem} is missing or damaged"}


def read_json(path: Path) -> dict[str, Any]:
    """What a JSON file of the results holds, or `{"error": ...}` if it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except FileNotFoundError:
        return {"error": "not measured yet"}
    except (OSError, ValueError, RecursionError) as error:
        return {"error": f"{path.name} cannot be read: {error}"}
    return content if isinstance(content, dict) else {"error": f"{path.name} holds no result"}


def is_complete(path: Path) -> bool:
    """Whether a cell holds a result."""
    return "error" not in read_cell(path)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"it holds {constant}, which is no figure")
