"""Kills VBench runs again and again, and looks at what is left: processes, and videos."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from motioncache_eval.vbench.check import decoding_fault
from motioncache_eval.vbench.manifest import file_fault, read_manifest

KINDS = ("parent", "worker", "all", "writing")
"""Who is killed: `writing` is the parent at a moment at which a video is being written."""

WORKERS = ("motioncache_eval.vbench.worker", "ray::RayWorker")


def wait_for(condition: Callable[[], bool], seconds: float, every: float = 0.05) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(every)
    return condition()


def stat(process: int) -> tuple[str, int] | None:
    """The state and the parent of a process; None if it has ended."""
    try:
        state, parent = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state == "Z" else (state, int(parent))


def descendants(process: int) -> list[int]:
    """All processes that a process has started, and those that these have."""
    parents = {int(path.name): stat(int(path.name)) for path in Path("/proc").iterdir() if path.name.isdigit()}
    found, frontier = [], {process}
    while frontier:
        frontier = {one for one, known in parents.items() if known and known[1] in frontier}
        found += sorted(frontier)
    return found


def is_worker(process: int) -> bool:
    try:
        text = Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return any(name in text for name in WORKERS) or any(name in text.replace("\0", " ") for name in WORKERS)


def kill(processes: list[int]) -> None:
    for process in processes:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue


@dataclass
class Series:
    """Runs of one command, each killed a while after it has begun to sample.

    Attributes:
        arguments: of `motioncache vbench`, without `output=`.
        count: videos of a run.
        kills: how often each kind of kill was done.
        slowest: seconds until the last process of a killed run had ended.
    """

    folder: Path
    arguments: list[str]
    count: int
    environment: dict[str, str] = field(default_factory=dict)
    kills: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    slowest: float = 0.0
    runs: int = 0
    _random: random.Random = field(default_factory=lambda: random.Random(0))

    def go_on_until(self, kills: int, kinds: tuple[str, ...] = KINDS) -> None:
        """Kill so often, make what is missing of the last run, and check after each kill that all is well."""
        while sum(self.kills.values()) < kills:
            output, before = self.folder / f"run{self.runs}", {}
            self.runs += 1
            while not self._complete(output):
                run = self._start(output)
                while sum(self.kills.values()) < kills and self._moment(run, output, kinds[self._next(kinds)]):
                    kind = kinds[self._next(kinds)]
                    self._kill(run, kind)
                    if kind != "worker":
                        break
                run.wait(timeout=900)
                before = check(output, before)
            assert not list(output.glob("*/partial/*"))

    def _next(self, kinds: tuple[str, ...]) -> int:
        return sum(self.kills.values()) % len(kinds)

    def _complete(self, output: Path) -> bool:
        return len(list(output.glob("*/videos/*/*.mp4"))) == self.count

    def _start(self, output: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "motioncache_eval", "vbench", *self.arguments, f"output={output}"]
        with (self.folder / "said.txt").open("ab") as said:
            return subprocess.Popen(
                command, env=os.environ | self.environment, stdout=said, stderr=said, start_new_session=True
            )

    def _moment(self, run: subprocess.Popen[bytes], output: Path, kind: str) -> bool:
        """Wait for a moment to kill; false if the run has ended before."""
        logs = output / "logs"

        def lines() -> int:
            return sum(log.read_text(errors="replace").count(".mp4\n") for log in logs.glob("worker-*.log"))

        def writes() -> bool:
            return run.poll() is not None or any(output.glob("*/partial/*"))

        known = lines()
        wait_for(lambda: run.poll() is not None or lines() > known, seconds=600)
        if kind == "writing":
            wait_for(writes, seconds=600, every=0.0005)
        else:
            time.sleep(self._random.uniform(0, 1))
        return run.poll() is None

    def _kill(self, run: subprocess.Popen[bytes], kind: str) -> None:
        all_of_it = descendants(run.pid)
        workers = [process for process in all_of_it if is_worker(process)]
        victims = {"worker": workers[:1] if self._random.random() < 0.5 else workers[-1:], "all": [run.pid, *all_of_it]}
        kill(victims.get(kind, [run.pid]))
        self.kills[kind] += 1
        if kind == "worker":
            return
        killed = time.monotonic()
        run.wait()
        assert wait_for(lambda: not any(map(stat, all_of_it)), seconds=30), [
            (process, stat(process)) for process in all_of_it if stat(process)
        ]
        self.slowest = max(self.slowest, time.monotonic() - killed)


def check(output: Path, before: dict[Path, tuple[int, int]]) -> dict[Path, tuple[int, int]]:
    """Check that videos are whole, and those that were there are the same files; returns what is there now."""
    after: dict[Path, tuple[int, int]] = {}
    for preset in (path.parent for path in output.glob("*/videos")):
        entries = read_manifest(preset / "manifest.jsonl")
        for path in preset.glob("videos/*/*"):
            entry = entries.get(f"{path.parent.name}/{path.name}")
            assert (file_fault(path, entry), decoding_fault(path)) == (None, None)
            after[path] = path.stat().st_mtime_ns, path.stat().st_ino
    assert before.items() <= after.items()
    assert not list(output.glob("*/set-aside/*"))
    return after
