"""Reversible changes to single instances: methods of a pipeline, and forwards *beneath* whatever hooks wrap them.

Offloading (accelerate and diffusers) wraps `module.forward` and keeps the function that was there. A forward that is
assigned on top of such a wrapper silences it, so ours goes to the innermost place, and offloading works whether it is
enabled before or after the cache.
"""

from collections.abc import Callable
from types import MethodType
from typing import Any

from torch import nn

_MISSING = object()


class InstancePatch:
    """Attributes set on instances; `undo` puts back exactly what was there."""

    def __init__(self) -> None:
        self._before: list[tuple[object, str, object]] = []

    def set(self, instance: object, name: str, value: object) -> None:
        self._before.append((instance, name, vars(instance).get(name, _MISSING)))
        setattr(instance, name, value)

    def undo(self) -> None:
        for instance, name, before in reversed(self._before):
            if before is _MISSING:
                delattr(instance, name)
            else:
                setattr(instance, name, before)
        self._before.clear()


def replace_innermost_forward(module: nn.Module, forward: Callable[..., Any]) -> None:
    """Run `forward(*args)` in place of the class's own forward, inside all hooks of `module`."""
    own = _is_class_forward(module)
    places = [place for place in _places(module) if own(_read(place))]
    if not places:
        raise RuntimeError(
            f"the forward of {type(module).__name__} has been replaced by something that is neither an accelerate nor a "
            "diffusers hook; remove it before enabling the cache"
        )
    for place in places:
        _write(place, forward)


def restore_innermost_forward(module: nn.Module, forward: Callable[..., Any]) -> None:
    """Undo `replace_innermost_forward`, whatever hooks have come or gone since."""
    for place in _places(module):
        if _read(place) is forward:
            if place == (module, "forward"):
                del module.__dict__["forward"]
            else:
                _write(place, MethodType(type(module).forward, module))


def _places(module: nn.Module) -> list[tuple[object, str]]:
    """Everywhere a forward of this module may be kept: on itself, by accelerate, by diffusers' hook registry."""
    places: list[tuple[object, str]] = [(module, "forward"), (module, "_old_forward")]
    registry = getattr(module, "_diffusers_hook", None)
    for reference in registry._fn_refs if registry is not None else ():
        places += [(reference, "forward"), (reference, "original_forward")]
    return places


def _read(place: tuple[object, str]) -> object:
    holder, name = place
    return getattr(holder, name, None) if name == "forward" else vars(holder).get(name)


def _write(place: tuple[object, str], value: object) -> None:
    setattr(place[0], place[1], value)


def _is_class_forward(module: nn.Module) -> Callable[[object], bool]:
    return lambda value: isinstance(value, MethodType) and value.__func__ is type(module).forward
