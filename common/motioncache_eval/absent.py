"""Processes that are not there: what one of several would allocate, and how much it would send, measured alone."""

from typing import Any

import torch

from motioncache.parallel import Group, Parallel, Ranks, Traffic, heads_divided


class AbsentGroup(Group):
    """A group of which only this process is there: it sends as it would, and what arrives has a size and no content."""

    def __init__(self, size: int, traffic: Traffic, device: torch.device) -> None:
        super().__init__(None, traffic, device)
        self.size = size

    def gather_objects(self, value: Any) -> list[Any]:
        return [value] * self.size

    def send(self, x: torch.Tensor, to: int) -> None:
        self._count("send", x.nbytes)

    def receive(self, like: torch.Tensor, source: int) -> torch.Tensor:
        return torch.empty_like(like, memory_format=torch.contiguous_format)

    def _all_to_all(self, out: torch.Tensor, x: torch.Tensor) -> None:
        pass

    def _all_gather(self, out: torch.Tensor, x: torch.Tensor) -> None:
        pass

    def _sum(self, x: torch.Tensor) -> None:
        pass

    def _broadcast(self, x: torch.Tensor, source: int) -> None:
        pass


def absent_ranks(parallel: Parallel, size: int, *, branches: int, heads: int) -> Ranks:
    """The first of so many processes among which a model is divided; see `split_ranks`."""
    number = heads_divided(parallel, size, branches, heads)
    traffic, cpu = Traffic(), torch.device("cpu")
    world, by_branch, by_heads = (AbsentGroup(one, traffic, cpu) for one in (size, size // number, number))
    return Ranks(world=world, branches=by_branch, heads=by_heads, traffic=traffic)
