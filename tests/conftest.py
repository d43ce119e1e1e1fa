"""What all tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_cache_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Calibrations that models make of their own videos are not those of the user, nor of another test."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("MOTIONCACHE_CACHE", str(folder))
    return folder


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """No graph is there from an earlier test, and none is left behind."""
    import torch
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()
