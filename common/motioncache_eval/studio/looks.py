"""How the studio's page looks: its theme, and the pieces of HTML that it shows."""

import html
from collections.abc import Sequence

import gradio as gr  # pyright: ignore[reportMissingImports]

from motioncache_eval.studio.estimate import Estimate
from motioncache_eval.studio.history import Entry
from motioncache_eval.studio.pages import describe_preset

SYSTEM = ["system-ui", "sans-serif"]

THEME = gr.themes.Default(font=SYSTEM, font_mono=["ui-monospace", "monospace"], primary_hue="blue")
"""Fonts of the machine: nothing is fetched from elsewhere."""

HEAD = """<style>
.gradio-container .fillable { max-width: 96rem !important; }
#view, #status, #cost, #files { padding: 0 !important; }
#chosen input, #pinned input { text-overflow: ellipsis; margin-right: 1.5rem; }
#view > *, #status > *, #cost > *, #files > * { padding: 0 !important; margin: 0 !important; }
iframe.motioncache { width: 100%; height: 30rem; border: 0; border-radius: 8px; display: block; }
.mc-empty { margin: 0 !important; padding: 4rem 1rem; text-align: center; border-radius: 8px;
  border: 1px dashed var(--border-color-primary); color: var(--body-text-color-subdued); }
.mc-empty.small { padding: 1.3rem 1rem; }
.mc-status { font-weight: 600; margin: 0; }
.mc-mistake { margin: 0; padding: .6rem .8rem; border-left: 4px solid #c0392b; border-radius: 4px;
  background: var(--background-fill-secondary); overflow-wrap: anywhere; }
.mc-cost { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: .5rem; margin: 0; }
.mc-cost div { padding: .5rem .7rem; border-radius: 8px; background: var(--background-fill-secondary); }
.mc-cost dt { font-size: .8rem; color: var(--body-text-color-subdued); }
.mc-cost dd { margin: 0; font-weight: 600; font-size: 1rem; font-variant-numeric: tabular-nums; }
.mc-cost small { display: block; font-weight: 400; font-size: .8rem; color: var(--body-text-color-subdued); }
.mc-chunk { width: 100%; max-height: 30rem; border-radius: 8px; background: var(--background-fill-secondary); }
@media (max-width: 640px) {
  .gradio-container .fillable { padding-left: 12px !important; padding-right: 12px !important; }
  .mc-cost { grid-template-columns: 1fr; }
  .mc-cost div { display: grid; grid-template-columns: 7rem 1fr; align-items: baseline; }
}
.mc-files { display: flex; flex-wrap: wrap; gap: .4rem 1rem; margin: 0; }
.mc-files a { text-decoration: underline; }
</style>"""

EMPTY = '<p class="mc-empty">What you make appears here, chunk by chunk.</p>'

RECKONING = '<p class="mc-empty small">What it takes is reckoned.</p>'

FILES = {
    "video.mp4": "Download the MP4",
    "video.json": "Download the figures (JSON)",
    "settings.json": "Download the settings (JSON)",
    "page.html": "Download this page (HTML)",
}


def draw_status(text: str) -> str:
    return f'<p class="mc-status" role="status">{html.escape(text)}</p>'


def draw_mistake(text: str) -> str:
    return f'<p class="mc-mistake" role="alert">{html.escape(text)}</p>'


def draw_frame(address: str, title: str) -> str:
    return f'<iframe class="motioncache" src="{html.escape(address)}" title="{html.escape(title)}"></iframe>'


def draw_chunk(entry: str, part: str) -> str:
    """A chunk of a video that was interrupted."""
    return f'<video class="mc-chunk" src="runs/{html.escape(entry)}/{part}" controls muted></video>'


def draw_files(entry: str, names: Sequence[str]) -> str:
    """Links that download files of a video."""
    links = (
        f'<a href="runs/{html.escape(entry)}/{name}" download="{html.escape(entry)}-{name}">'
        f"{FILES.get(name, 'Download the last chunk (MP4)')}</a>"
        for name in names
    )
    return f'<p class="mc-files">{"".join(links)}</p>'


def draw_estimate(found: Estimate) -> str:
    """What a video takes, as three figures."""
    return f'<dl class="mc-cost" aria-label="What it takes">{_flops(found)}{_seconds(found)}{_memory(found)}</dl>'


def title_of(entry: Entry) -> str:
    """An entry in a list."""
    stamp = entry.name
    when = f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]} {stamp[9:11]}:{stamp[11:13]}:{stamp[13:15]}"
    state = "" if entry.state == "complete" else f" ({entry.state})"
    return f"{when} · {describe_preset(entry.report)}{state} · {entry.report['prompt'][:60]}"


def _flops(found: Estimate) -> str:
    if found.whole is None:
        return _figure("Computation", "unknown", "for this model")
    if found.flops is None:
        return _figure("Computation", f"up to {_tflops(found.whole)}", "the cache decides while it runs")
    fewer = found.whole / found.flops
    return _figure("Computation", _tflops(found.flops), f"{fewer:.1f} times less than without a cache" * (fewer > 1.01))


def _seconds(found: Estimate) -> str:
    if found.seconds is None:
        return _figure("Time", "unknown", "until a first video is made here")
    minutes = found.seconds / 60
    return _figure("Time", f"{found.seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min", "about, on this machine")


def _memory(found: Estimate) -> str:
    if found.memory is None:
        return _figure("Memory", "unknown", "for this model")
    size = found.memory / 1e9
    return _figure("Memory", f"{size:.1f} GB" if size >= 1 else f"{size * 1000:.0f} MB", "about, at most")


def _figure(name: str, figure: str, note: str) -> str:
    return f"<div><dt>{name}</dt><dd>{figure}<small>{note}</small></dd></div>"


def _tflops(flops: float) -> str:
    return f"{flops / 1e12:.3g} TFLOPs"
