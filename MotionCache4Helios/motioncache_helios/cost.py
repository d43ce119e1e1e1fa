"""FLOPs of Helios in closed form, from the tokens that were really computed. 1 multiply-add = 2 FLOPs."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

from diffusers import HeliosTransformer3DModel

from motioncache.record import Phase, Record, WindowShape
from motioncache.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryTokens:
    """Tokens of the history at each resolution; each stands for 1, 8 or 64 patches of the latents."""

    short: int = 0
    mid: int = 0
    long: int = 0

    @property
    def all(self) -> int:
        return self.short + self.mid + self.long

    @property
    def patches(self) -> int:
        """Patches that they are made of, padding included."""
        return self.short + 8 * self.mid + 64 * self.long


@dataclass(frozen=True, slots=True, kw_only=True)
class HeliosCost:
    """The sizes of a transformer and of its inputs, and the FLOPs that follow from them.

    Attributes:
        patch_in, patch_out: values of a token in latent space, before and after the transformer.
        history_reads: whether the history attends to the prompt.
        embeds_zero: whether timestep 0 is embedded for the history.
        text_length: tokens to which prompts are padded.
    """

    layers: int
    width: int
    ffn: int
    text_dim: int
    freq_dim: int
    patch_in: int
    patch_out: int
    history_reads: bool
    embeds_zero: bool
    text_length: int
    history: HistoryTokens

    @classmethod
    def of(
        cls,
        transformer: HeliosTransformer3DModel,
        text_length: int = 512,
        history: HistoryTokens = HistoryTokens(),
    ) -> "HeliosCost":
        config: Any = transformer.config
        return cls(
            layers=config.num_layers,
            width=config.num_attention_heads * config.attention_head_dim,
            ffn=config.ffn_dim,
            text_dim=config.text_dim,
            freq_dim=config.freq_dim,
            patch_in=config.in_channels * prod(config.patch_size),
            patch_out=config.out_channels * prod(config.patch_size),
            history_reads=not config.guidance_cross_attn,
            embeds_zero=config.zero_history_timestep,
            text_length=text_length,
            history=history,
        )

    def blocks(self, computed: int, tokens: int) -> int:
        """FLOPs of the blocks for `computed` of a chunk's tokens and its history; 0 if none is computed."""
        if not computed:
            return 0
        d, rows = self.width, computed + self.history.all
        reading = rows if self.history_reads else computed
        attention = 8 * d * d + 4 * d * (tokens + self.history.all)
        reads = 4 * d * d + 4 * d * self.text_length
        return self.layers * (rows * (attention + 4 * d * self.ffn) + reading * reads)

    def ends(self, tokens: int) -> int:
        """FLOPs of the patch embedding and the output projection of a chunk."""
        return 2 * tokens * self.width * (self.patch_in + self.patch_out)

    def time(self) -> int:
        """FLOPs of the time embedding of one model call."""
        d = self.width
        return (2 if self.embeds_zero else 1) * 2 * (self.freq_dim * d + 7 * d * d)

    def text(self) -> int:
        """FLOPs of one prompt: its embedding, and its keys and values in all layers."""
        d = self.width
        return 2 * self.text_length * (self.text_dim * d + d * d) + self.layers * 4 * self.text_length * d * d

    def embed_history(self) -> int:
        """FLOPs of the history's patch embeddings."""
        return 2 * self.history.patches * self.width * self.patch_in

    def call(self, tokens: int, computed: int, *, forecast: bool) -> int:
        """FLOPs of one model call of one CFG branch.

        Args:
            forecast: nothing at all runs where nothing is computed.
        """
        if forecast and not computed:
            return 0
        return self.blocks(computed, tokens) + self.ends(tokens) + self.time()

    def video(self, trace: Trace) -> int:
        """FLOPs of the transformer for one video of a batch, counted from its trace."""
        prompts = len({record.branch for record in trace.records})
        calls = sum(self._record(record) for record in trace.records)
        return prompts * self.text() + len(trace.windows) * self.embed_history() + calls

    def vanilla(self, windows: Iterable[WindowShape], *, dense: bool = True) -> int:
        """FLOPs of the pipeline without a cache; attention has no mask, so `dense` changes nothing."""
        return sum(window.model_calls * self._vanilla_call(window.grid.tokens) for window in windows)

    def _vanilla_call(self, tokens: int) -> int:
        return self.call(tokens, tokens, forecast=False) + self.text() + self.embed_history()

    def _record(self, record: Record) -> int:
        return self.call(record.tokens, record.computed, forecast=record.phase is Phase.forecast)
