"""Several processes that sample one video together, each on a GPU of its own.

Two things are divided among them: the CFG branches of a model call, and the heads of attention (Ulysses: rows of tokens
are divided for everything but attention, where each process has all rows of some heads, and their keys and values).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import torch
import torch.distributed

from motioncache.errors import ConfigError, MotionCacheError
from motioncache.field_types import shown

dist: Any = torch.distributed
"""Its functions have no types."""


class Parallel(Enum):
    """What is divided among the processes."""

    cfg = "cfg"
    ulysses = "ulysses"
    both = "cfg+ulysses"

    @classmethod
    def of(cls, value: "str | Parallel") -> "Parallel":
        """The member that a text stands for."""
        try:
            return cls(value)
        except ValueError:
            allowed = ", ".join(member.value for member in cls)
            raise ConfigError(f"parallel: {value!r} is not allowed; allowed: null, {allowed}") from None


class PeerLostError(MotionCacheError):
    """Another process that samples the same video has ended; what it says tells why."""


@dataclass(slots=True)
class Traffic:
    """What a process has exchanged with others: by collective, how many there were, and bytes that left the process.

    A process sends each of the others its part of an all-to-all, an all-gather or a broadcast; a sum counts twice, as a
    ring makes it.
    """

    calls: Counter[str] = field(default_factory=Counter[str])
    sent: Counter[str] = field(default_factory=Counter[str])


class Group:
    """Processes that exchange tensors; all of them call the same methods in the same order.

    Shapes: P processes, B batch, n rows (n a multiple of P).

    Attributes:
        size: P.
        rank: place of this process, from 0.
    """

    def __init__(self, processes: Any, traffic: Traffic, device: torch.device) -> None:
        self._processes = processes
        self._traffic = traffic
        self._device = device
        self.size = 1 if processes is None else processes.size()
        self.rank = 0 if processes is None else processes.rank()

    def take_rows(self, x: torch.Tensor) -> torch.Tensor:
        """This process's share of rows `[B, rows, ...]`, which are padded to a multiple of P by the last one."""
        missing = -x.shape[1] % self.size
        share = (x.shape[1] + missing) // self.size
        if missing:
            x = torch.cat([x, x[:, -1:].expand(-1, missing, *x.shape[2:])], dim=1)
        return x[:, self.rank * share : (self.rank + 1) * share]

    def gather_rows(self, x: torch.Tensor, rows: int) -> torch.Tensor:
        """All rows `[B, rows, ...]` of the shares that `take_rows` has made."""
        x = x.contiguous()
        out = x.new_empty(self.size, *x.shape)
        self._count("all-gather", x.nbytes * (self.size - 1))
        self._all_gather(out, x)
        return out.transpose(0, 1).flatten(1, 2)[:, :rows]

    def to_heads(self, *rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Exchange rows for heads, in one collective: `[B, n / P, H, d]` to `[B, n, H / P, d]`, H of each by itself."""
        by_process = [x.reshape(*x.shape[:2], self.size, -1) for x in rows]  # [B, n / P, P, H / P * d]
        exchanged = self._exchange(torch.cat(by_process, dim=3).permute(2, 0, 1, 3))  # [P, B, n / P, ...]
        exchanged = exchanged.transpose(0, 1).flatten(1, 2)
        parts = torch.split(exchanged, [x.shape[3] for x in by_process], dim=2)
        return tuple(part.reshape(*part.shape[:2], -1, x.shape[3]) for part, x in zip(parts, rows, strict=True))

    def to_rows(self, x: torch.Tensor) -> torch.Tensor:
        """Exchange the channels of some heads for rows: `[B, n, C / P]` to `[B, n / P, C]`."""
        exchanged = self._exchange(x.reshape(len(x), self.size, -1, x.shape[2]).transpose(0, 1))  # [P, B, n / P, C / P]
        return exchanged.permute(1, 2, 0, 3).flatten(2)

    def sum(self, x: torch.Tensor) -> torch.Tensor:
        """Add the tensors of all processes up, in place."""
        self._count("all-reduce", 2 * x.nbytes * (self.size - 1) // self.size)
        self._sum(x)
        return x

    def first(self, x: torch.Tensor) -> torch.Tensor:
        """The tensor of the first process, of bools or numbers."""
        return self.broadcast(x, 0)

    def broadcast(self, x: torch.Tensor, source: int) -> torch.Tensor:
        """The tensor of one of the processes; all have one of that shape and dtype."""
        self._count("broadcast", x.nbytes * (self.size - 1) if self.rank == source else 0)
        sent = x.to(self._device, copy=True).contiguous()
        self._broadcast(sent.view(torch.uint8) if x.dtype is torch.bool else sent, source)
        return sent

    def send(self, x: torch.Tensor, to: int) -> None:
        """Send a tensor to one of the processes, which calls `receive`."""
        self._count("send", x.nbytes)
        _run(dist.send, x.contiguous(), group_dst=to, group=self._processes)

    def receive(self, like: torch.Tensor, source: int) -> torch.Tensor:
        """The tensor that one of the processes sends, of the shape and dtype of another one."""
        out = torch.empty_like(like, memory_format=torch.contiguous_format)
        _run(dist.recv, out, group_src=source, group=self._processes)
        return out

    def gather_objects(self, value: Any) -> list[Any]:
        """The small objects of all processes, in order."""
        found: list[Any] = [None] * self.size
        _run(dist.all_gather_object, found, value, group=self._processes)
        return found

    def _exchange(self, x: torch.Tensor) -> torch.Tensor:
        """Send the r-th part of a tensor to the r-th process."""
        x = x.contiguous()
        out = torch.empty_like(x)
        self._count("all-to-all", x.nbytes * (self.size - 1) // self.size)
        self._all_to_all(out, x)
        return out

    def _count(self, collective: str, sent: int) -> None:
        self._traffic.calls[collective] += 1
        self._traffic.sent[collective] += sent

    def _all_to_all(self, out: torch.Tensor, x: torch.Tensor) -> None:
        _run(dist.all_to_all_single, out, x, group=self._processes)

    def _all_gather(self, out: torch.Tensor, x: torch.Tensor) -> None:
        _run(dist.all_gather, list(out.unbind()), x, group=self._processes)

    def _sum(self, x: torch.Tensor) -> None:
        _run(dist.all_reduce, x, group=self._processes)

    def _broadcast(self, x: torch.Tensor, source: int) -> None:
        _run(dist.broadcast, x, group_src=source, group=self._processes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """This process among those that sample one video.

    Attributes:
        world: all of them.
        branches: those that hold other CFG branches of the same heads.
        heads: those that hold other heads of the same CFG branches.
        traffic: what this process has exchanged.
    """

    world: Group
    branches: Group
    heads: Group
    traffic: Traffic

    def own(self, branches: Sequence[str]) -> tuple[str, ...]:
        """The CFG branches that this process computes."""
        return tuple(branches[self.branches.rank :: self.branches.size])

    def owner(self, branches: Sequence[str], branch: str) -> int:
        """The place, in the group `branches`, of the process that computes a CFG branch."""
        return branches.index(branch) % self.branches.size


def split_ranks(parallel: Parallel, *, branches: int, heads: int, device: torch.device) -> Ranks:
    """Divide the processes that `torch.distributed` knows.

    Args:
        branches: CFG branches of the model.
        heads: heads of its keys and values.
        device: of the model in this process.

    Raises:
        MotionCacheError: if there is one process only, or so many that a model cannot be divided among them.
    """
    size = _world_size(parallel)
    number = heads_divided(parallel, size, branches, heads)
    traffic = Traffic()
    neighbours = [list(range(first, first + number)) for first in range(0, size, number)]
    across = [list(range(first, size, number)) for first in range(number)]
    by_heads, by_branch = (Group(_own_group(groups), traffic, device) for groups in (neighbours, across))
    return Ranks(world=Group(dist.group.WORLD, traffic, device), branches=by_branch, heads=by_heads, traffic=traffic)


def _world_size(parallel: Parallel) -> int:
    size = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    if size == 1:
        raise MotionCacheError(
            f"parallel={parallel.value} divides a video among several processes, and there is one: start them with "
            "`torchrun --nproc-per-node N`, and in Python call torch.distributed.init_process_group() first"
        )
    return size


def heads_divided(parallel: Parallel, size: int, branches: int, heads: int) -> int:
    """Among how many processes the heads are divided.

    Raises:
        MotionCacheError: if a model cannot be divided among so many.
    """
    fitting = possible_sizes(parallel, branches=branches, heads=heads)
    if size in fitting:
        return fitting[size]
    parts = f"{branches} CFG branch{'es' * (branches > 1)} and {heads} heads of keys and values"
    allowed = f"start {', '.join(map(str, sorted(fitting)))} processes" if fitting else "pass parallel=ulysses"
    raise MotionCacheError(
        f"parallel={parallel.value} cannot divide this model, which has {parts}, among {size} processes: {allowed}"
    )


def possible_sizes(parallel: Parallel, *, branches: int, heads: int) -> dict[int, int]:
    """The numbers of processes among which a model can be divided, and among how many of them the heads are."""
    by_heads = [number for number in range(2, heads + 1) if heads % number == 0]
    by_branch = list(range(2, branches + 1))
    if parallel is Parallel.ulysses:
        return {number: number for number in by_heads}
    if parallel is Parallel.cfg:
        return dict.fromkeys(by_branch, 1)
    return {ways * number: number for ways in by_branch for number in by_heads}


def _own_group(groups: list[list[int]]) -> Any:
    """The group of this process, of those that together hold all processes; None where it is alone."""
    if len(groups) == 1:
        return dist.group.WORLD
    if len(groups[0]) == 1:
        return None
    made = [dist.new_group(ranks) for ranks in groups]  # every process has to make all groups
    return next(one for one, ranks in zip(made, groups, strict=True) if dist.get_rank() in ranks)


def _run(collective: Callable[..., object], *args: Any, **kwargs: Any) -> None:
    try:
        collective(*args, **kwargs)
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise PeerLostError(
            "another process that samples this video has ended or does not answer; see its error"
        ) from error


def share_random_state(group: Group) -> None:
    """Let the generators of torch that nobody has named go on from where those of the first process are."""
    torch.set_rng_state(group.first(torch.get_rng_state()).cpu())
    if torch.cuda.is_available():
        torch.cuda.set_rng_state(group.first(torch.cuda.get_rng_state()).cpu())


def check_alike(group: Group, arguments: Mapping[str, object]) -> None:
    """Refuse a call that the processes of a group do not make alike.

    Raises:
        MotionCacheError: in all of them; it names an argument and its values.
    """
    everywhere = group.gather_objects({name: _shape(value) for name, value in arguments.items()})
    for place, found in enumerate(everywhere):
        for name in {**everywhere[0], **found}:
            values = [values.get(name, "nothing") for values in (everywhere[0], found)]
            if values[0] != values[1]:
                raise MotionCacheError(
                    f"process 0 was called with {name}={values[0]} and process {place} with {name}={values[1]}: call "
                    "the pipelines of one video alike"
                )


def _shape(value: object) -> str:
    """What has to be alike of an argument."""
    if isinstance(value, torch.Tensor):
        return f"a tensor of {list(value.shape)}"
    return shown(value) if value is None or isinstance(value, str | int | float | bool) else f"a {type(value).__name__}"
