"""Finds what others have hung on the modules of a model, which a cache would pass by or feed a part of the tokens."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import MethodType
from typing import Any, cast

from torch import nn

from motioncache.errors import MotionCacheError

_HARMLESS = ("accelerate.hooks", "diffusers.hooks.group_offloading", "diffusers.hooks.layerwise_casting")
"""Modules whose hooks only move weights to a device or cast them."""

_WRAPPERS = ("accelerate.hooks", "diffusers.hooks.hooks")
"""Modules whose functions call the forward that was there before them."""


@dataclass(frozen=True, slots=True)
class PackedHook:
    """A forward hook that knows what a cache passes to a module: the due tokens of several chunks side by side."""

    hook: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.hook(*args, **kwargs)


@dataclass(frozen=True, slots=True)
class Onlooker:
    """Stands in for the forward of a whole model, and calls it as it is called.

    Args:
        forward: what was there before.
        look: gets `forward` and the arguments of a call; it calls `forward` with them, and returns the result.
    """

    forward: Callable[..., Any]
    look: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.look(self.forward, *args, **kwargs)


Forwards = Mapping[nn.Module, object]
"""The forwards that a cache itself has put into modules."""


def check_modules(model: nn.Module, forwards: Forwards, compilable: Collection[nn.Module] = ()) -> None:
    """Refuse a model with compiled parts, and one with hooks or forwards of others in its modules.

    Offloading and casting hooks are fine, and so are PyTorch's hooks on the model as a whole, which see what they
    always do. This runs before every video and after every callback: a module on which nothing hangs costs three
    look-ups.

    Args:
        forwards: what a cache has put in place of forwards; no other is accepted.
        compilable: modules that may be compiled.

    Raises:
        MotionCacheError: with what was found, and where.
    """
    instead = "Compile the whole transformer, or its blocks" if compilable else "Use a model that is not compiled"
    for module in model.modules():
        own = vars(module)
        if own.get("_compiled_call_impl") is not None and module not in compilable:
            raise MotionCacheError(
                f"{_place(model, module)} is compiled. The cache passes it a different number of tokens at "
                f"every step, for each of which it would be compiled anew. {instead}"
            )
        if module is not model and (own["_forward_hooks"] or own["_forward_pre_hooks"]):
            _check_torch_hooks(model, module)
        if "forward" in own or "_hf_hook" in own or "_diffusers_hook" in own or module in forwards:
            _check_library_hooks(model, module)
            _check_forward(model, module, forwards.get(module))


def _check_torch_hooks(model: nn.Module, module: nn.Module) -> None:
    own = vars(module)
    hooks: list[object] = [*own["_forward_pre_hooks"].values(), *own["_forward_hooks"].values()]
    for hook in hooks:
        if not isinstance(hook, PackedHook):
            raise MotionCacheError(
                f"{_place(model, module)} has the forward hook {_name(hook)}. A cache does not call every module, "
                "and passes those it calls the tokens due only. Remove the hook, or register it as "
                "motioncache.foreign.PackedHook(hook) if it knows that"
            )


def _check_library_hooks(model: nn.Module, module: nn.Module) -> None:
    for hook in _library_hooks(module):
        if type(hook).__module__ not in _HARMLESS:
            raise MotionCacheError(
                f"{_place(model, module)} has a {type(hook).__name__} ({type(hook).__module__}), which is neither "
                "offloading nor casting: another cache or method works there. Remove it first"
            )


def _library_hooks(module: nn.Module) -> Iterator[object]:
    """The hooks of accelerate and diffusers."""
    hook = getattr(module, "_hf_hook", None)
    if hook is not None:
        yield hook
        yield from getattr(hook, "hooks", ())  # those of accelerate's SequentialHook
    registry: Any = getattr(module, "_diffusers_hook", None)
    yield from registry.hooks.values() if registry is not None else ()


def _check_forward(model: nn.Module, module: nn.Module, put: object) -> None:
    """Every forward has to be a hook's wrapper, or what the cache has put there, or else the class's own."""
    found = [value for value in map(read_place, forward_places(module)) if value is not None]
    if module is model:  # the whole model is called as it always is
        found = [_looked_on(value) for value in found]
    for value in found:
        own = is_own_forward(module, value)
        if not (_is_wrapper(value) or own or value is put):
            raise MotionCacheError(
                f"the forward of {_place(model, module)} has been replaced by {_name(value)}: by the cache of "
                "another pipeline that shares it, another cache, a compiler or a patch. Undo that first"
            )
        if own and put is not None:
            raise MotionCacheError(
                f"{_place(model, module)} no longer runs the cache: something has put its own forward back. Call "
                "disable_cache and enable_cache again"
            )


def _looked_on(value: object) -> object:
    """What onlookers call."""
    while isinstance(value, Onlooker):
        value = value.forward
    return value


def forward_places(module: nn.Module) -> list[tuple[object, str]]:
    """All attributes that may hold a forward of this module: its own, accelerate's, and diffusers' hook registry's."""
    places: list[tuple[object, str]] = [(module, "forward"), (module, "_old_forward")]
    registry: Any = getattr(module, "_diffusers_hook", None)
    for reference in registry._fn_refs if registry is not None else ():
        places += [(reference, "forward"), (reference, "original_forward")]
    return places


def read_place(place: tuple[object, str]) -> object:
    """What an attribute holds, None without it."""
    return getattr(*place, None)


def is_own_forward(module: nn.Module, value: object) -> bool:
    """Whether a value is the forward of the module's class, bound to it."""
    return isinstance(value, MethodType) and value.__func__ is type(module).forward


def _is_wrapper(value: object) -> bool:
    return isinstance(value, partial) and getattr(value.func, "__module__", None) in (*_WRAPPERS, *_HARMLESS)


def _place(model: nn.Module, module: nn.Module) -> str:
    """Where a module is, for a sentence."""
    modules: list[tuple[str, nn.Module]] = [*cast("Any", model).named_modules()]
    name = next((name for name, other in modules if other is module), "")
    return f"{type(module).__name__} `{name}`" if name else f"the {type(module).__name__}"


def _name(value: object) -> str:
    """A function or an object as its author knows it."""
    name = getattr(value, "__qualname__", None) or type(value).__name__
    return f"{getattr(value, '__module__', None) or type(value).__module__}.{name}"
