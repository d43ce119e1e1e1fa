"""How long an item may take before its worker counts as hung."""

LEAST = 600.0
"""Seconds that any item may take, unless the setting says otherwise."""

TIMES = 10
"""An item may take so many times as long as the longest of those that were made."""


class Patience:
    """A limit of time for an item.

    Without a setting it comes from what items take: presets differ by less than ten times, and so do the GPUs of a
    cluster. Until the first one is made there is none, for nobody knows what an item takes.
    """

    def __init__(self, setting: float | None) -> None:
        self._setting, self._longest = setting, 0.0

    def note(self, seconds: float) -> None:
        """An item was made in so many seconds."""
        self._longest = max(self._longest, seconds)

    @property
    def seconds(self) -> float | None:
        """The limit; None where there is none yet."""
        if self._setting is not None:
            return self._setting
        return max(LEAST, TIMES * self._longest) if self._longest else None
