"""The settings of the studio."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StudioConfig:
    """Settings of the studio.

    Args:
        models: what can be made videos with: names of shipped models, folders, hub ids.
        settings: `key=value` texts for every job, such as `device=cuda`.
        host: address that is listened on; only this machine reaches 127.0.0.1.
        port: TCP port.
        queue: requests that may wait; more are refused.
        devices: one video at a time is made on each, such as `[cuda:0,cuda:1]`; where none is named, on each GPU if the
            settings say `device=cuda`, and else on the device of the settings.
        output: folder of the history.
    """

    models: tuple[str, ...] = ("skyreels-v2", "magi-1")
    settings: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 7860
    queue: int = 16
    devices: tuple[str, ...] = ()
    output: str = "outputs/studio"
