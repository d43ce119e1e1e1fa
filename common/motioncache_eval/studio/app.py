"""The web application: the page, the files of the history, and the progress of what is being made."""

import re
from dataclasses import asdict
from typing import Any

import gradio  # pyright: ignore[reportMissingImports]
import uvicorn  # pyright: ignore[reportMissingImports]
from fastapi import FastAPI, HTTPException  # pyright: ignore[reportMissingImports]
from fastapi.responses import FileResponse, HTMLResponse  # pyright: ignore[reportMissingImports]
from starlette.middleware.trustedhost import TrustedHostMiddleware  # pyright: ignore[reportMissingImports]

from motioncache.errors import MotionCacheError
from motioncache_eval.studio.config import StudioConfig
from motioncache_eval.studio.history import FRAMES, PAGE, VIDEO
from motioncache_eval.studio.page import HEAD, THEME, build_page
from motioncache_eval.studio.pages import draw_live_page
from motioncache_eval.studio.studio import COMPARISONS, Studio

SERVED = re.compile(rf"{VIDEO}\.(mp4|json)|settings\.json|{re.escape(PAGE)}|part-\d+\.mp4")
"""The files of an entry that are handed out."""

LOCAL = ("127.0.0.1", "localhost", "::1")

LARGEST_UPLOAD = "200mb"


def create_app(studio: Studio, config: StudioConfig) -> FastAPI:
    """The application, ready to be served."""
    app = FastAPI(title="MotionCache studio", docs_url=None, redoc_url=None, openapi_url=None)
    if config.host in LOCAL:  # a page elsewhere whose name resolves to this machine is not answered
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOCAL, "testserver"])
    app.get("/runs/{entry}/{name}")(lambda entry, name: _file(studio, entry, name))
    app.get("/progress/{entry}")(lambda entry: _progress(studio, entry))
    app.get("/progress/{entry}/weights/{part}")(lambda entry, part: _weights(studio, entry, part))
    app.get("/live/{entry}")(lambda entry: _live(studio, entry))
    app.get("/comparisons/{name}")(lambda name: _comparison(studio, name))
    page = build_page(studio)
    page.queue(default_concurrency_limit=None)  # the studio has a line of its own, whose videos say where they stand
    return gradio.mount_gradio_app(
        app, page, path="/", show_error=True, head=HEAD, theme=THEME, max_file_size=LARGEST_UPLOAD, footer_links=[]
    )


def serve(studio: Studio, config: StudioConfig) -> None:
    """Serve until an interrupt."""
    uvicorn.run(create_app(studio, config), host=config.host, port=config.port, log_level="warning")


def _file(studio: Studio, entry: str, name: str) -> FileResponse:
    if not SERVED.fullmatch(name):
        raise HTTPException(404, f"{name} is no file of a video; {FRAMES} stays on this machine")
    try:
        path = studio.history.find(entry).folder / name
    except MotionCacheError as error:
        raise HTTPException(404, str(error)) from None
    if not path.is_file():
        raise HTTPException(404, f"{entry} has no {name}")
    return FileResponse(path)


def _progress(studio: Studio, entry: str) -> dict[str, Any] | None:
    """How far a video is; null for one that is not being made, which is no error to the page that followed it."""
    progress = studio.progress(entry)
    if progress is None:
        return None
    shown = {key: value for key, value in asdict(progress).items() if key not in ("folder", "finished")}
    return {**shown, "seconds_left": progress.seconds_left}


def _weights(studio: Studio, entry: str, part: str) -> dict[str, Any] | None:
    return studio.weights(entry, int(part)) if part.isdecimal() and len(part) < 6 else None


def _live(studio: Studio, entry: str) -> HTMLResponse:
    try:
        report = studio.history.find(entry).report
    except MotionCacheError as error:
        raise HTTPException(404, str(error)) from None
    return HTMLResponse(draw_live_page(entry, report))


def _comparison(studio: Studio, name: str) -> FileResponse:
    folder = studio.history.output / COMPARISONS
    if name not in {path.name for path in folder.glob("*.html")}:
        raise HTTPException(404, f"{name} was not compared")
    return FileResponse(folder / name)
