"""A table of texts, for Markdown and for the page."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table whose first column names the rows.

    Attributes:
        title: says what the table shows; `markdown` leaves it out.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> list[str]:
        """The lines of the table as Markdown, without the title."""
        return [
            f"| {' | '.join(self.header)} |",
            f"|---|{'--:|' * (len(self.header) - 1)}",
            *(f"| {' | '.join(row)} |" for row in self.rows),
        ]
