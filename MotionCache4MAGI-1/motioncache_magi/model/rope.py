"""Rotary position embedding with learned frequencies, shared by time, height and width."""

import torch
from torch import nn


class LearnableRope(nn.Module):
    """Learned frequencies `bands`, `[head_dim / 8]`, which each of the three axes uses.

    The three axes rotate three quarters of a head's channels; the rest stays as it is.
    """

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        count = head_dim // 8
        self.bands = nn.Parameter(10000 ** (-torch.arange(count) / count))

    def forward(self, first_frame: int, frames: int, rows: int, columns: int) -> torch.Tensor:
        """Compute the angles of a chunk, float32 `[frames * rows * columns, 3 * bands]`.

        Time counts latent frames from the start of the video. Rows and columns are centred, and scaled as if the frame
        had the area of 16x16 tokens.

        Args:
            first_frame: latent frame of the video at which the chunk begins.
        """
        device = self.bands.device
        scale = (rows * columns / 256) ** 0.5
        time = torch.arange(first_frame, first_frame + frames, dtype=torch.float32, device=device)
        axes = (time, _centred(rows, scale, device), _centred(columns, scale, device))
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)  # [frames, rows, columns, 3]
        return (grid[..., None] * self.bands.float()).flatten(0, 2).flatten(1)


def _centred(size: int, scale: float, device: torch.device) -> torch.Tensor:
    position = torch.arange(size, dtype=torch.float32, device=device) - (size - 1) / 2
    return position if size == 1 else position / (size - 1) * (size / scale - 1)


def rotate(x: torch.Tensor, rotary: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Rotate channels of `[n, heads, head_dim]`: channel i with channel i + angles, for every i below angles.

    Args:
        rotary: cosine and sine, `[n, 1, angles]`; channels from 2 * angles on stay as they are.
    """
    cos, sin = rotary
    angles = cos.shape[-1]
    first, second, rest = x.split((angles, angles, x.shape[-1] - 2 * angles), dim=-1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos, rest), dim=-1)
