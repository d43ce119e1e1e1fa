"""Draws prompts from the grammar of the captions, once; the files are part of the repository.

`python benchmarks/draw_prompts.py benchmark > benchmarks/prompts.txt`: the validation split, in no training clip.
`python benchmarks/draw_prompts.py model > benchmarks/model_prompts.txt`: more of the same split.
`python benchmarks/draw_prompts.py ranking > benchmarks/ranking_prompts.txt`: a few of it, to record.
`python benchmarks/draw_prompts.py still > benchmarks/scenes/still.txt`, and so `slow`, `fast`, `pan`: one kind each.
`python benchmarks/draw_prompts.py calibration > benchmarks/calibration_prompts.txt`: the training split.
"""

import sys

import numpy as np

from motioncache_eval.scenes import draw_split

COUNTS = {
    "benchmark": {"mover": 14, "still": 4, "two": 3, "pan": 3},
    "model": {"mover": 40, "still": 5, "two": 9, "pan": 10},
    "ranking": {"mover": 4, "still": 2, "two": 1, "pan": 1},
    "still": {"still": 4},
    "slow": {"mover": 4},
    "fast": {"mover": 4},
    "pan": {"pan": 4},
    "calibration": {"mover": 4, "still": 1, "pan": 1},
}
SPEEDS = {"slow": "slowly", "fast": "quickly"}
"""Of the movers, where a file asks for one."""


def draw(name: str) -> list[str]:
    """The captions of one file, without repetitions."""
    rng = np.random.default_rng(2605)
    drawn: list[str] = []
    for kind, count in COUNTS[name].items():
        captions: set[str] = set()
        while len(captions) < count:
            scene = draw_split(rng, held_out=name != "calibration", kind=kind)
            if SPEEDS.get(name) in (None, scene.movers[0].speed):
                captions.add(scene.caption)
        drawn += sorted(captions)
    return drawn


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in COUNTS:
        sys.exit(__doc__)
    print("\n".join(draw(sys.argv[1])))
