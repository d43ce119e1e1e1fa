"""A table of texts, for Markdown and for the page."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table; the first column names the rows.

    Attributes:
        title: what it shows.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> list[str]:
        """Its lines, without the title."""
        return [
            f"| {' | '.join(self.header)} |",
            f"|---|{'--:|' * (len(self.header) - 1)}",
            *(f"| {' | '.join(row)} |" for row in self.rows),
        ]
