"""Writes files that are either whole or absent, whatever interrupts the writing."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from motioncache.errors import MotionCacheError


@contextmanager
def whole_file(path: Path) -> Generator[Path]:
    """Yield a path beside `path` to write to; the file there takes the place of `path` when the block ends.

    Where the block raises, or is interrupted, `path` stays as it was. Processes that write the same file at the same
    time don't meet: the last one wins.

    Raises:
        MotionCacheError: if the file cannot be written, because the disk is full for example.
    """
    # As short as any name, where that of `path` is long; libraries tell the format by the suffix.
    temporary = path.with_name(f".{os.getpid()}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise MotionCacheError(f"{path} cannot be written: {reason}; free some space or pass another output") from None
    finally:
        temporary.unlink(missing_ok=True)
