"""torch.compile on a cached model: what the user has compiled is applied to what lies between attentions.

A compiled model would be compiled anew for every number of tokens that a cache passes it. So the cache calls the model
as it is, and compiles the functions of rows alone, once for all numbers, with the user's backend, mode and options.
"""

import inspect
from collections.abc import Callable
from typing import Any, cast

import torch

Backend = Callable[..., Any]


def uncompiled(model: Any) -> Any:
    """The model that `torch.compile(model)` has wrapped; any other as it is."""
    return model._orig_mod if type(model).__name__ == "OptimizedModule" else model  # importing the class takes seconds


def backend_of(compiled: Any) -> Backend:
    """What compiles: of a wrapped model, or of the call of a module on which `compile` was called."""
    from torch._dynamo.eval_frame import innermost_backend

    context = inspect.getclosurevars(compiled.get_compiler_config).nonlocals["self"]
    return innermost_backend(context.callback)


def compile_function(function: Callable[..., Any], backend: Backend) -> Callable[..., Any]:
    """A function of tensors, compiled for all their sizes."""
    return cast("Any", torch).compile(function, backend=backend, dynamic=True)
