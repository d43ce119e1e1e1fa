import torch

from motioncache_magi.sampling.kv_layout import MovingKVCache


def test_every_head_keeps_its_own_rows() -> None:
    cache = MovingKVCache(
        layers=1, batch=1, rows=5, heads=2, head_dim=1, dtype=torch.float32, device=torch.device("cpu")
    )
    rows = torch.arange(10.0).view(1, 5, 2, 1)  # row r: 2r in head 0, 2r + 1 in head 1
    cache.write(0, torch.arange(5), rows, -rows)
    cache.keep(0, slice(1, 5), torch.tensor([[0, 3], [1, 2]]), to=0)
    key, value = cache.read(0, slice(0, 5))
    assert key[0, :, :, 0].tolist() == [[2.0, 5.0], [8.0, 7.0], [4.0, 5.0], [6.0, 7.0], [8.0, 9.0]]
    assert torch.equal(value, -key)
