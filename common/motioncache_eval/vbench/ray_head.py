"""A Ray cluster of this machine alone, which ends with the process that started it, however that ends.

The command is `python -m motioncache_eval.vbench.ray_head CPUS`: it prints the cluster's address, and ends the cluster
when its standard input closes. Ray's own end of a cluster whose driver was killed leaves some processes for a minute.
"""

import os
import secrets
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from motioncache.errors import MotionCacheError
from motioncache.extras import require_extra

_STORE = 200 * 2**20
"""Bytes of shared memory for what is sent between processes, which are small videos at most."""

_PATIENCE = 10
"""Seconds that the cluster has for its end."""


def require_ray(address: str) -> None:
    """Refuse to go on without Ray; to be called before anything imports it, for it reads its environment once.

    Args:
        address: of a cluster; empty if one is to be started, which then takes nobody's orders but this process's.

    Raises:
        MotionCacheError: if Ray is not installed.
    """
    if not address:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    require_extra("ray", "executor=ray")


class Head:
    """A running cluster.

    Attributes:
        address: `HOST:PORT`.
    """

    def __init__(self, cpus: int, log: Path) -> None:
        """Start the cluster.

        Args:
            cpus: how many processors the cluster counts.
            log: the file that its messages are appended to.
        """
        command = [sys.executable, "-m", __name__, str(cpus)]
        environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()
        if not self.address:
            self.close()
            raise MotionCacheError(f"Ray could not be started on this machine; {log} says why")

    def close(self) -> None:
        """End the cluster, and wait for its end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE)
        _kill_session(self._process.pid)
        self._process.wait()


def _kill_session(session: int) -> None:
    """Kill all processes of a session, whose leader is this one or has ended.

    Ray's workers have process groups of their own, and those that are about to start wait long for a cluster that is
    gone. What starts them is older, so it is killed first, and this process last.
    """
    processes = sorted(int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
    processes.sort(key=lambda process: process == os.getpid())
    for process in processes:
        with suppress(ProcessLookupError, PermissionError):
            if os.getsid(process) == session:
                os.kill(process, signal.SIGKILL)


def main() -> None:
    import ray  # pyright: ignore

    answers = os.dup(1)
    os.dup2(2, 1)  # Ray prints, too
    ray.init(
        address="local",
        num_cpus=int(sys.argv[1]),
        include_dashboard=False,
        object_store_memory=_STORE,
        log_to_driver=False,
    )
    os.write(answers, f"{ray.get_runtime_context().gcs_address}\n".encode())
    os.close(answers)
    while os.read(0, 1024):
        pass
    _kill_session(os.getpid())  # which `Head` made the leader of a session


if __name__ == "__main__":
    main()
