"""What the documents tell a reader to run: fenced blocks, and commands within sentences."""

import re
import shlex
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

PATTERNS = ("README.md", "CONTRIBUTING.md", "docs/*.md", "*/README.md", "MotionCache4*/motioncache-tiny/README.md")

PAGES = sorted({path for pattern in PATTERNS for path in ROOT.glob(pattern)})

NEEDS = (
    "official checkpoint",
    "GPU",
    "VBench",
    "minutes",
    "hours",
    "days",
    "a cluster",
    "a sketch",
    "a running studio",
)
"""Why a block may be marked as parsed only: `<!-- parsed only: official checkpoint, GPU -->` on the line above it."""

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[^\n]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- parsed only: ([^\n]+) -->\s*\Z")
_OPTIONAL = re.compile(r"\[[^\[\]]*(?:\.\.\.|[A-Z]{3,})[^\[\]]*\]")
_INLINE = re.compile(r"(?<!`)`((?:[A-Z_]+=\S+\s+)?(?:python|bash|motioncache|make|pip)\s[^`]+)`(?!`)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block.

    Attributes:
        where: page and line.
        needs: why it is parsed only; None if it is run.
    """

    where: str
    language: str
    text: str
    needs: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command line, without variables in front of it, comments, and optional parts such as `[key=value ...]`."""

    where: str
    words: tuple[str, ...]
    needs: str | None = None


def read_blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text()
    blocks: list[Block] = []
    for found in _FENCE.finditer(text):
        mark = _MARK.search(text[: found.start()])
        line = text.count("\n", 0, found.start()) + 1
        blocks.append(
            Block(
                where=f"{page.relative_to(ROOT)}:{line}",
                language=found["language"],
                text=textwrap.dedent(found["text"]),
                needs=mark[1] if mark else None,
            )
        )
    return blocks


def read_commands(block: Block) -> list[Command]:
    """The command lines of a block of bash."""
    lines = block.text.replace("\\\n", " ").splitlines()
    words = [_words(line) for line in lines]
    return [Command(where=block.where, words=one, needs=block.needs) for one in words if one]


def read_inline_commands(page: Path) -> list[Command]:
    """The commands within sentences and tables."""
    text = _FENCE.sub("", page.read_text())
    where = str(page.relative_to(ROOT))
    return [Command(where=where, words=_words(" ".join(found.split()))) for found in _INLINE.findall(text)]


def _words(line: str) -> tuple[str, ...]:
    words = shlex.split(_OPTIONAL.sub("", line), comments=True)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    return tuple(words)
