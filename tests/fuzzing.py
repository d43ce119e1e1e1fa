"""What the fuzz tests share: nonsense, how much of it, and the check of a refusal."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from motioncache.errors import MotionCacheError

ROUNDS = int(os.environ.get("MOTIONCACHE_FUZZ", "1"))
"""Times the usual number of random inputs."""

HUGE = 10**400
NONSENSE: list[Any] = [
    *(None, True, False, -1, 0, 1, 2, 7, 0.5, -0.5, 1e308, 1e999, -1e999, math.nan, HUGE, -HUGE, 10**5000),
    *("", "abc", "1e999", "nan", "0.5", "-1", "true", "null", "token", "${a}", "${oc.env:HOME}", "???", "\0"),
    *("a" * 5000, [], {}, (), [[1]], [1, "a"], (1, "a"), (1,), (2, 1), (0.5, 1), (math.nan, 1), (True, 1), [None]),
    *({"a": 1}, {1: 2}, b"1", {1, 2}, object(), object, Path("a"), 1j, np.float32(0.5), np.zeros(2), math.inf),
]

IN_JSON: list[Any] = [
    *(None, True, -1, 0, 1, 1.5, 1e-320, 1e300, math.inf, math.nan, HUGE, "", "1.0", [], {}, [1], [[1]], [1.0] * 3),
]

OVERRIDES = [
    *("", " ", "abc", "null", "true", "-1", "0", "1", "2", "7", "17", "32", "64", "97", "0.5", "-0.5", "1e3", "1e999"),
    *("-1e999", ".nan", ".inf", "9" * 5000, "[]", "{}", "[1]", "[[1]]", "{a: 1}", "[a, b]", "[null]", '"', "'", "["),
    *("{", "]", ":", "- 1", "${", "${missing}", "${oc.env:HOME}", "${seed}", "???", "!!python/object:a", "&a [*a]"),
    *("*a", "cpu", "cuda", "cuda:1", "cuda:x", "cpu:x", "[cpu]", "[cpu:x]", "float32", "float64", "2024-01-01"),
    *("0x10", "1_000", "~", "\0", "\t", "\u2028", "a\nb", "狐", "a" * 5000, "1" + "0" * 400, "[" * 2000, "<<: 1"),
]
"""Values on the command line."""


def made_or_none(make: Callable[..., Any], *given: Any, **options: Any) -> Any:
    """What is made, or None for what is refused with an error of ours, of one line."""
    try:
        return make(*given, **options)
    except MotionCacheError as error:
        message = str(error)
    assert len(message.splitlines()) == 1
    assert len(message) < 1000
    return None
