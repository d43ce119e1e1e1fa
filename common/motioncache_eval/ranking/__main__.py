"""How well does a motion proxy rank tokens by residual change? `python -m motioncache_eval.ranking RECORDINGS`.

At each denoise step of a chunk, every proxy of `motioncache_eval.ranking.proxies` ranks the tokens of the chunk, and so
does their residual change. Three measures compare the two rankings. Each is shown beside what a random order scores:

- Spearman: correlation of the ranks; 0 for a random order.
- AUC: chance that a token of the quarter that changes most is ranked above one of the others; 0.5 for a random order.
- NDCG: the gain of a token is its residual change, discounted by log2(rank + 1), over that of the best order. What a
  random order scores depends on how even the changes are, and is often above 0.9.

The recorded runs compute everything, so a proxy is at its best here: a cache has only older values for some proxies.

Two densities over all tokens show how the residual differs from one denoise step to the next, and from one latent frame
to the next. Reuse over steps makes the first error; a method that filled in frames from their neighbours would make the
second.

Writes `ranking.json`, `ranking.md`, `ranking.png` and `density.png` to the folder of `--output`.
"""

import argparse
import sys
from pathlib import Path

from motioncache.errors import MotionCacheError
from motioncache_eval.command import run_command
from motioncache_eval.ranking.rank import rank
from motioncache_eval.ranking.recording import Recording
from motioncache_eval.ranking.report import draw_density, draw_measures, table, write_figures


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m motioncache_eval.ranking",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recordings", type=Path, help="folder of recordings, one .npz per video")
    parser.add_argument("--output", type=Path, required=True, help="folder for the table and the plots")
    options = parser.parse_args(arguments)
    return run_command(lambda: run(options.recordings, options.output))


def run(folder: Path, output: Path) -> int:
    """Read the recordings of a folder, rank their tokens, and write the report."""
    files = sorted(folder.glob("*.npz"))
    if not files:
        raise MotionCacheError(f"{folder} holds no recordings: make some with a model's `record` command")
    recordings = [Recording.load(file) for file in files]
    ranking = rank(recordings)
    output.mkdir(parents=True, exist_ok=True)
    write_figures(output / "ranking.json", ranking)
    text = table(ranking)
    (output / "ranking.md").write_text(text)
    draw_measures(output / "ranking.png", ranking)
    draw_density(output / "density.png", recordings)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
