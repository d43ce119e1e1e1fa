"""What the tests of pages show, and how they look at a page."""

import base64
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from motioncache.grid import TokenGrid
from motioncache.record import Phase, Record, WindowShape
from motioncache.trace import Trace

GRID = TokenGrid(frames=4, height=2, width=3, chunk_frames=2)
FRAMES, HEIGHT, WIDTH = 13, 16, 24


def trace() -> Trace:
    """Two chunks of 12 tokens, three denoise steps: computed, reused, and token 5 alone."""
    made = Trace(windows=[WindowShape(grid=GRID, iterations=3, branches=("cond",), causal=True)])
    for chunk in (0, 1):
        for step, (computed, due) in enumerate([(12, None), (0, None), (1, torch.tensor([5]))]):
            made.records.append(
                Record(
                    window=0, iteration=step, chunk=chunk, branch="cond", step=step, phase=Phase.token, tokens=12,
                    candidates=computed, computed=computed, attended=12, due=due,
                )
            )  # fmt: skip
    return made


def video(shift: int) -> NDArray[np.uint8]:
    """A bright square that is `shift` pixels ahead of its frame number."""
    frames = np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    for i in range(FRAMES):
        frames[i, 4:12, (i + shift) % 16 : (i + shift) % 16 + 6] = 255
    return frames


def shown(tab: Any) -> list[str]:
    """The frame of every player that is seen."""
    return tab.eval_on_selector_all(
        "figure canvas:not(.map)",
        "all => all.filter(one => !one.closest('details:not([open])')).map(one => one.dataset.frame)",
    )


def pixels(tab: Any, method: str) -> NDArray[np.uint8]:
    """uint8 `[height, width, 4]` of a player's canvas."""
    script = f"""() => {{
        const canvas = document.querySelector('figure[data-method="{method}"] canvas');
        const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        return btoa(String.fromCharCode(...data));
    }}"""
    return np.frombuffer(base64.b64decode(tab.evaluate(script)), np.uint8).reshape(HEIGHT, WIDTH, 4)


def check_headings(tab: Any) -> None:
    """A heading is larger than those below it."""
    sizes = [
        tab.eval_on_selector_all(name, "all => all.map(one => parseFloat(getComputedStyle(one).fontSize))")
        for name in ("h1", "h2", "h3")
    ]
    assert min(sizes[0]) > max(sizes[1]) >= min(sizes[1]) > max(sizes[2])


def check_scheme(tab: Any, scheme: str) -> None:
    """Text is readable, on a ground that fits the scheme."""
    ink, paper = (
        tab.evaluate(f"getComputedStyle(document.body).{name}.match(/\\d+/g).map(Number)")
        for name in ("color", "backgroundColor")
    )
    assert abs(sum(ink[:3]) - sum(paper[:3])) > 500
    assert (sum(paper[:3]) > 382) == (scheme == "light")


def check_nothing_is_cut_off(tab: Any) -> None:
    """Nothing reaches beyond the screen, besides what lies in a part that scrolls."""
    width = tab.evaluate("document.documentElement.clientWidth")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    beyond = (
        "all => all.filter(one => !one.closest('.scroll, svg') && one.getBoundingClientRect().right > innerWidth + 1)"
        ".map(one => one.outerHTML.slice(0, 80))"
    )
    assert tab.eval_on_selector_all("body *", beyond) == []
