"""Runs workers on a Ray cluster, one actor per GPU, or per node where there are none.

A worker that sees the folder of the run writes its videos there, as a worker of this machine does; one that does not
sends their content. Either way they are checked and entered here.
"""

import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from motioncache.errors import MotionCacheError
from motioncache_eval.kept_settings import Record
from motioncache_eval.vbench.executor import Event, log_name
from motioncache_eval.vbench.plan import Plan
from motioncache_eval.vbench.ray_head import Head
from motioncache_eval.vbench.ray_worker import Assignment, RayWorker


class RayExecutor:
    """Workers that are Ray actors."""

    def __init__(self, plan: Plan, records: Mapping[str, Record], logs: Path) -> None:
        """Connect to the cluster, or start one.

        Args:
            records: of each preset, what its videos are made with.
            logs: folder of the workers' logs.
        """
        self._ray: Any = import_module("ray")
        self._logs, self._token = logs.resolve(), f".{secrets.token_hex(8)}"
        self._head: Head | None = None
        self._actors: dict[int, Any] = {}
        self._calls: dict[Any, int] = {}
        self._where: dict[int, str] = {}
        try:
            for stale in self._logs.glob(".*"):  # of a run that was killed
                stale.unlink()
            (self._logs / self._token).write_text(self._token)
            address = plan.settings.address or self._start(plan)
            _connect(self._ray, address)
            self.places = _places(self._ray, plan.settings.devices, address)
            settings = replace(plan.settings, output=str(plan.output.resolve()))
            self._assignment = self._ray.put(
                Assignment(
                    plan=replace(plan, settings=settings),
                    records=records,
                    folder=Path.cwd(),
                    logs=self._logs,
                    token=self._token,
                )
            )
        except BaseException:
            self.close()
            raise

    def _start(self, plan: Plan) -> str:
        cpus = max(os.cpu_count() or 1, len(plan.settings.devices))
        self._head = Head(cpus, self._logs / "ray.log")
        return self._head.address

    def start(self, place: int) -> None:
        device = self.places[place]
        needs = {"num_gpus": 1} if device == "cuda" else {"num_cpus": 1, "scheduling_strategy": "SPREAD"}
        actor = self._ray.remote(RayWorker).options(max_restarts=0, **needs)
        self._actors[place] = actor.remote(self._assignment, device, log_name(place, device))
        self._calls[self._actors[place].load.remote()] = place

    def order(self, place: int, order: dict[str, Any]) -> None:
        self._calls[self._actors[place].make.remote(order)] = place

    def hear(self, seconds: float) -> list[tuple[int, Event]]:
        self._ray.wait(list(self._calls), num_returns=1, timeout=seconds)
        answered, _ = self._ray.wait(list(self._calls), num_returns=len(self._calls), timeout=0)
        heard: list[tuple[int, Event]] = []
        for call in answered:
            place = self._calls.pop(call)
            heard += [(place, event) for event in self._read(place, call)]
        return heard

    def _read(self, place: int, call: Any) -> list[Event]:
        try:
            event: Event = self._ray.get(call)
        except self._ray.exceptions.RayError as error:
            self._ray.kill(self._actors.pop(place))
            where = self._where.pop(place, "")
            return [{"event": "ended", "reason": f"worker {place}{where} ended: {_reason(error)}"}]
        if "where" in event:
            self._where[place] = f" ({event['where']})"
        return [event, {"event": "ready"}] if event["event"] in ("made", "failed") else [event]

    def kill(self, place: int) -> None:
        self._ray.kill(self._actors[place])

    def close(self) -> None:
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._ray.shutdown()
        if self._head is not None:
            self._head.close()
        with suppress(FileNotFoundError):
            (self._logs / self._token).unlink()


def _connect(ray: Any, address: str) -> None:
    # Workers import what this process does, also where the package is run without being installed.
    variables = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
    try:
        ray.init(address=address, runtime_env={"env_vars": variables}, log_to_driver=False, logging_level="error")
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        reason = " ".join(str(error).split())[:300]
        raise MotionCacheError(
            f"there is no Ray cluster to be reached at address={address}: {reason}; start one with ray start, or pass "
            "address= for one of this machine alone"
        ) from None


def _places(ray: Any, devices: Sequence[str], address: str) -> tuple[str, ...]:
    """The device of each worker.

    Raises:
        MotionCacheError: if the cluster has fewer.
    """
    has = ray.cluster_resources()
    gpus, cpus = (int(has.get(name, 0)) for name in ("GPU", "CPU"))
    nodes = sum(node["Alive"] for node in ray.nodes())
    places = tuple(devices) or ("cuda",) * gpus or ("cpu",) * nodes
    for device, there, name in (("cuda", gpus, "GPUs"), ("cpu", cpus, "CPUs")):
        if places.count(device) > there:
            raise MotionCacheError(
                f"devices has {device} {places.count(device)} times, and the cluster at {address} has {there} {name}"
            )
    return places


def _reason(error: Any) -> str:
    """What Ray says, in one line, without its advice and the names that it gives to workers."""
    text = str(getattr(error, "cause", None) or error)
    _, found, detail = text.partition("Worker exit detail:")
    lines = (detail if found else text).strip().splitlines() or [type(error).__name__]
    return lines[0].split(" Some common causes")[0].strip()[:300]
