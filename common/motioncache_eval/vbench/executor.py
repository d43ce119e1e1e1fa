"""What the dispatcher needs of the workers, wherever they run: on this machine's devices, or on a cluster."""

from collections.abc import Sequence
from typing import Any, Protocol

Event = dict[str, Any]
"""What a worker says, under the key `event`.

`ready`: it can be given something; the first time with `where`, if that is worth a line. `made`, with the fields of a
`Delivery`, and `failed`, with a `reason`: what came of the last order; the worker is ready when it says that again.
`stop`, with a `reason`: a mistake that all items share. `ended`, with a `reason`: there is no worker any more, whoever
ended it; its last event.
"""


class Executor(Protocol):
    """Workers in numbered places.

    Attributes:
        places: what each place is called.
    """

    @property
    def places(self) -> Sequence[str]: ...

    def start(self, place: int) -> None:
        """Start a worker in a place that has none."""
        ...

    def order(self, place: int, order: dict[str, Any]) -> None:
        """Ask a worker that is ready for something."""
        ...

    def hear(self, seconds: float) -> list[tuple[int, Event]]:
        """What workers have said, each with its place; waits so long at most."""
        ...

    def kill(self, place: int) -> None:
        """End a worker at once, hung or not; that it has ended is heard later."""
        ...

    def close(self) -> None:
        """End all workers, and wait for their end."""
        ...


def log_name(place: int, device: str) -> str:
    """The file of a worker's log."""
    return f"worker-{place}-{device.replace(':', '')}.log"
