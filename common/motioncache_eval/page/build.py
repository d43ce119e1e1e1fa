"""Builds the report page from its parts."""

import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from motioncache_eval.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a page shows.

    Attributes:
        heading: the title.
        lead: a sentence below the title.
        tables: the figures.
        points: points of the curve of quality over cost: `{"name", "family", "cost", "quality", "low", "high"}`.
        videos: by prompt and method, a view (see `view.make_view`) with `caption`, or `{"error": ...}`.
        chosen: methods whose videos are shown at first; an empty sequence shows all.
    """

    heading: str
    lead: str
    tables: Sequence[Table]
    points: Sequence[Mapping[str, Any]]
    videos: Mapping[str, Mapping[str, Mapping[str, Any]]]
    chosen: Sequence[str] = ()


def write_page(path: Path, page: Page) -> None:
    """Write the page as one file that needs no other; it is either whole or absent."""
    resources = files("motioncache_eval.page")
    data = {"points": list(page.points), "videos": page.videos, "chosen": list(page.chosen)}
    parts = {
        "HEADING": html.escape(page.heading),
        "LEAD": html.escape(page.lead),
        "TABLES": "".join(_table(table) for table in page.tables),
        "STYLE": (resources / "page.css").read_text("utf-8"),
        "SCRIPT": (resources / "page.js").read_text("utf-8"),
        # `<` would let a text end the script element.
        "DATA": json.dumps(data).replace("<", "\\u003c"),
    }
    # In one pass, as a method may be named like a part: what was put in is not looked at again.
    empty = (resources / "page.html").read_text("utf-8")
    text = re.sub(r"\[\[([A-Z]+)\]\]", lambda found: parts[found[1]], empty)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _table(table: Table) -> str:
    title = html.escape(table.title)
    head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in table.header)
    rows = "".join(
        f"<tr>{_cell(row[0], 'th')}{''.join(_cell(cell, 'td') for cell in row[1:])}</tr>" for row in table.rows
    )
    drawn = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<h3>{title}</h3><div class="scroll" tabindex="0" role="region" aria-label="{title}">{drawn}</div>'


def _cell(text: str, tag: str) -> str:
    scope = ' scope="row"' if tag == "th" else ""
    return f"<{tag}{scope}>{html.escape(text)}</{tag}>"
