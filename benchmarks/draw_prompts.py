"""Draws prompts from the grammar of the captions, once; the files are part of the repository.

`python benchmarks/draw_prompts.py benchmark > benchmarks/prompts.txt` draws from the validation split, of which no clip
was trained on. `model > benchmarks/model_prompts.txt` draws more of it, and `ranking > benchmarks/ranking_prompts.txt`
a few, to record. `still > benchmarks/scenes/still.txt` draws scenes of one kind, and so do `slow`, `fast` and `pan`.
`calibration > benchmarks/calibration_prompts.txt` draws from the training split.
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
"""The movers' speed, for the files that ask for one."""


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
