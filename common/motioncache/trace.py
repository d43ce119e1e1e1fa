"""A record of what was computed: one entry per iteration, chunk and CFG branch."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from motioncache.record import ForecastError, Record, WindowShape


@dataclass(slots=True)
class Trace:
    """The records of one video, in the order in which they were made, and the shapes of its windows.

    Attributes:
        errors: of forecasts that were followed by a computed step.
    """

    records: list[Record] = field(default_factory=list[Record])
    windows: list[WindowShape] = field(default_factory=list[WindowShape])
    errors: list[ForecastError] = field(default_factory=list[ForecastError])

    def denoise_records(self) -> Iterator[Record]:
        """The records of decisions about denoise steps."""
        return (record for record in self.records if record.denoises)

    def sampled_windows(self) -> list[WindowShape]:
        """The windows with the model calls that were made."""
        made = {(r.window, r.iteration, r.branch) for r in self.denoise_records()}
        calls = Counter(window for window, _, _ in made)
        return [replace(window, calls=calls[index]) for index, window in enumerate(self.windows)]

    @property
    def computed_share(self) -> float:
        """Share of the denoise steps' tokens that ran through the blocks. Passes for keys and values alone do not count
        here, but in the FLOPs."""
        total = sum(record.tokens for record in self.denoise_records())
        computed = sum(record.computed for record in self.denoise_records())
        return computed / total if total else 0.0

    @property
    def hit_ratio(self) -> float:
        """Share of the denoise steps' tokens that reused their residual."""
        return 1 - self.computed_share if self.records else 0.0
