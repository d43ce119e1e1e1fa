"""One packed pass through the blocks: the due tokens of all chunks and both CFG branches side by side.

Shapes: B batch, n packed rows, D channels, H heads, d head_dim, F latent frames of the window, T tokens of the window.
Linear layers see all rows at once; attention runs per chunk, without a mask, against the range that the chunk may see.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from diffusers import SkyReelsV2Transformer3DModel
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_skyreels_v2 import SkyReelsV2Attention, SkyReelsV2TransformerBlock

from motioncache.decision import Decision
from motioncache.grid import TokenGrid
from motioncache.kv_store import KVStore
from motioncache.patch import Patch
from motioncache_diffusers.attention import project_text

MOST_ROWS = 16_384
"""More rows than these pass what knows no other rows in parts: enough to fill a GPU, and little to hold."""


@dataclass(slots=True)
class TextContext:
    """A prompt of one CFG branch, embedded, and its keys and values per layer, projected at their first use.

    Attributes:
        source: the embeddings as the pipeline passed them; another object, or `version_of` it, means another prompt.
        embedded: `[B, text_length, D]`.
    """

    source: torch.Tensor
    version: int
    embedded: torch.Tensor
    keys_values: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """See `motioncache.kv_store.Segment`."""

    branch: str
    start: int
    stop: int
    chunk: slice
    attended: slice
    clean: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """Everything a block needs to know of the packed rows.

    Attributes:
        segments: in the order of the rows; the segments of one branch are neighbours.
        cache_rows: row of the KV cache of each packed row, int64 `[n]`.
        rotary: cosine and sine of each row, `[1, n, 1, d]`.
        modulation: six rows per latent frame, float32 `[F, 6, D]`.
        frames: latent frame of each group of equally many neighbouring rows, int64 `[groups]`: whole frames where
            chunks are computed whole, else single rows.
    """

    segments: Sequence[Segment]
    cache: KVStore
    cache_rows: torch.Tensor
    rotary: tuple[torch.Tensor, torch.Tensor]
    modulation: torch.Tensor
    frames: torch.Tensor
    texts: dict[str, TextContext]

    def attend(
        self, attn: SkyReelsV2Attention, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layer: int
    ) -> torch.Tensor:
        """Hand over the rows' keys and values, then attend chunk by chunk to what the chunk may see: `[B, n, D]`."""
        attended = query.new_empty(*query.shape[:2], query.shape[2] * query.shape[3])
        seen = self.cache.exchange(layer, self, key, value)
        for segment in self.segments:  # no name holds what was seen while the next is brought
            attended[:, segment.start : segment.stop] = _attend(
                attn, query[:, segment.start : segment.stop], *next(seen)
            )
        return attended

    def branch_rows(self) -> dict[str, slice]:
        """The rows of each CFG branch."""
        rows: dict[str, slice] = {}
        for segment in self.segments:
            first = rows.get(segment.branch)
            rows[segment.branch] = slice(segment.start if first is None else first.start, segment.stop)
        return rows


