"""Write the table of the paper's videos into docs/speed.md: `python docs/write_speed.py [FILE]`.

FILE is what `motioncache speed setting=paper output=FILE` has written, which becomes docs/speed.json; without it, that
one is read.
"""

import argparse
from pathlib import Path

from motioncache_eval.paper import paper_table, read_paper

ROOT = Path(__file__).resolve().parent
FIGURES, PAGE = ROOT / "speed.json", ROOT / "speed.md"
BEGIN, END = "<!-- paper: begin -->", "<!-- paper: end -->"


def page() -> str:
    """The page with its table."""
    before, rest = PAGE.read_text().split(BEGIN)
    table = "\n".join(paper_table(*read_paper(FIGURES)).markdown())
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path)
    file: Path | None = parser.parse_args().file
    if file is not None:
        FIGURES.write_text(file.read_text())
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
