"""`motioncache studio`: a page in the browser that makes videos, shows them while they are made, and compares them."""

from collections.abc import Sequence
from pathlib import Path

from motioncache.config import parse_overrides, structured
from motioncache.extras import require_extra
from motioncache_eval.cli.keys import describe_keys
from motioncache_eval.cli.options import HELP
from motioncache_eval.command import check_output_folder
from motioncache_eval.studio.config import StudioConfig


def main(arguments: list[str]) -> int:
    """Check everything, and serve until an interrupt."""
    if set(HELP) & set(arguments):
        print(f"usage: motioncache studio [key=value ...]\n\n{__doc__}\n\n{describe_keys(StudioConfig)}")
        return 0
    config = read_config(arguments)
    require_extra("gradio", "the studio")
    require_extra("av", "writing videos")
    check_output_folder(Path(config.output))
    from motioncache_eval.studio.app import serve
    from motioncache_eval.studio.devices import devices_of
    from motioncache_eval.studio.models import Models
    from motioncache_eval.studio.studio import Studio

    models = Models(config.models, config.settings)
    studio = Studio(models, Path(config.output), devices=devices_of(config), most=config.queue)
    print(f"the studio is at http://{config.host}:{config.port}; Ctrl-C ends it", flush=True)
    serve(studio, config)
    return 0


def read_config(arguments: Sequence[str]) -> StudioConfig:
    """The settings of a command line."""
    return structured(StudioConfig, parse_overrides(arguments, [StudioConfig]), where="overrides")
