"""Packages that only some uses need: where one is missing, the error names it and the extra that brings it."""

from importlib import import_module

from motioncache.errors import MotionCacheError

PACKAGES = {
    "av": ("PyAV", "video"),
    "matplotlib": ("matplotlib", "video"),
    "bs4": ("beautifulsoup4", "magi"),
    "sentencepiece": ("sentencepiece", "magi"),
    "google.protobuf": ("protobuf", "magi"),
    "cache_dit": ("cache-dit", "baselines"),
    "hicache_pp": ("hicache-pp", "baselines"),
    "ray": ("Ray", "cluster"),
}
"""By the module that is imported: the package's name, and the extra of motioncache that installs it."""


def require_extra(module: str, purpose: str) -> None:
    """Refuse what needs a package that is not installed; where this returns, `module` can be imported.

    Args:
        module: one of `PACKAGES`.
        purpose: what needs it, as the subject of the error's sentence: "writing videos".

    Raises:
        MotionCacheError: if the package is missing. One that is installed and does not load raises its own error.
    """
    package, extra = PACKAGES[module]
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise  # the package is there, and something that it needs is not
        raise MotionCacheError(f"{purpose} needs {package}: pip install 'motioncache[{extra}]'") from None
