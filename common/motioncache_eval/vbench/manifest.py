"""What is known of every finished video: one line of JSON each, in a file beside the videos' folders.

A line is written before its video gets its name, so a file without a line, or one that its line doesn't describe, is no
video of ours.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_PIECE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A finished video.

    Attributes:
        video: `SUITE/NAME.mp4`.
        size: bytes of the file.
        sha256: of the file.
        seconds: that sampling took, without decoding.
        seed: of the noise.
        flops: that sampling took; None without a cache, whose FLOPs nobody counts.
    """

    video: str
    size: int
    sha256: str
    seconds: float
    seed: int
    flops: int | None = None


def read_manifest(path: Path) -> dict[str, Entry]:
    """The entries of a manifest, by video; the last one of a video counts, and lines that are cut short don't."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    entries = (_parse(line) for line in lines)
    return {entry.video: entry for entry in entries if entry is not None}


def add_entry(path: Path, entry: Entry) -> None:
    """Append a line, so that it is on the disk afterwards; a line that was cut short before it is ended."""
    line = json.dumps(asdict(entry), ensure_ascii=False).encode() + b"\n"
    with _opened(path) as descriptor:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        while line:
            line = line[os.write(descriptor, line) :]
        os.fsync(descriptor)


def describe_file(path: Path) -> tuple[int, str]:
    """The size and the SHA-256 of a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
            size += len(piece)
    return size, digest.hexdigest()


def file_fault(path: Path, entry: Entry | None) -> str | None:
    """Say why a file is not the video that its entry describes; None if it is."""
    if entry is None:
        return "it is not in the manifest"
    size = path.stat().st_size
    if size != entry.size:
        return f"it has {size} bytes, not {entry.size}"
    return None if describe_file(path)[1] == entry.sha256 else "its content has changed since it was made"


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Open a file for appending, locked, so that processes write one line after another."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _parse(line: str) -> Entry | None:
    try:
        values: Any = json.loads(line)
        entry = Entry(**values)
    except (ValueError, TypeError, RecursionError):
        return None
    sound = isinstance(entry.video, str) and isinstance(entry.size, int) and isinstance(entry.sha256, str)
    return entry if sound and isinstance(entry.seconds, int | float) else None
