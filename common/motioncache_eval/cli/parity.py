"""`motioncache parity MODEL FOLDER`: compare with golden files of the official code, in the repository."""

from importlib import import_module

from motioncache.errors import MotionCacheError
from motioncache_eval.cli.options import HELP
from motioncache_eval.jobs import find_model


def main(arguments: list[str]) -> int:
    """Run the check of the model's package; it is no part of the installed one."""
    if set(HELP) & set(arguments) or len(arguments) != 2:
        print(f"usage: motioncache parity MODEL FOLDER\n\n{__doc__}\nFOLDER holds the golden files.")
        return 0 if set(HELP) & set(arguments) else 2
    name, folder = arguments
    package = type(find_model(name)).__module__.partition(".")[0]
    module = f"{package}.parity.__main__"
    try:
        parity = import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise MotionCacheError(
            f"the golden checks of {name} are part of the repository and not of the installed package: clone it, and "
            "run pip install -e . there"
        ) from None
    return parity.main([folder])
