"""A transformer block on more rows than it should hold at once: all but attention takes them part by part.

What a block holds of a row is many times its width: the wide layer twice, its norms and modulation in float32. So the
memory that a pass takes is hardly more than that of its queries, keys and values.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from diffusers.models.transformers.transformer_skyreels_v2 import SkyReelsV2TransformerBlock

from motioncache_skyreels.packed import BlockFunctions, Pack, text_keys_values


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Neighbouring rows of one CFG branch.

    Attributes:
        frames: see `Pack`.
    """

    branch: str
    rows: slice
    frames: torch.Tensor


def block_in_parts(
    block: SkyReelsV2TransformerBlock,
    functions: BlockFunctions,
    hidden: torch.Tensor,
    pack: Pack,
    layer: int,
    most: int,
) -> torch.Tensor:
    """See `packed_block`; a part has about `most` rows."""
    parts = parts_of(pack.branch_rows(), pack.frames, hidden.shape[1], most)
    texts = {branch: text_keys_values(block.attn2, pack.texts[branch], layer) for branch in pack.branch_rows()}
    table = block.scale_shift_table + pack.modulation.float()  # [F, 6, D]

    def before(part: Part) -> Sequence[torch.Tensor]:
        cos, sin = (one[:, part.rows] for one in pack.rotary)
        return functions.before(block, hidden[:, part.rows], (cos, sin), table, part.frames)

    query, key, value = _by_parts(parts, before, hidden.shape[1])
    attended = pack.attend(block.attn1, query, key, value, layer)
    del query, key, value

    def after(part: Part) -> Sequence[torch.Tensor]:
        rows = part.rows
        whole = {part.branch: slice(0, rows.stop - rows.start)}
        return (functions.after(block, hidden[:, rows], attended[:, rows], table, part.frames, whole, texts),)

    (out,) = _by_parts(parts, after, hidden.shape[1])
    return out


def parts_of(branches: Mapping[str, slice], frames: torch.Tensor, rows: int, most: int) -> list[Part]:
    """Cut the rows of every CFG branch into parts of whole groups of rows with one latent frame."""
    group = rows // len(frames)
    step = max(most // group, 1) * group
    return [
        Part(
            branch=branch,
            rows=slice(start, min(start + step, place.stop)),
            frames=frames[start // group : min(start + step, place.stop) // group],
        )
        for branch, place in branches.items()
        for start in range(place.start, place.stop, step)
    ]


def _by_parts(
    parts: Sequence[Part], function: Callable[[Part], Sequence[torch.Tensor]], rows: int
) -> Sequence[torch.Tensor]:
    """What a function gives of all rows, `[B, rows, ...]` each."""
    whole: list[torch.Tensor] = []
    for part in parts:
        found = function(part)
        if not whole:
            whole = [one.new_empty(len(one), rows, *one.shape[2:]) for one in found]
        for to, one in zip(whole, found, strict=True):
            to[:, part.rows] = one
    return whole
