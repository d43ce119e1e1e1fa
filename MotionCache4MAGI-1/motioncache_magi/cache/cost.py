"""FLOPs of MAGI-1 in closed form, from the tokens that were really computed. 1 multiply-add = 2 FLOPs."""

from collections.abc import Iterable
from dataclasses import dataclass

from motioncache.forecast.profile import WindowProfile
from motioncache.record import Record, WindowShape
from motioncache.trace import Trace
from motioncache_magi.model.config import MagiConfig, ModelConfig
from motioncache_magi.sampling.guidance import Guidance, passes_of
from motioncache_magi.sampling.kv_layout import NEARLY_CLEAN, TEXT
from motioncache_magi.sampling.schedule import WindowSchedule, time_schedule
from motioncache_magi.sampling.step import Step
from motioncache_magi.text.chunks import NULL_TEXT_LENGTH


@dataclass(frozen=True, slots=True, kw_only=True)
class MagiCost:
    """What the FLOPs of one video follow from.

    Attributes:
        config: the model and how it is sampled.
        schedule: the steps of the video.
        text_length: tokens of the caption; branches without a caption attend to the null caption.
    """

    config: MagiConfig
    schedule: WindowSchedule
    text_length: int

    def tokens(self, computed: int, attended: int, text_length: int) -> int:
        """FLOPs of `computed` tokens in all layers, each attending to `attended` tokens and `text_length` of text."""
        model = self.config.model
        width = model.num_attention_heads * model.kv_channels
        attention = 4 * width * (attended + text_length)
        return computed * (self._linear(model) + model.num_layers * attention)

    @staticmethod
    def _linear(model: ModelConfig) -> int:
        """FLOPs of the linear layers, embedding and head of one token."""
        width, groups = model.num_attention_heads * model.kv_channels, model.num_query_groups * model.kv_channels
        size = model.hidden_size
        queries_keys_values = 2 * size * width + 2 * size * groups
        feed_forward = (3 if model.gated_linear_unit else 2) * size * model.ffn_hidden_size
        layer = queries_keys_values + 2 * width * size + feed_forward
        return 2 * (model.num_layers * layer + 4 * size * (model.in_channels + model.out_channels))

    def video(self, trace: Trace) -> int:
        """FLOPs of the DiT for one video, counted from its trace."""
        return sum(self._record(record) for record in trace.records)

    def _record(self, record: Record) -> int:
        captioned = record.branch in (TEXT, NEARLY_CLEAN) and record.step >= 0
        return self.tokens(record.computed, record.attended, self.text_length if captioned else NULL_TEXT_LENGTH)

    def vanilla(self, windows: Iterable[WindowShape], *, dense: bool = True) -> int:
        """FLOPs without a cache. No mask hides a pair of tokens, so `dense` makes no difference."""
        return sum(self.schedule_flops(window.grid.tokens_per_chunk, window.calls) for window in windows)

    def schedule_flops(self, tokens_per_chunk: int, steps: int | None = None) -> int:
        """FLOPs of a video without a cache, from its schedule alone.

        Args:
            steps: denoise steps of the window that are made; None for the whole video.
        """
        times = self._times()
        made = [*self.schedule.prefix_steps(), *list(self.schedule)[:steps]]
        return sum(self._step(step, times, tokens_per_chunk, refresh=r) for step in made for r in (True, False))

    def _times(self) -> list[float]:
        return time_schedule(self.schedule.steps, shortcut_mode=self.schedule.shortcut_mode).tolist()

    def profile(self, tokens_per_chunk: int) -> WindowProfile:
        """What the planner of `forecast` has to know of the video, which is one window, before it is sampled."""
        schedule = self.schedule
        times = self._times()
        steps = list(schedule)
        fixed_flops = sum(
            self._step(step, times, tokens_per_chunk, refresh=True) for step in [*schedule.prefix_steps(), *steps]
        )
        iteration_flops = tuple(self._step(step, times, tokens_per_chunk, refresh=False) for step in steps)
        return WindowProfile(
            iterations=schedule.total,
            starts=schedule.starts,
            iteration_flops=iteration_flops,
            fixed_flops=fixed_flops,
            sigmas=tuple(1 - t for t in times[:-1]),
            uncached_flops=fixed_flops + sum(iteration_flops),
        )

    def _step(self, step: Step, times: list[float], tokens_per_chunk: int, *, refresh: bool) -> int:
        """FLOPs of the chunks that a step denoises, or with `refresh` of the clean chunk that it computes once more."""
        total = 0
        for one in passes_of(step, times, Guidance.of(self.config), self.config.runtime.clean_t):
            if one.refresh is not refresh:
                continue
            captioned = one.branch in (TEXT, NEARLY_CLEAN) and not one.refresh
            text_length = self.text_length if captioned else NULL_TEXT_LENGTH
            total += self.tokens(tokens_per_chunk, one.chunks_seen * tokens_per_chunk, text_length)
        return total
