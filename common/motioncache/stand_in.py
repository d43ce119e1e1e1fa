"""A function in place of a method of one instance."""

import copy
from collections.abc import Callable, Mapping
from inspect import Signature, signature
from types import MethodType
from typing import Any

MISSING = object()


class StandIn:
    """A function in place of a method of one instance; a copy of the instance gets what was there before."""

    __slots__ = ("_function", "_instance", "_name", "before")

    def __init__(self, instance: object, name: str, before: object, function: Callable[..., Any]) -> None:
        self._instance = instance
        self._name = name
        self.before = before
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    def __get__(self, instance: object, owner: object = None) -> "StandIn":
        """It is bound already, as a method that is read from an instance; cache-dit binds what it puts back."""
        return self

    @property
    def __signature__(self) -> Signature:
        return signature(self._function)

    def __deepcopy__(self, memo: dict[int, Any]) -> object:
        if self.before is not MISSING:
            return copy.deepcopy(self.before, memo)
        instance = memo.get(id(self._instance))
        return self if instance is None else _method(instance, self._name)

    def __reduce__(self) -> tuple[Any, ...]:
        before = self.before
        return (_method, (self._instance, self._name)) if before is MISSING else (_same, (before,))


def _method(instance: object, name: str) -> object:
    """A method as the instance's class has it."""
    return MethodType(getattr(type(instance), name), instance)


def _same(value: object) -> object:
    return value


def without_stand_ins(attributes: Mapping[str, object]) -> dict[str, object]:
    """The attributes of an instance as they were before it was patched."""
    before = {name: v.before if isinstance(v, StandIn) else v for name, v in attributes.items()}
    return {name: value for name, value in before.items() if value is not MISSING}
