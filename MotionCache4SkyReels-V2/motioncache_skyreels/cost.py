"""FLOPs of SkyReels-V2 in closed form, from the tokens that were really computed. 1 multiply-add = 2 FLOPs."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

from diffusers import SkyReelsV2Transformer3DModel

from motioncache.record import Phase, Record, WindowShape
from motioncache.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class SkyReelsCost:
    """The sizes of a transformer, and the FLOPs that follow from them.

    Attributes:
        patch_in, patch_out: values of a token in latent space, before and after the transformer.
        fps: whether the transformer embeds the frame rate.
        text_length: tokens to which prompts are padded.
    """

    layers: int
    width: int
    ffn: int
    text_dim: int
    freq_dim: int
    patch_in: int
    patch_out: int
    fps: bool
    text_length: int

    @classmethod
    def of(cls, transformer: SkyReelsV2Transformer3DModel, text_length: int = 512) -> "SkyReelsCost":
        config: Any = transformer.config
        return cls(
            layers=config.num_layers,
            width=config.num_attention_heads * config.attention_head_dim,
            ffn=config.ffn_dim,
            text_dim=config.text_dim,
            freq_dim=config.freq_dim,
            patch_in=config.in_channels * prod(config.patch_size),
            patch_out=config.out_channels * prod(config.patch_size),
            fps=config.inject_sample_info,
            text_length=text_length,
        )

    def tokens(self, computed: int, attended: int) -> int:
        """FLOPs of `computed` tokens that pass all blocks, each attending to `attended` tokens and to the prompt."""
        d = self.width
        linear = 12 * d * d + 4 * d * self.ffn  # self-attention q, k, v, out: 8; cross-attention q, out: 4
        attention = 4 * d * (attended + self.text_length)
        return self.layers * computed * (linear + attention)

    def embedding(self, tokens: int) -> int:
        """FLOPs of the patch embedding of tokens."""
        return 2 * tokens * self.width * self.patch_in

    def head(self, tokens: int) -> int:
        """FLOPs of the output projection of tokens."""
        return 2 * tokens * self.width * self.patch_out

    def text(self) -> int:
        """FLOPs of one prompt: its embedding, and its keys and values in all layers."""
        d = self.width
        return 2 * self.text_length * (self.text_dim * d + d * d) + self.layers * 4 * self.text_length * d * d

    def time(self, frames: int) -> int:
        """FLOPs of the time and frame-rate embedding in one model call."""
        d = self.width
        return frames * 2 * (self.freq_dim * d + 7 * d * d) + (14 * d * d if self.fps else 0)

    def video(self, trace: Trace) -> int:
        """FLOPs of the transformer for one video of a batch, counted from its trace."""
        prompts = len({record.branch for record in trace.records})
        return prompts * self.text() + self._calls(trace) + sum(self._record(record) for record in trace.records)

    def vanilla(self, windows: Iterable[WindowShape], *, dense: bool = True) -> int:
        """FLOPs of the pipeline without a cache.

        Args:
            dense: count all pairs of tokens, which is what runs (the block-causal mask hides pairs, but does not skip
                them); False counts the visible pairs only, as the papers' tables do.
        """
        return sum(window.model_calls * self._vanilla_call(window, dense) for window in windows)

    def _vanilla_call(self, window: WindowShape, dense: bool) -> int:
        """FLOPs of one iteration of one CFG branch without a cache."""
        grid = window.grid
        if dense or not window.causal:
            blocks = self.tokens(grid.tokens, grid.tokens)
        else:
            chunk = grid.tokens_per_chunk
            blocks = sum(self.tokens(chunk, chunk * (i + 1)) for i in range(grid.chunks))
        outside = self.embedding(grid.tokens) + self.head(grid.tokens)
        return blocks + outside + self.text() + self.time(grid.frames)

    def _record(self, record: Record) -> int:
        head = self.head(record.tokens) if record.denoises and _touched(record) else 0
        return self.tokens(record.computed, record.attended) + head

    def _calls(self, trace: Trace) -> int:
        """FLOPs of the patch and time embeddings, which the CFG branches in one model call share."""
        first_branch = [window.branches[0] for window in trace.windows]
        calls = {(r.window, r.iteration) for r in trace.records if _touched(r)}
        shared = sum(self.time(trace.windows[window].grid.frames) for window, _ in calls)
        for record in trace.records:
            if _touched(record) and (record.iteration == 0 or record.branch == first_branch[record.window]):
                shared += self.embedding(record.tokens)
        for index, window in enumerate(trace.windows):
            if (index, 0) in calls:  # at iteration 0 each branch runs in a call of its own
                shared += (len(window.branches) - 1) * self.time(window.grid.frames)
        return shared


def _touched(record: Record) -> bool:
    """Whether the chunk passed embedding and head. A chunk whose velocity is forecast passes neither."""
    return record.computed > 0 or record.phase is not Phase.forecast
