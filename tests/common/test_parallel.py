"""What processes exchange, and what they refuse, without a model."""

import os
from typing import Any

import pytest
import torch

import motioncache
from motioncache.errors import ConfigError, MotionCacheError
from motioncache.parallel import (
    Group,
    Parallel,
    PeerLostError,
    Ranks,
    check_alike,
    possible_sizes,
    share_random_state,
    split_ranks,
)
from motioncache.registry import installed_adapters
from motioncache_eval.team import join_team

from ..ranks import run_on_ranks

CPU = torch.device("cpu")


def ranks(parallel: str = "ulysses", branches: int = 2, heads: int = 12) -> Ranks:
    return split_ranks(Parallel.of(parallel), branches=branches, heads=heads, device=CPU)


def numbered(rows: int, heads: int, first: int) -> torch.Tensor:
    """`[1, rows, heads, 2]`, every value another one."""
    return first + torch.arange(rows * heads * 2.0).view(1, rows, heads, 2)


def exchange_rows_and_heads() -> list[Any]:
    group = ranks().heads
    query, key = numbered(7, 12, 0), numbered(7, 6, 1000)
    own_query, own_key = group.to_heads(group.take_rows(query), group.take_rows(key))
    own = slice(group.rank * 4, group.rank * 4 + 4), slice(group.rank * 2, group.rank * 2 + 2)
    padded = torch.cat([query, query[:, -1:], query[:, -1:]], dim=1)
    return [
        torch.equal(own_query[:, :7], query[:, :, own[0]]),
        torch.equal(own_key[:, :7], key[:, :, own[1]]),
        torch.equal(group.to_rows(own_query.flatten(2)), group.take_rows(padded.flatten(2))),
        torch.equal(group.gather_rows(group.take_rows(query), 7), query),
    ]


def test_rows_are_exchanged_for_heads_and_back_whatever_their_number() -> None:
    # 7 rows among 3 processes: 3 each, two of them padding.
    assert run_on_ranks(3, exchange_rows_and_heads) == [[True] * 4] * 3


def count_traffic() -> tuple[dict[str, int], dict[str, int]]:
    found = ranks()
    group = found.heads
    group.to_heads(torch.zeros(1, 3, 12, 2))
    group.gather_rows(torch.zeros(1, 3, 5), 9)
    group.sum(torch.zeros(6))
    group.first(torch.zeros(4))
    return dict(found.traffic.calls), dict(found.traffic.sent)


def test_collectives_and_bytes_that_leave_a_process_are_counted() -> None:
    first, second, _ = run_on_ranks(3, count_traffic)
    assert first[0] == {"all-to-all": 1, "all-gather": 1, "all-reduce": 1, "broadcast": 1}
    # Two thirds of 72 floats; 15 floats to each of two; twice two thirds of 6; 4 to each of two, from the first alone.
    assert first[1] == {"all-to-all": 48 * 4, "all-gather": 30 * 4, "all-reduce": 8 * 4, "broadcast": 8 * 4}
    assert second[1] == {**first[1], "broadcast": 0}


def draw_alike() -> tuple[float, float, list[bool]]:
    group = ranks().world
    torch.manual_seed(group.rank)
    share_random_state(group)
    mask = torch.tensor([group.rank == 0, False, True])
    return torch.rand(()).item(), group.first(torch.tensor(float(group.rank))).item(), group.first(mask).tolist()


def test_all_processes_have_the_noise_and_the_decisions_of_the_first() -> None:
    first, second = run_on_ranks(2, draw_alike)
    torch.manual_seed(0)
    assert first == second == (torch.rand(()).item(), 0.0, [True, False, True])


def call_differently() -> str:
    group: Group = ranks().world
    arguments = {"prompt": "a cat", "height": 64, "generator": torch.Generator(), "latents": torch.zeros(1, 4)}
    check_alike(group, {**arguments, "generator": torch.Generator().manual_seed(group.rank)})
    with pytest.raises(MotionCacheError) as error:
        check_alike(group, {**arguments, "height": 64 + 32 * group.rank})
    return str(error.value)


