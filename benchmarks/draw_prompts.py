"""Draws the benchmark's prompts: captions of the validation split, which no training clip ever had.

Run once: `python benchmarks/draw_prompts.py > benchmarks/prompts.txt`.
"""

import numpy as np
from motioncache_eval.scenes import draw_split

COUNTS = {"mover": 14, "still": 4, "two": 3, "pan": 3}

if __name__ == "__main__":
    rng = np.random.default_rng(2605)
    for kind, count in COUNTS.items():
        captions: set[str] = set()
        while len(captions) < count:
            captions.add(draw_split(rng, held_out=True, kind=kind).caption)
        print("\n".join(sorted(captions)))
