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
