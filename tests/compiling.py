"""What the tests of compiled transformers share."""

import os
from typing import Any

import torch

BACKEND = os.environ.get("MOTIONCACHE_COMPILER", "aot_eager")
"""`inductor` takes minutes; it needs a C++ compiler."""


def wrap(pipeline: Any) -> None:
    pipeline.transformer = torch.compile(pipeline.transformer, backend=BACKEND)
