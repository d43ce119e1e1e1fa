"""What the wheel has to do without its extras: `python tests/base_install.py MODEL [--hide]`, in a process of its own.

MODEL is the folder of the shipped SkyReels-V2 model. With `--hide` what the extras install cannot be imported, nor can
what stays in the repository. Prints where the package was imported from.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import motioncache
from motioncache.extras import PACKAGES

IN_WHEEL = (
    "motioncache", "motioncache_diffusers", "motioncache_eval", "motioncache_skyreels", "motioncache_magi",
    "motioncache_helios",
)  # fmt: skip

ON_GRADIO = tuple(f"motioncache_eval.studio.{name}" for name in ("app", "interface", "looks", "page"))
"""Written in Gradio's terms from top to bottom; the command asks for the extra before it imports them."""


def hide() -> None:
    """From here on, an import of these says that there is no such module."""
    for module in (*PACKAGES, "motioncache_train"):
        assert module not in sys.modules, module
        sys.modules[module] = None  # pyright: ignore[reportArgumentType]


def check_imports() -> None:
    """Every module can be imported, also those that need an extra when they are used, but for the studio's page."""
    for package in IN_WHEEL:
        path = import_module(package).__path__
        for module in walk_packages(path, f"{package}."):
            if module.name not in ON_GRADIO:
                import_module(module.name)


def check_presets(model: Path) -> None:
    """Every preset samples a video, and computes the less the faster it is called."""
    import numpy as np
    import yaml
    from diffusers import SkyReelsV2DiffusionForcingPipeline

    from motioncache_skyreels.adapter import SkyReelsAdapter

    pipeline = SkyReelsV2DiffusionForcingPipeline.from_pretrained(model)
    pipeline.set_progress_bar_config(disable=True)
    presets = yaml.safe_load(SkyReelsAdapter().presets().read_text())["presets"]
    computed: dict[str, float] = {}
    for preset in presets:
        with motioncache.cached(pipeline, preset) as statistics:
            frames = pipeline(
                "a red circle", height=32, width=32, num_frames=37, base_num_frames=37, num_inference_steps=12,
                guidance_scale=4.0, ar_step=2, causal_block_size=5,
            ).frames[0]  # fmt: skip
        assert frames.shape == (37, 32, 32, 3)
        assert np.isfinite(frames).all()
        computed[preset] = statistics.summary().computed_share
    assert computed["fast"] <= computed["slow"] < computed["exact"] == 1
    assert computed["forecast"] < 1


def check_errors() -> None:
    """What needs an extra says which one."""
    import numpy as np

    from motioncache_eval.demo import check_packages
    from motioncache_eval.figures import new_figure
    from motioncache_eval.video import read_video, write_mp4
    from motioncache_magi.text.caption import clean_caption
    from motioncache_magi.text.prompt import T5Text

    frames = np.zeros((1, 16, 16, 3), np.uint8)
    pyav = "PyAV: pip install 'motioncache[video]'"
    bs4 = "beautifulsoup4: pip install 'motioncache[magi]'"
    expect(f"writing videos needs {pyav}", lambda: write_mp4(Path("video.mp4"), frames, fps=8))
    expect(f"reading videos needs {pyav}", lambda: read_video(Path("video.mp4")))
    expect(f"writing videos needs {pyav}", check_packages)
    expect("drawing figures needs matplotlib: pip install 'motioncache[video]'", new_figure)
    expect(f"cleaning a prompt needs {bs4}", lambda: clean_caption("a red circle"))
    expect(f"cleaning a prompt needs {bs4}", lambda: T5Text(Path("t5")))


def expect(message: str, mistake: Callable[[], object]) -> None:
    said = None
    try:
        mistake()
    except motioncache.MotionCacheError as error:
        said = str(error)
    assert said == message, said


if __name__ == "__main__":
    if "--hide" in sys.argv:
        hide()
    check_imports()
    check_presets(Path(sys.argv[1]))
    check_errors()
    print(motioncache.__file__)
