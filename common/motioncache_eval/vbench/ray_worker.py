"""A worker on a Ray cluster: an actor that makes videos with one device of its node."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from motioncache.errors import MotionCacheError
from motioncache_eval.kept_settings import Record
from motioncache_eval.settings import check_device
from motioncache_eval.vbench.executor import Event
from motioncache_eval.vbench.plan import Plan
from motioncache_eval.vbench.sampler import answer, load


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What a worker has to know of its run.

    Attributes:
        records: of each preset, what the run has recorded; a node with other weights or versions is refused.
        folder: the working directory of the run, for relative paths.
        token: name and content of a file in the folder of logs, which tells whether a worker sees that folder.
    """

    plan: Plan
    records: Mapping[str, Record]
    folder: Path
    logs: Path
    token: str


class RayWorker:
    """Loads the model, and makes videos; see `Executor` for what it answers."""

    def __init__(self, assignment: Assignment, device: str, log: str) -> None:
        """
        Args:
            log: name of the worker's log in the folder of logs.
        """
        self._assignment, self._device = assignment, device
        self._log = assignment.logs / log
        token = assignment.logs / assignment.token
        self._shared = token.is_file() and token.read_text() == assignment.token
        if self._shared:
            descriptor = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            os.close(descriptor)
        if assignment.folder.is_dir():
            os.chdir(assignment.folder)

    def load(self) -> Event:
        plan = self._assignment.plan
        try:
            check_device(self._device, plan.job.cpu_offload)
            self._loaded = load(plan, self._device, self._assignment.records)
        except MotionCacheError as error:
            return self._stop(error)
        log = f"log {self._log}" if self._shared else "it sends its videos; its log is among those of Ray"
        return {"event": "ready", "where": f"{self._device} of {socket.gethostname()}; {log}"}

    def make(self, order: dict[str, Any]) -> Event:
        try:
            return answer(self._assignment.plan, self._loaded, order, send=not self._shared)
        except MotionCacheError as error:
            return self._stop(error)

    def _stop(self, error: MotionCacheError) -> Event:
        return {"event": "stop", "reason": f"{socket.gethostname()}: {error}"}
