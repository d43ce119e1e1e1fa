"""What a calibration has measured so far, in a folder beside its file, so that an interrupted one goes on."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motioncache.errors import MotionCacheError
from motioncache.whole_file import whole_file

Arrays = dict[str, NDArray[Any]]


class Progress:
    """Measurements by name; each is made once.

    Args:
        output: the calibration's file.
        settings: what the measurements follow from.

    Raises:
        MotionCacheError: if the folder holds measurements that were made with other settings.
    """

    def __init__(self, output: Path, settings: Mapping[str, Any]) -> None:
        self.folder = output.with_name(f"{output.name}.progress")
        self._settings = json.loads(json.dumps(settings))
        path = self.folder / "settings.json"
        if path.exists() and _read(path) != self._settings:
            raise MotionCacheError(
                f"{self.folder} holds measurements with other settings: pass those to go on, or delete the folder to "
                "begin anew"
            )

    @property
    def count(self) -> int:
        """How many measurements there are."""
        return len(list(self.folder.glob("*.npz")))

    def arrays(self, name: str, make: Callable[[], Arrays]) -> Arrays:
        """Read a measurement, or make it and keep it."""
        path = self.folder / f"{name}.npz"
        if path.exists():
            with np.load(path) as kept:
                return dict(kept)
        made = make()
        self.folder.mkdir(exist_ok=True)
        if not (self.folder / "settings.json").exists():
            with whole_file(self.folder / "settings.json") as temporary:
                temporary.write_text(json.dumps(self._settings), encoding="utf-8")
        with whole_file(path) as temporary:
            np.savez(temporary, **made)  # pyright: ignore[reportArgumentType]
        return made

    def number(self, name: str, make: Callable[[], float]) -> float:
        """The same for a single number."""
        return float(self.arrays(name, lambda: {"value": np.array(make())})["value"])

    def remove(self) -> None:
        """Delete the folder: the calibration is written."""
        shutil.rmtree(self.folder, ignore_errors=True)


class NoProgress(Progress):
    """Keeps nothing."""

    def __init__(self) -> None:
        pass

    def arrays(self, name: str, make: Callable[[], Arrays]) -> Arrays:
        return make()


def _read(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
