"""Builds pages from their parts."""

import html
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from motioncache.whole_file import whole_file
from motioncache_eval.page.chart import draw_chart
from motioncache_eval.table import Table

Videos = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""By prompt and method, a view (see `view.make_view`) with `caption` and maybe `title`, or `{"error": ...}`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What the page of a benchmark shows.

    Attributes:
        heading: the title.
        lead: a sentence below the title.
        tables: the figures.
        points: points of the curve of quality over cost: `{"name", "family", "cost", "quality", "low", "high"}`.
        chosen: methods whose videos are shown at first; an empty sequence shows all.
        accent: names of the rows of tables that stand out.
        findings: sentences below the curve.
        failures: sentences at the end, on what raised.
    """

    heading: str
    lead: str
    tables: Sequence[Table]
    points: Sequence[Mapping[str, Any]]
    videos: Videos
    chosen: Sequence[str] = ()
    accent: Collection[str] = ()
    findings: Sequence[str] = ()
    failures: Sequence[str] = ()


def write_page(path: Path, page: Page) -> None:
    """Write the page of a benchmark: the curve, the videos, and the tables; the first two where there are any."""
    chart = draw_chart(page.points)
    choice = (
        '<details id="choice" hidden><summary>Methods that are shown</summary>'
        '<fieldset id="methods"><legend>Methods</legend></fieldset></details>'
    )
    videos = f'{read_part("controls.html")}{choice}{read_part("legend.html")}<div class="players" id="players"></div>'
    main = [
        section("Quality over cost", f'<div id="curve">{chart}</div>{draw_list(page.findings)}') if chart else "",
        section("Videos", videos) if page.videos else "",
        section("Figures", "".join(draw_table(table, page.accent) for table in page.tables)),
        section("What raised", draw_list(page.failures)) if page.failures else "",
    ]
    data = {"videos": page.videos, "chosen": list(page.chosen), "autoplay": False}
    lead = f"<p>{html.escape(page.lead)}</p>"
    write_document(path, heading=page.heading, lead=lead, main="\n".join(main), data=data)


def write_document(
    path: Path, *, heading: str, lead: str, main: str, data: Mapping[str, Any], script: str = "page.js"
) -> None:
    """Write a page as one file that needs no other; it is either whole or absent. See `draw_document`."""
    text = draw_document(heading=heading, lead=lead, main=main, data=data, script=script)
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def draw_document(*, heading: str, lead: str, main: str, data: Mapping[str, Any], script: str) -> str:
    """A page as HTML.

    Args:
        heading: text.
        lead, main: HTML.
        data: what the script reads; for `page.js` `videos`, `chosen` (shown at first, or all if empty) and `autoplay`;
            for `compare.js` two `videos`, their `difference` and `fps`.
        script: a file beside this one, which follows `base.js`.
    """
    parts = {
        "TITLE": html.escape(heading),
        # A number stays with its unit.
        "HEADING": re.sub(r"(\d) (dB|s)\b", "\\1&nbsp;\\2", html.escape(heading)),
        "LEAD": lead,
        "MAIN": main,
        "STYLE": read_part("page.css"),
        "SCRIPT": read_part("base.js") + read_part(script),
        # `<` would let a text end the script element.
        "DATA": json.dumps(data).replace("<", "\\u003c"),
    }
    # In one pass, as a method may be named like a part: what was put in is not looked at again.
    return re.sub(r"\[\[([A-Z]+)\]\]", lambda found: parts[found[1]], read_part("page.html"))


def read_part(name: str) -> str:
    """A file that lies beside this one."""
    return (files("motioncache_eval.page") / name).read_text("utf-8")


def section(heading: str, body: str) -> str:
    """A section of the page.

    Args:
        heading: text.
        body: HTML.
    """
    anchor = "".join(letter if letter.isalnum() else "-" for letter in heading.lower())
    return f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{html.escape(heading)}</h2>\n{body}\n</section>'


def draw_table(table: Table, accent: Collection[str] = ()) -> str:
    """A table with its title, as HTML; the rows with the names of `accent` stand out."""
    title = html.escape(table.title)
    head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in table.header)
    rows = "".join(_row(row, row[0] in accent) for row in table.rows)
    drawn = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    scroll = f'<div class="scroll" tabindex="0" role="region" aria-label="{title}">{drawn}</div>'
    return f'<h3>{title}</h3>{scroll}<p class="hint">The table goes on to the right: scroll it sideways.</p>'


def draw_list(sentences: Sequence[str]) -> str:
    """A list of texts, as HTML; empty without any."""
    items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences)
    return f"<ul>{items}</ul>" if items else ""


def _row(row: Sequence[str], accent: bool) -> str:
    name, *figures = (html.escape(cell) for cell in row)
    cells = "".join(f"<td>{figure}</td>" for figure in figures)
    return f'<tr{" class=accent" * accent}><th scope="row">{name}</th>{cells}</tr>'
