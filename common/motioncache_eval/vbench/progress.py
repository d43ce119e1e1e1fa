"""One line that says how far all workers are."""

import sys
import time


class Progress:
    """Counts what is made. On a terminal the line is written anew in place, elsewhere once a minute.

    Attributes:
        interval: seconds between two lines.
    """

    def __init__(self, done: int, total: int) -> None:
        """
        Args:
            done: what was there before.
        """
        self._before, self._total, self._made, self._failed = done, total, 0, 0
        self._started: float | None = None
        self._shown = time.monotonic()
        self._terminal = sys.stdout.isatty()
        self._line = ""
        self.interval = 1.0 if self._terminal else 60.0

    @property
    def made(self) -> int:
        """How many this run has made."""
        return self._made

    @property
    def seconds(self) -> float:
        """Since the first worker was ready; loading a model says nothing about the time that is left."""
        return 0.0 if self._started is None else time.monotonic() - self._started

    def begin(self) -> None:
        """A worker is ready."""
        if self._started is None:
            self._started = time.monotonic()

    def count(self) -> None:
        self._made += 1

    def show(self, failed: int) -> None:
        """Write the line if its time has come."""
        self._failed = failed
        if time.monotonic() - self._shown >= self.interval:
            self._shown = time.monotonic()
            self._write(str(self))

    def say(self, text: str) -> None:
        """Print a line above the line."""
        if self._terminal and self._line:
            print(f"\r{' ' * len(self._line)}\r", end="")
        print(text, flush=True)
        if self._terminal:
            self._write(self._line)

    def finish(self) -> None:
        """End the line."""
        self._write(str(self))
        if self._terminal:
            print(flush=True)

    def __str__(self) -> str:
        line = f"{self._before + self._made} of {self._total} videos, {self._failed} failed"
        if self._made:
            each = self.seconds / self._made
            left = self._total - self._before - self._made - self._failed
            line += f", {3600 / each:.0f} an hour" + (f", {duration(each * left)} left" if left else "")
        return line

    def _write(self, line: str) -> None:
        if self._terminal:
            print(f"\r{line.ljust(len(self._line))}", end="", flush=True)
        else:
            print(line, flush=True)
        self._line = line


def duration(seconds: float) -> str:
    """A time in words, with two digits or so."""
    for unit, size in (("days", 86400), ("hours", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s"
