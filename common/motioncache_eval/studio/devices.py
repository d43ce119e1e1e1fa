"""The devices that the studio makes videos on, a video at a time on each."""

from collections.abc import Sequence

import torch

from motioncache_eval.settings import check_device, require_device
from motioncache_eval.studio.config import StudioConfig


def devices_of(config: StudioConfig) -> Sequence[str | None]:
    """The devices of a studio; None leaves the choice to the settings.

    Raises:
        MotionCacheError: for a device that cannot be, or that the machine has not.
    """
    found = config.devices
    if not found and "device=cuda" in config.settings:
        found = tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))
    for device in found:
        require_device(device)
        check_device(device, cpu_offload=False)
    return found or (None,)
