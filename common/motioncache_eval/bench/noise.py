"""The noise that videos are made from, on disk: drawn once for a prompt, then the same for every method."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import load_file, save_file

from motioncache.errors import MotionCacheError
from motioncache.whole_file import whole_file


@contextmanager
def noise_from(path: Path) -> Iterator[None]:
    """Take all noise that the block draws from a file, draw by draw; draws that it lacks are added to it.

    The functions of torch are replaced, as not every pipeline takes noise: diffusers' SkyReels-V2 draws new noise for
    each window, and raises for `latents`.

    Raises:
        MotionCacheError: for a file that cannot be read, or that holds noise of another shape than is drawn.
    """
    noise = _read(path)
    on_disk, drawn = len(noise), 0

    def recorded(draw: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def from_disk(*args: Any, **kwargs: Any) -> torch.Tensor:
            nonlocal drawn
            fresh, key = draw(*args, **kwargs), f"{drawn:03d}"
            drawn += 1
            stored = noise.setdefault(key, fresh.detach().cpu().clone())  # pipelines change theirs in place
            if stored.shape != fresh.shape:
                raise MotionCacheError(
                    f"{path} holds noise of the shape {tuple(stored.shape)}, and {tuple(fresh.shape)} is drawn: it was "
                    f"made with other settings; {_to_delete(path)}"
                )
            return fresh.copy_(stored)

        return from_disk

    like = patch.object(torch, "randn_like", recorded(torch.randn_like))
    with patch.object(torch, "randn", recorded(torch.randn)), like:
        yield
    if len(noise) > on_disk:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temporary:
            save_file({key: tensor.contiguous() for key, tensor in noise.items()}, temporary)


def noise_hash(path: Path) -> str:
    """Short hash of the noise in a file."""
    digest = hashlib.sha256()
    for _, tensor in sorted(_read(path).items()):
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


def _read(path: Path) -> dict[str, torch.Tensor]:
    if not path.exists():
        return {}
    try:
        return load_file(path)
    except Exception as error:
        raise MotionCacheError(f"{path} holds no noise: {error}; {_to_delete(path)}") from None


def _to_delete(path: Path) -> str:
    """The files to delete where a prompt's noise cannot be used; no other prompt has to be measured again."""
    cells = path.parents[1] / "cells" / "*" / f"{path.stem}.json"
    return f"delete it and {cells}, the results that were made from it"