def test_calls_that_differ_are_refused_in_all_processes() -> None:
    texts = run_on_ranks(3, call_differently)
    expected = "process 0 was called with height=64 and process 1 with height=96: call the pipelines of one video alike"
    assert texts == [expected] * 3


def lose_the_last() -> str:
    group = ranks().world
    if group.rank == group.size - 1:
        os._exit(1)
    with pytest.raises(PeerLostError) as error:
        group.sum(torch.zeros(3))
    return str(error.value)


def test_a_process_that_is_lost_is_no_hang_and_no_traceback() -> None:
    with pytest.raises(AssertionError, match="process 1 has ended without a result"):
        run_on_ranks(2, lose_the_last)


def groups_of(parallel: str) -> tuple[list[str], int, int, list[int]]:
    found = ranks(parallel, branches=3, heads=4)
    neighbours = found.heads.gather_objects(found.world.rank)
    return list(found.own(("a", "b", "c"))), found.branches.size, found.heads.size, neighbours


def test_both_divide_branches_first_and_heads_among_neighbours() -> None:
    found = run_on_ranks(6, groups_of, "cfg+ulysses")
    expected = [(["a"], [0, 1]), (["a"], [0, 1]), (["b"], [2, 3]), (["b"], [2, 3]), (["c"], [4, 5]), (["c"], [4, 5])]
    assert found == [(own, 3, 2, neighbours) for own, neighbours in expected]


def test_numbers_of_processes_that_fit() -> None:
    assert list(possible_sizes(Parallel.ulysses, branches=2, heads=12)) == [2, 3, 4, 6, 12]
    assert list(possible_sizes(Parallel.ulysses, branches=2, heads=40)) == [2, 4, 5, 8, 10, 20, 40]
    assert list(possible_sizes(Parallel.cfg, branches=3, heads=8)) == [2, 3]
    assert sorted(possible_sizes(Parallel.both, branches=2, heads=12)) == [4, 6, 8, 12, 24]
    assert possible_sizes(Parallel.cfg, branches=1, heads=8) == {}


def refuse(parallel: str, branches: int, heads: int) -> str:
    with pytest.raises(MotionCacheError) as error:
        ranks(parallel, branches, heads)
    return str(error.value)


@pytest.mark.parametrize(
    ("parallel", "branches", "heads", "advice"),
    [
        ("ulysses", 2, 40, "among 3 processes: start 2, 4, 5, 8, 10, 20, 40 processes"),
        ("cfg", 2, 12, "2 CFG branches and 12 heads of keys and values, among 3 processes: start 2 processes"),
        ("cfg", 1, 8, "1 CFG branch and 8 heads of keys and values, among 3 processes: pass parallel=ulysses"),
        ("cfg+ulysses", 2, 4, "among 3 processes: start 4, 8 processes"),
    ],
)
def test_a_number_that_does_not_fit_is_refused_with_those_that_do(
    parallel: str, branches: int, heads: int, advice: str
) -> None:
    for text in run_on_ranks(3, refuse, parallel, branches, heads):
        assert text.startswith(f"parallel={parallel} cannot divide this model, which has ")
        assert text.endswith(advice)


def test_one_process_is_refused_with_the_command_that_starts_several() -> None:
    with pytest.raises(MotionCacheError, match=r"there is one: start them with `torchrun --nproc-per-node N`"):
        ranks()
    with (
        pytest.raises(MotionCacheError, match=r"there is one: start the command with `torchrun"),
        join_team("cfg", "cpu"),
    ):
        pass


def test_an_unknown_value_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ConfigError, match=r"parallel: 'ring' is not allowed; allowed: null, cfg, ulysses, cfg\+ulysses"
    ):
        motioncache.enable_cache(object(), adapter=installed_adapters()[0], parallel="ring")


def test_several_processes_without_anything_to_divide_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(MotionCacheError, match="there are 4 processes, and nothing to divide"), join_team(None, "cpu"):
        pass
    with (
        pytest.raises(MotionCacheError, match="device=cuda:1: every process has a GPU of its own"),
        join_team("cfg", "cuda:1"),
    ):
        pass
