"""Scores one dimension with the package `vbench`, in the environment of that; it imports nothing of ours.

Usage: python evaluate.py DIMENSION VIDEOS FULL_INFO OUTPUT DEVICE. VIDEOS is the folder of a suite; OUTPUT is a folder
that gets `DIMENSION_eval_results.json`, as VBench writes it. Without arguments it tries whether `vbench` is imported.
"""

import sys

OPERATORS = ("torchvision::nms", "torchvision::qnms")
"""Compiled operators that torchvision names while it is imported."""


def import_torchvision() -> None:
    """Import it also where its compiled operators don't fit torch.

    The package index has torchvision for CUDA alone. Beside a CPU build of torch its operators cannot be loaded, and
    its import ends at the first that it names. With their names declared it goes on: VBench uses torchvision's
    transforms and models, which are Python. An operator that is called nevertheless raises.
    """
    import torch

    try:
        import torchvision  # pyright: ignore  # noqa: F401
    except RuntimeError as error:
        if not any(name in str(error) for name in OPERATORS):
            raise
        for name in OPERATORS:
            torch.library.define(name, "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def main() -> None:
    del sys.path[0]  # the folder of this file, whose modules could pass for others
    import_torchvision()
    import torch
    from vbench import VBench  # pyright: ignore

    if len(sys.argv) == 1:
        return
    dimension, videos, full_info, output, device = sys.argv[1:]
    vbench = VBench(torch.device(device), full_info, output)
    vbench.evaluate(videos_path=videos, name=dimension, dimension_list=[dimension], local=False)


if __name__ == "__main__":
    main()
