"""Refuses a transformer on which something else is at work that a cache would pass by, and says what and where."""

from collections.abc import Iterable
from typing import Any

from motioncache.errors import MotionCacheError


def check_class(transformer: Any, expected: type) -> None:
    """Refuse a transformer that is compiled, or of another class."""
    if type(transformer).__name__ == "OptimizedModule":
        raise MotionCacheError(
            "the transformer is compiled. The cache passes it a different number of tokens at every step, for each of "
            "which it would be compiled anew. Enable the cache on a pipeline that is not compiled"
        )
    if not isinstance(transformer, expected):
        raise MotionCacheError(
            f"the pipeline's transformer is a {type(transformer).__name__}; use a pipeline with a {expected.__name__}"
        )


def check_other_caches(transformer: Any, instead: str) -> None:
    """Refuse what is set on the transformer as a whole.

    Args:
        instead: what to do where diffusers divides tokens among processes.
    """
    other = getattr(transformer, "_cache_config", None)
    if other is not None:
        name = type(other).__name__.removesuffix("Config")
        raise MotionCacheError(
            f"another cache is on for this transformer: {name} of diffusers. Call transformer.disable_cache() first"
        )
    if getattr(transformer, "_is_cached", False):
        raise MotionCacheError(
            "another cache is on for this transformer: cache-dit. Call cache_dit.disable_cache(pipeline) first"
        )
    if getattr(transformer, "_parallel_config", None) is not None:
        raise MotionCacheError(
            f"transformer.enable_parallelism is on, which divides tokens among processes, past the cache: {instead}"
        )


def check_forwards(stood_in_for: Iterable[tuple[str, Any, Any]]) -> None:
    """Refuse modules with a forward of their own.

    Args:
        stood_in_for: name, module and expected class wherever the cache does something in place of a forward.
    """
    for name, module, expected in stood_in_for:
        if _forward(module) is not expected.forward or expected.forward.__module__ != expected.__module__:
            raise MotionCacheError(
                f"`{name}` is a {type(module).__name__} with a forward of its own, which the cache would pass by; it "
                f"stands in for a {expected.__name__} only"
            )


def check_attention(name: str, attention: Any, expected: Any, processor: Any, instead: str) -> None:
    """Refuse an attention with another forward or processor than those that the cache stands in for.

    Args:
        expected, processor: the classes of both.
        instead: as above.
    """
    if _forward(attention) is not expected.forward:
        raise MotionCacheError(
            f"`{name}` is a {type(attention).__name__} with a forward of its own, which the cache would pass by"
        )
    call = type(attention.processor).__call__
    if call is not processor.__call__ or call.__module__ != processor.__module__:
        raise MotionCacheError(
            f"`{name}` has the attention processor {type(attention.processor).__name__}, which the cache would pass "
            "by: it runs attention itself, on the tokens that are due. Call transformer.set_attn_processor("
            f"{processor.__name__}()); for another kernel use transformer.set_attention_backend"
        )
    if attention.processor._parallel_config is not None:
        raise MotionCacheError(f"the processor of `{name}` divides tokens among processes, past the cache: {instead}")


def _forward(module: object) -> object:
    """The forward of a module's class."""
    return getattr(type(module), "forward", None)
