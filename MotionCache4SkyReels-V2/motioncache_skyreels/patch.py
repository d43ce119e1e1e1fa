"""Reversible changes to single instances: to methods of a pipeline, and to forwards *beneath* the hooks that wrap them.

Offloading (accelerate and diffusers) wraps `module.forward` and stores the function that was there before. A forward
that is assigned on top of such a wrapper turns it off. So our forward replaces the innermost function, and offloading
works whether it is enabled before or after the cache.
"""

from collections.abc import Callable
from functools import partial, wraps
from types import MethodType
from typing import Any

from torch import nn

from motioncache.errors import MotionCacheError

_MISSING = object()


class Patch:
    """Changes to instances, which `undo` reverts exactly."""

    def __init__(self) -> None:
        self._attributes: list[tuple[object, str, object]] = []
        self._forwards: list[tuple[nn.Module, Callable[..., Any]]] = []
        self._classes: list[tuple[object, type, type]] = []

    def set_attribute(self, instance: object, name: str, value: object) -> None:
        """Set an attribute or a method of one instance, in place of that of its class."""
        self._attributes.append((instance, name, vars(instance).get(name, _MISSING)))
        setattr(instance, name, value)

    def set_forward(self, module: nn.Module, forward: Callable[..., Any]) -> None:
        """Let `module` run `forward` in place of its class's own, inside all of its hooks."""
        places = [place for place in _places(module) if _is_own_forward(module, _read(place))]
        if not places:
            raise MotionCacheError(
                f"the forward of this {type(module).__name__} has been replaced already: by the cache of another "
                "pipeline that shares it, or by something that is neither an accelerate nor a diffusers hook; undo "
                "that first"
            )
        for holder, name in places:
            setattr(holder, name, forward)
        self._forwards.append((module, forward))

    def set_call(self, instance: Any, call: Callable[..., Any]) -> None:
        """Let a call of `instance` run `call(original, *args, **kwargs)`.

        Python looks `__call__` up on the class, so this one instance gets a subclass of its own, of the same name.
        """
        original = type(instance)

        @wraps(original.__call__)
        def called(self: Any, *args: Any, **kwargs: Any) -> Any:
            if self is not instance:  # a copy
                return original.__call__(self, *args, **kwargs)
            return call(partial(original.__call__, self), *args, **kwargs)

        names = {"__module__": original.__module__, "__qualname__": original.__qualname__, "__doc__": original.__doc__}
        own = type(original.__name__, (original,), {**names, "__call__": called})
        instance.__class__ = own
        self._classes.append((instance, own, original))

    def undo(self) -> None:
        """Revert all changes, even if hooks have been added or removed since."""
        for instance, own, original in self._classes:
            if type(instance) is own:
                instance.__class__ = original  # pyright: ignore[reportAttributeAccessIssue]
        for module, forward in self._forwards:
            for place in _places(module):
                if _read(place) is forward:
                    _restore(module, place)
        for instance, name, before in reversed(self._attributes):
            if before is _MISSING:
                delattr(instance, name)
            else:
                setattr(instance, name, before)
        self._forwards.clear()
        self._classes.clear()
        self._attributes.clear()


def _places(module: nn.Module) -> list[tuple[object, str]]:
    """All attributes that may hold a forward of this module: its own, accelerate's, and diffusers' hook registry's."""
    places: list[tuple[object, str]] = [(module, "forward"), (module, "_old_forward")]
    registry = getattr(module, "_diffusers_hook", None)
    for reference in registry._fn_refs if registry is not None else ():
        places += [(reference, "forward"), (reference, "original_forward")]
    return places


def _read(place: tuple[object, str]) -> object:
    return getattr(*place, None)


def _is_own_forward(module: nn.Module, value: object) -> bool:
    return isinstance(value, MethodType) and value.__func__ is type(module).forward


def _restore(module: nn.Module, place: tuple[object, str]) -> None:
    if place == (module, "forward"):
        del module.__dict__["forward"]
    else:
        setattr(*place, MethodType(type(module).forward, module))
