"""Scores one dimension with the package `vbench`, in the environment of that; it imports nothing of ours.

Usage: python evaluate.py DIMENSION VIDEOS FULL_INFO OUTPUT DEVICE. VIDEOS is the folder of a suite; OUTPUT is a folder
that gets `DIMENSION_eval_results.json`, as VBench writes it.
"""

import sys


def main() -> None:
    del sys.path[0]  # the folder of this file, whose modules could pass for others
    import torch
    from vbench import VBench  # pyright: ignore

    dimension, videos, full_info, output, device = sys.argv[1:]
    vbench = VBench(torch.device(device), full_info, output)
    vbench.evaluate(videos_path=videos, name=dimension, dimension_list=[dimension], local=False)


if __name__ == "__main__":
    main()
