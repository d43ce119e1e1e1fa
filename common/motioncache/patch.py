"""Reversible changes to single instances: to methods of a pipeline, and to forwards *beneath* the hooks that wrap them.

Offloading (accelerate and diffusers) wraps `module.forward` and stores the function that was there before. A forward
that is assigned on top of such a wrapper turns it off. So our forward replaces the innermost function, and offloading
works whether it is enabled before or after the cache.

A copy or a pickle of a patched instance comes without the patches: they belong to one pipeline.
"""

from collections.abc import Callable
from functools import partial, wraps
from types import MethodType
from typing import Any, cast

from torch import nn

from motioncache.errors import MotionCacheError
from motioncache.foreign import forward_places, is_own_forward, read_place
from motioncache.stand_in import MISSING, StandIn, without_stand_ins


def _create(cls: type, *arguments: Any) -> object:
    """An instance of a class, without its `__init__`; pickle insists that its own function gets the object's class."""
    return cls.__new__(cls, *arguments)


class Patch:
    """Changes to instances, which `undo` reverts exactly.

    Attributes:
        forwards: what runs in place of the forwards of modules.
    """

    def __init__(self) -> None:
        self.forwards: dict[nn.Module, StandIn] = {}
        self._attributes: list[tuple[object, str, object]] = []
        self._classes: list[tuple[object, type, type]] = []

    def set_method(self, instance: object, name: str, function: Callable[..., Any]) -> None:
        """Set a method of one instance, in place of that of its class."""
        before = vars(instance).get(name, MISSING)
        self._attributes.append((instance, name, before))
        setattr(instance, name, StandIn(instance, name, before, function))

    def set_value(self, instance: object, name: str, value: object) -> None:
        """Set an attribute of one instance; what somebody has set since is what `undo` leaves."""
        self._attributes = [one for one in self._attributes if one[0] is not instance or one[1] != name]
        self._attributes.append((instance, name, vars(instance).get(name, MISSING)))
        setattr(instance, name, value)

    def is_set(self, instance: object, name: str) -> bool:
        """Whether an attribute has been set here."""
        return any(one is instance and other == name for one, other, _ in self._attributes)

    def set_forward(self, module: nn.Module, forward: Callable[..., Any]) -> None:
        """Let `module` run `forward` in place of its class's own, inside all of its hooks."""
        places = [place for place in forward_places(module) if is_own_forward(module, read_place(place))]
        if not places:
            raise MotionCacheError(
                f"the forward of this {type(module).__name__} has been replaced already: by the cache of another "
                "pipeline that shares it, or by something that is neither an accelerate nor a diffusers hook; undo "
                "that first"
            )
        stand_in = StandIn(module, "forward", MISSING, forward)
        for holder, name in places:
            setattr(holder, name, stand_in)
        self.forwards[module] = stand_in

    def set_call(self, instance: Any, call: Callable[..., Any]) -> None:
        """Let a call of `instance` run `call(original, *args, **kwargs)`.

        Python looks `__call__` up on the class, so this one instance gets a subclass of its own, of the same name.
        """
        original = cast("type[Any]", type(instance))

        @wraps(original.__call__)
        def called(self: Any, *args: Any, **kwargs: Any) -> Any:
            if self is not instance:  # a copy
                return original.__call__(self, *args, **kwargs)
            return call(partial(original.__call__, self), *args, **kwargs)

        def reduced(self: Any, protocol: Any) -> Any:
            reduce: Any = original.__reduce_ex__
            _, (_, *arguments), *state = reduce(self, protocol)
            if self is instance:
                state[0] = without_stand_ins(vars(cast("object", self)))
            return _create, (original, *arguments), *state

        names = {"__module__": original.__module__, "__qualname__": original.__qualname__, "__doc__": original.__doc__}
        own = type(original.__name__, (original,), {**names, "__call__": called, "__reduce_ex__": reduced})
        instance.__class__ = own
        self._classes.append((instance, own, original))

    def undo(self) -> None:
        """Revert all changes, even if hooks have been added or removed since."""
        for instance, own, original in self._classes:
            if type(instance) is own:
                instance.__class__ = original  # pyright: ignore[reportAttributeAccessIssue]
        for module, forward in self.forwards.items():
            for place in forward_places(module):
                if read_place(place) is forward:
                    _restore(module, place)
        for instance, name, before in reversed(self._attributes):
            if before is MISSING:
                vars(instance).pop(name, None)
            else:
                setattr(instance, name, before)
        self.forwards = {}
        self._classes.clear()
        self._attributes.clear()


def _restore(module: nn.Module, place: tuple[object, str]) -> None:
    if place == (module, "forward"):
        del module.__dict__["forward"]
    else:
        setattr(*place, MethodType(type(module).forward, module))
