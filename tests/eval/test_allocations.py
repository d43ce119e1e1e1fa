"""Allocations are counted to the byte, by the function that makes them."""

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from motioncache_eval.allocations import WEIGHTS, Allocations
from motioncache_eval.measured_memory import ComputesAll, MeasuredMemory, MemorySettings, Stage, measure

KB = 1000


def make(device: str) -> torch.Tensor:
    return torch.empty(KB, dtype=torch.int8, device=device)


def join(parts: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat(parts)


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_the_peak_is_what_is_alive_at_once(device: str) -> None:
    with Allocations(device) as counted:
        parts = [make(device) for _ in range(3)]
        whole = join(parts)
        del parts
        make(device)
    assert counted.peak == 6 * KB
    assert counted.at_peak == {"make": 3 * KB, "join": 3 * KB}
    assert +counted.live == {"join": 3 * KB}
    assert whole.nbytes == 3 * KB


def test_views_and_what_is_written_in_place_are_free() -> None:
    with Allocations() as counted:
        x = make("meta")
        views = [x.view(10, 100), x[:10], x.unflatten(0, (2, -1)).transpose(0, 1)]
        x.add_(1)
        views[0].mul_(2)
    assert counted.peak == KB


def test_a_view_keeps_its_storage_alive() -> None:
    with Allocations() as counted:
        view = make("meta")[:1]
        assert counted.live["make"] == KB
        del view
        assert counted.live["make"] == 0


def test_what_was_there_before_is_counted_once_and_by_name() -> None:
    layer = nn.Linear(10, 10, bias=False, device="meta")
    tensors = [layer.weight, layer.weight, layer.weight.detach()]
    with Allocations() as counted:
        counted.hold(tensors)
        out = layer(torch.empty(5, 10, device="meta"))
    assert counted.peak == 400 + 200 + 200
    assert counted.at_peak[WEIGHTS] == 400
    assert len(out) == 5


def test_other_devices_do_not_count() -> None:
    with Allocations("meta") as counted:
        make("cpu")
    assert counted.peak == 0


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_attention_allocates_as_flash_attention_does(device: str) -> None:
    query = torch.zeros(1, 4, 6, 8, dtype=torch.bfloat16, device=device)
    key, value = (torch.zeros(1, 2, 100, 8, dtype=torch.bfloat16, device=device) for _ in range(2))
    with Allocations(device) as counted:
        out = scaled_dot_product_attention(query, key, value=value, enable_gqa=True)
    assert out.shape == query.shape
    assert counted.peak == 4 * 6 * 8 * 2 + 4 * 6 * 4  # the result, and a float32 for each query and head


def test_an_allocation_has_the_name_of_its_module() -> None:
    class Block(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x)

    with Allocations() as counted:
        held = Block()(torch.empty(KB, device="meta"))
    assert [name.rpartition(".")[2] for name in counted.at_peak if counted.at_peak[name]][-1] == "Block"
    assert held.nbytes == 4 * KB


def test_a_copy_to_the_host_is_zeros() -> None:
    with Allocations():
        copied = torch.ones(3, device="meta").to("cpu", torch.float64)
    assert copied.tolist() == [0, 0, 0]
    assert copied.dtype == torch.float64


def test_a_small_model_is_as_large_on_meta_as_on_the_cpu() -> None:
    def run(device: str) -> Stage:
        model = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 16), nn.LayerNorm(16)).to(device)
        return measure("sampling", {"transformer": model}, lambda: model(torch.zeros(10, 16, device=device)), device)

    assert run("meta") == run("cpu")
    # At the peak: the input, and the wide layer before and after its activation.
    assert run("meta").bytes == (10 * 16 + 10 * 64 + 10 * 64) * 4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_peak_is_that_of_the_gpu() -> None:
    def run(device: str) -> None:
        x = torch.zeros(4096, 1024, dtype=torch.bfloat16, device=device)
        for _ in range(3):
            x = torch.nn.functional.gelu(x @ x.T) @ x

    run("cuda")  # the workspace of matrix products is allocated at the first one
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    with torch.no_grad():
        run("cuda")
    with Allocations() as counted, torch.no_grad():
        run("meta")
    assert torch.cuda.max_memory_allocated() - before == counted.peak


def test_the_peak_is_that_of_the_largest_stage() -> None:
    measured = MeasuredMemory(
        name="a model",
        frames=97,
        weights={"transformer": 30, "text encoder": 50, "autoencoder": 5},
        stages=(
            Stage(name="prompt", needs=("text encoder",), parts={"x": 1}),
            Stage(name="sampling", needs=("transformer",), parts={"K/V": 40, "x": 2}),
        ),
    )
    assert measured.peak(offload=False) == 30 + 50 + 5 + 42
    assert measured.peak(offload=True) == 30 + 42
    assert MeasuredMemory.from_dict({**vars_of(measured)}) == measured


def vars_of(measured: MeasuredMemory) -> dict[str, object]:
    import json
    from dataclasses import asdict

    return json.loads(json.dumps(asdict(measured)))


def test_the_worst_case_keeps_as_many_outputs_as_a_policy() -> None:
    assert ComputesAll(2).history == 2


@pytest.mark.parametrize("wrong", [{"height": 17}, {"num_frames": 0}, {"dtype": "int8"}])
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    from motioncache.errors import ConfigError

    (name,) = wrong
    with pytest.raises(ConfigError, match=name):
        MemorySettings(**wrong)  # pyright: ignore[reportArgumentType]