@dataclass(slots=True)
class BlockFunctions:
    """What a block does before and after attention, see `before_attention` and `after_attention`."""

    before: Callable[..., tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
    after: Callable[..., torch.Tensor]


def patch_blocks(patch: Patch, transformer: SkyReelsV2Transformer3DModel, functions: BlockFunctions) -> None:
    """Let the transformer's blocks take packed rows."""
    for block in transformer.blocks:
        patch.set_forward(block, partial(_block_forward, block, functions))


def _block_forward(
    block: SkyReelsV2TransformerBlock, functions: BlockFunctions, *args: Any, **kwargs: Any
) -> torch.Tensor:
    """Packed rows come with a `Pack`; any other call is the block's own."""
    if len(args) == 3 and isinstance(args[1], Pack):
        return packed_block(block, functions, *args)
    return type(block).forward(block, *args, **kwargs)


def packed_block(
    block: SkyReelsV2TransformerBlock, functions: BlockFunctions, hidden: torch.Tensor, pack: Pack, layer: int
) -> torch.Tensor:
    """A transformer block on packed rows `[B, n, D]`: attention runs between two functions that know no other rows."""
    if hidden.shape[1] > MOST_ROWS:
        from motioncache_skyreels.parts import block_in_parts  # which stands on this module

        return block_in_parts(block, functions, hidden, pack, layer, MOST_ROWS)
    texts = {branch: text_keys_values(block.attn2, pack.texts[branch], layer) for branch in pack.branch_rows()}
    table = block.scale_shift_table + pack.modulation.float()  # [F, 6, D]
    attended = pack.attend(block.attn1, *functions.before(block, hidden, pack.rotary, table, pack.frames), layer)
    return functions.after(block, hidden, attended, table, pack.frames, pack.branch_rows(), texts)


def before_attention(
    block: SkyReelsV2TransformerBlock,
    hidden: torch.Tensor,
    rotary: tuple[torch.Tensor, torch.Tensor],
    table: torch.Tensor,
    frames: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, keys and values of rows, `[B, n, H, d]`."""
    attn = block.attn1
    normed = modulate(block.norm1(hidden.float()), table[:, 0], table[:, 1], frames).type_as(hidden)
    if getattr(attn, "fused_projections", False):
        query, key, value = attn.to_qkv(normed).chunk(3, dim=-1)
    else:
        query, key, value = attn.to_q(normed), attn.to_k(normed), attn.to_v(normed)
    query = rotate(attn.norm_q(query).unflatten(2, (attn.heads, -1)), rotary)
    key = rotate(attn.norm_k(key).unflatten(2, (attn.heads, -1)), rotary)
    return query, key, value.unflatten(2, (attn.heads, -1))


def after_attention(
    block: SkyReelsV2TransformerBlock,
    hidden: torch.Tensor,
    attended: torch.Tensor,
    table: torch.Tensor,
    frames: torch.Tensor,
    branches: Mapping[str, slice],
    texts: Mapping[str, tuple[torch.Tensor, torch.Tensor]],
) -> torch.Tensor:
    """The rest of the block on rows that have attended, in the arithmetic of the block's own forward.

    Args:
        branches: the rows of each CFG branch, in order; they attend to its keys and values in `texts`.
    """
    _, _, gate, ff_shift, ff_scale, ff_gate = table.unbind(1)  # [F, D]
    attended = _project_out(block.attn1, attended)
    hidden = (hidden.float() + gated(attended, gate, frames)).type_as(hidden)

    normed = block.norm2(hidden.float()).type_as(hidden)
    query = block.attn2.norm_q(block.attn2.to_q(normed)).unflatten(2, (block.attn2.heads, -1))
    seen = [_attend(block.attn2, query[:, rows], *texts[branch]) for branch, rows in branches.items()]
    hidden = hidden + _project_out(block.attn2, torch.cat(seen, dim=1).type_as(query))

    normed = modulate(block.norm3(hidden.float()), ff_shift, ff_scale, frames).type_as(hidden)
    return (hidden.float() + gated(block.ffn(normed).float(), ff_gate, frames)).type_as(hidden)


def modulate(x: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """x * (1 + scale) + shift, with one row of `[F, D]` tables per latent frame."""
    groups = x.unflatten(1, (len(frames), -1))  # [B, groups, rows, D]
    return (groups * (1 + scale[frames])[:, None] + shift[frames][:, None]).flatten(1, 2)


def gated(x: torch.Tensor, gate: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """x * gate, with one row of the `[F, D]` table per latent frame."""
    return (x.unflatten(1, (len(frames), -1)) * gate[frames][:, None]).flatten(1, 2)


def text_keys_values(attn: SkyReelsV2Attention, text: TextContext, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of a prompt `[B, text_length, H, d]`, projected once."""
    if layer not in text.keys_values:
        text.keys_values[layer] = project_text(attn, text.embedded)
    return text.keys_values[layer]


def rotate(x: torch.Tensor, rotary: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Rotary embedding of `[B, n, H, d]` by tables `[1, n, 1, d]` whose neighbouring pairs belong together."""
    cos, sin = rotary
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return turned.flatten(-2).type_as(x)


def due_rows(embedded: torch.Tensor, decision: Decision) -> torch.Tensor:
    """The due tokens of a chunk `[B, tokens, D]`."""
    if decision.due is True:
        return embedded
    return embedded.index_select(1, decision.indices_on(embedded.device))


def apply_head(
    transformer: SkyReelsV2Transformer3DModel, grid: TokenGrid, hidden: torch.Tensor, temb: torch.Tensor
) -> torch.Tensor:
    """Output norm, projection, unpatching of one chunk: `[B, tokens, D]` -> `[B, channels, f, height, width]`."""
    shift, scale = (transformer.scale_shift_table + temb[:, None]).unbind(1)  # [f, D]
    frames = torch.arange(len(temb), device=hidden.device)
    normed = modulate(transformer.norm_out(hidden.float()), shift, scale, frames).type_as(hidden)
    _, patch_height, patch_width = transformer.config.patch_size
    patches = transformer.proj_out(normed).unflatten(2, (patch_height, patch_width, -1))
    patches = patches.unflatten(1, (len(temb), grid.height, grid.width))  # [B, f, rows, columns, p_h, p_w, C]
    return patches.permute(0, 6, 1, 2, 4, 3, 5).flatten(5, 6).flatten(3, 4)


def _attend(attn: SkyReelsV2Attention, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """`[B, n, H, d]` -> `[B, n, D]` with the backend that the user has set on the model."""
    out = dispatch_attention_fn(
        query,
        key,
        value,
        backend=attn.processor._attention_backend,
        parallel_config=attn.processor._parallel_config,
    )
    return out.flatten(2, 3)


def _project_out(attn: SkyReelsV2Attention, x: torch.Tensor) -> torch.Tensor:
    return attn.to_out[1](attn.to_out[0](x))
