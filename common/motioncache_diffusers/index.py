"""Reads which pipeline a folder or a hub id holds; imports no model library."""

from pathlib import Path

from motioncache.checkpoints import read_mapping
from motioncache.errors import ConfigError


def pipeline_class(model: str) -> str:
    """The class that the `model_index.json` of a folder or hub id names; empty without one."""
    folder = Path(model)
    index = folder / "model_index.json" if folder.exists() else _download_index(model)
    if index is None or not index.is_file():
        return ""
    try:
        return str(read_mapping(index).get("_class_name"))
    except ConfigError:
        return ""


def _download_index(model: str) -> Path | None:
    if model.count("/") != 1 or model.startswith((".", "/", "~")):
        return None
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(model, "model_index.json"))
    except Exception:  # no network, no such repository, no such file: then it cannot be recognised
        return None
