"""Makes the executor that a plan asks for."""

from collections.abc import Sequence

import torch

from motioncache_eval.kept_settings import read_record
from motioncache_eval.settings import check_device
from motioncache_eval.vbench.config import RAY
from motioncache_eval.vbench.executor import Executor, log_name
from motioncache_eval.vbench.folder import explain_errors
from motioncache_eval.vbench.plan import Plan
from motioncache_eval.vbench.workers import LocalExecutor, Worker

SAMPLER = "motioncache_eval.vbench.sampler"

LOGS = "logs"
"""The folder of the workers' logs, in that of the run."""


def make_executor(plan: Plan, arguments: Sequence[str], lock: int) -> Executor:
    """Get workers ready to be started.

    Args:
        arguments: what a worker on this machine makes the same plan of.
        lock: file descriptor of the folder's lock.
    """
    if plan.settings.executor == RAY:
        from motioncache_eval.vbench.ray_executor import RayExecutor

        records = {preset: read_record(plan.folder(preset).settings) or {} for preset in plan.policies}
        with explain_errors(plan.output):
            return RayExecutor(plan, records, plan.output / LOGS)
    devices = plan.settings.devices or tuple(f"cuda:{i}" for i in range(torch.cuda.device_count())) or ("cpu",)
    for device in devices:
        check_device(device, plan.job.cpu_offload)

    def start(place: int, device: str) -> Worker:
        with explain_errors(plan.output):
            return Worker(SAMPLER, device, arguments, log=plan.output / LOGS / log_name(place, device), lock=lock)

    return LocalExecutor(devices, start)
