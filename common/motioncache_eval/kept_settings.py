"""Settings that the videos of a folder have in common: recorded with the first one, and compared with every run's."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from motioncache.config import read_text
from motioncache.errors import MotionCacheError
from motioncache.field_types import shown
from motioncache_eval.report import write_json

Record = dict[str, Any]


def keep_settings(path: Path, settings: Record) -> None:
    """Refuse settings other than those that are recorded; record them if none are.

    Raises:
        MotionCacheError: says what differs.
    """
    recorded = read_record(path)
    if recorded is None:
        write_json(path, settings)
    else:
        refuse_other_settings(path.parent, recorded, settings)


def refuse_other_settings(folder: Path, recorded: Record, settings: Record) -> None:
    """Refuse settings other than the recorded ones; the error says what differs."""
    settings = json.loads(json.dumps(settings, default=lambda value: value.value))
    before, now = dict(_flat(recorded)), dict(_flat(settings))
    differing = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    differing.sort(key=lambda name: name not in before or name not in now)  # fields of another policy come last
    if differing:
        found = "; ".join(f"{name} was {shown(before.get(name))}, now {shown(now.get(name))}" for name in differing[:4])
        more = f"; and {len(differing) - 4} more" if len(differing) > 4 else ""
        raise MotionCacheError(
            f"the videos in {folder} were made with other settings: {found}{more}; pass these, or another output="
        )


def require_records(folder: Path, made: bool, *paths: Path) -> None:
    """Refuse videos without their records; remove records without videos, which nothing was made with.

    Args:
        made: whether there are videos.
    """
    for path in paths:
        if not made:
            path.unlink(missing_ok=True)
        elif not path.exists():
            raise MotionCacheError(
                f"{folder} holds videos, but there is no {path.name}, so nobody knows how they were made; "
                "pass another output="
            )


def read_record(path: Path) -> Record | None:
    """What is recorded in a file, if there is one."""
    if not path.exists():
        return None
    text = read_text(path, missing=f"there is no {path}")
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise MotionCacheError(f"{path} is damaged, so nobody knows how its videos were made; pass another output=")
    return record


def _flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested mappings, under names such as `policy.threshold`."""
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
