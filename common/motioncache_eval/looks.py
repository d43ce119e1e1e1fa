"""One look for each family of methods, in every picture and on every page."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

COLOURS = (
    ("#d55e00", "#ff8b3d"),
    ("#3e66df", "#6394f5"),
    ("#49ab8a", "#89eeab"),
    ("#4f0c46", "#a55089"),
    ("#5b5f66", "#93989f"),
    ("#4ebdf7", "#68c6e3"),
    ("#ceac14", "#fecd42"),
    ("#2f299e", "#5b5ce2"),
)
"""Colours on white and on black. They differ for all kinds of colour vision; the first is kept for our own method."""

MARKERS = "oDs^vP*X"
"""The marker of each colour, by matplotlib's letters."""

DASHES = ((), (5.0, 2.0), (1.5, 1.5), (6.0, 2.0, 1.5, 2.0))
"""Dashes of the lines that share a colour: lengths drawn and left out, in widths of the line."""

KNOWN = {
    "forecast": 0, "all three": 0, "motioncache": 1, "published": 1, "teacache": 2, "flowcache": 3, "fewer steps": 4,
    "dbcache": 5, "firstblockcache": 6, "magcache": 7,
}  # fmt: skip
"""The colour of a group on every page; other groups take the colours that are left."""

REST = 4
"""The colour of all groups for which none is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How a family is drawn.

    Attributes:
        colour, on_dark: the colour on white and on black.
        marker: matplotlib's letter.
        dashes: see `DASHES`.
        accent: whether this is our own method, which is drawn on top and with a thicker line.
    """

    colour: str
    on_dark: str
    marker: str
    dashes: tuple[float, ...]
    accent: bool

    @property
    def hollow(self) -> bool:
        """Whether the marker is an outline: another family has the same colour and the same marker."""
        return bool(self.dashes)


def family_looks(families: Iterable[str]) -> dict[str, Look]:
    """The look of each family, ours first and those of other packages last.

    Variants of a method ("A (published code)", "A without B") share the colour of A.
    """
    names = sorted(dict.fromkeys(families), key=len)  # a method comes before its variants
    colour_of = _colours([_group(name) for name in names])
    members: dict[int, int] = {}
    looks: dict[str, Look] = {}
    for name in names:
        index = colour_of[_group(name)]
        member = members.get(index, 0)
        members[index] = member + 1
        looks[name] = Look(
            colour=COLOURS[index][0],
            on_dark=COLOURS[index][1],
            marker=MARKERS[index],
            dashes=DASHES[member % len(DASHES)],
            accent=index == 0,
        )
    return dict(sorted(looks.items(), key=lambda item: MARKERS.index(item[1].marker)))


def _group(family: str) -> str:
    return re.split(r"\s+(?:\(|with(?:out)? )", family.casefold())[0]


def _colours(groups: list[str]) -> dict[str, int]:
    """An index of `COLOURS` for each group; the first is for our method alone."""
    chosen = {group: KNOWN[group] for group in groups if group in KNOWN}
    left = [index for index in range(1, len(COLOURS)) if index not in chosen.values()]
    for group in groups:
        if group not in chosen:
            chosen[group] = left.pop(0) if left else REST
    return chosen
