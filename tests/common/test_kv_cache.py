import torch

from motioncache.kv_cache import KVCache


def test_rows_are_written_where_they_belong_and_read_as_ranges() -> None:
    cache = KVCache(layers=2, batch=1, rows=4, heads=1, head_dim=1, dtype=torch.bfloat16, device=torch.device("cpu"))
    for layer in range(2):
        value = torch.arange(4.0).view(1, 4, 1, 1) + 10 * layer
        cache.write(layer, torch.arange(4), value, -value)
    cache.write(1, torch.tensor([2, 0]), torch.tensor([7.0, 8.0]).view(1, 2, 1, 1), torch.zeros(1, 2, 1, 1))
    key, value = cache.read(1, slice(0, 3))
    assert key.flatten().tolist() == [8, 11, 7]
    assert value.flatten().tolist() == [0, -11, 0]
    assert cache.read(0, slice(1, 2))[0].item() == 1  # the other layer is untouched
    assert key.dtype is torch.bfloat16


def test_every_head_keeps_its_own_rows() -> None:
    cache = KVCache(layers=1, batch=1, rows=5, heads=2, head_dim=1, dtype=torch.float32, device=torch.device("cpu"))
    rows = torch.arange(10.0).view(1, 5, 2, 1)  # row r: 2r in head 0, 2r + 1 in head 1
    cache.write(0, torch.arange(5), rows, -rows)
    cache.keep(0, slice(1, 5), torch.tensor([[0, 3], [1, 2]]), to=0)
    key, value = cache.read(0, slice(0, 5))
    assert key[0, :, :, 0].tolist() == [[2.0, 5.0], [8.0, 7.0], [4.0, 5.0], [6.0, 7.0], [8.0, 9.0]]
    assert torch.equal(value, -key)
