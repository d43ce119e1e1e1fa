"""A video is in its folder, entered, and whole, or it is not there."""

import errno
import hashlib
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch

from motioncache_eval.sampling import Sample
from motioncache_eval.vbench.deliver import Delivery, accept, deliver
from motioncache_eval.vbench.folder import OutputFolder
from motioncache_eval.vbench.manifest import Entry, read_manifest

from .vbench_folders import SETTINGS, VIDEOS, cut, enter, noise


def send(folder: OutputFolder | None, frames: torch.Tensor) -> Delivery | str:
    job = SimpleNamespace(fps=8, num_frames=5, height=16, width=32, seed=7)
    return deliver(folder, VIDEOS[1], job, Sample(latents=frames, seconds=2.5), frames)


def keep(folder: OutputFolder, frames: torch.Tensor, *, through: OutputFolder | None = None) -> str | None:
    sent = send(through, frames)
    return sent if isinstance(sent, str) else accept(folder, VIDEOS[1], sent)


@pytest.mark.parametrize("shared", [True, False])
def test_a_kept_video_is_entered_with_what_it_is(folder: OutputFolder, shared: bool) -> None:
    assert keep(folder, noise(), through=folder if shared else None) is None
    path = folder.path(VIDEOS[1])
    entry = read_manifest(folder.manifest)["scene/beach-0.mp4"]
    assert entry == Entry(
        video="scene/beach-0.mp4",
        size=path.stat().st_size,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        seconds=2.5,
        seed=7,
    )
    assert folder.find_missing(VIDEOS) == []
    assert list(folder.partial.iterdir()) == []


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (torch.zeros(5, 3, 16, 32), "it is black; try dtype=float32"),
        (noise(frames=4), "it has 4 frames of 32x16, not 5 frames of 32x16"),
    ],
)
def test_a_faulty_video_is_not_kept(folder: OutputFolder, frames: torch.Tensor, reason: str) -> None:
    assert reason in str(keep(folder, frames, through=folder))
    assert folder.find_missing(VIDEOS) == [VIDEOS[1]]
    assert set(read_manifest(folder.manifest)) == {"scene/alley-0.mp4"}
    assert list(folder.partial.iterdir()) == []


DAMAGES: dict[str, Callable[[OutputFolder, Delivery], Delivery]] = {
    "cut": lambda folder, sent: (cut(folder.partial / str(sent.partial)), sent)[1],
    "lost": lambda folder, sent: ((folder.partial / str(sent.partial)).unlink(), sent)[1],
    "changed": lambda folder, sent: replace(sent, sha256="0" * 64),
    "content": lambda folder, sent: replace(sent, partial=None, content=b"half"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_arrives_otherwise_than_it_was_sent_is_not_entered(folder: OutputFolder, damage: str) -> None:
    sent = send(folder, noise())
    assert isinstance(sent, Delivery)
    wrong = accept(folder, VIDEOS[1], DAMAGES[damage](folder, sent))
    assert wrong is not None
    assert ("has not arrived" if damage == "lost" else "or others than were sent") in wrong
    assert folder.find_missing(VIDEOS) == [VIDEOS[1]]
    assert set(read_manifest(folder.manifest)) == {"scene/alley-0.mp4"}


def test_an_entry_is_on_the_disk_before_its_video_has_its_name(folder: OutputFolder) -> None:
    """A process that ends between the two has made nothing, and the video is made again."""
    with patch.object(Path, "replace", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        keep(folder, noise(), through=folder)
    assert "scene/beach-0.mp4" in read_manifest(folder.manifest)
    assert folder.find_missing(VIDEOS) == [VIDEOS[1]]


STEPS = {
    "the file is on the disk": "motioncache_eval.vbench.deliver.synchronise",
    "it is entered": "motioncache_eval.vbench.deliver.add_entry",
    "its entry is on the disk": "motioncache_eval.vbench.manifest.os.fsync",
    "it has its name": "pathlib.Path.replace",
}


@pytest.mark.parametrize("step", STEPS)
def test_a_full_disk_at_any_step_leaves_nothing_behind(folder: OutputFolder, step: str) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with patch(STEPS[step], side_effect=full), pytest.raises(OSError, match="No space left"):
        keep(folder, noise(), through=folder)
    assert list(folder.partial.iterdir()) == []
    assert folder.find_missing(VIDEOS) == [VIDEOS[1]]
    assert keep(folder, noise(), through=folder) is None
    assert folder.find_missing(VIDEOS) == []


def test_a_full_disk_where_a_worker_writes_leaves_nothing_behind(folder: OutputFolder) -> None:
    with (
        patch("motioncache_eval.vbench.deliver.video_fault", side_effect=OSError(errno.ENOSPC, "No space left")),
        pytest.raises(OSError, match="No space left"),
    ):
        send(folder, noise())
    assert list(folder.partial.iterdir()) == []


@pytest.mark.parametrize("step", STEPS)
def test_a_process_that_is_killed_at_any_step_has_made_nothing(folder: OutputFolder, step: str) -> None:
    sent, first = send(folder, noise()), folder.path(VIDEOS[0]).stat().st_mtime_ns
    assert isinstance(sent, Delivery)
    child = os.fork()
    if child == 0:
        with patch(STEPS[step], side_effect=lambda *_: os.kill(os.getpid(), signal.SIGKILL)):
            accept(folder, VIDEOS[1], sent)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert folder.find_missing(VIDEOS) == [VIDEOS[1]]
    folder.prepare(SETTINGS, VIDEOS)
    assert list(folder.partial.iterdir()) == []
    assert keep(folder, noise(), through=folder) is None
    assert folder.find_missing(VIDEOS) == []
    assert folder.path(VIDEOS[0]).stat().st_mtime_ns == first


def test_a_video_that_cannot_be_decoded_is_found_when_asked(folder: OutputFolder) -> None:
    content = bytearray(folder.path(VIDEOS[0]).read_bytes())
    start = content.find(b"mdat") + 1000  # behind the encoder's name, in the first frame
    content[start : start + 400] = bytes(400)
    folder.path(VIDEOS[0]).write_bytes(content)
    enter(folder, VIDEOS[0])
    assert folder.find_missing(VIDEOS) == [VIDEOS[1]]
    assert folder.find_missing(VIDEOS, decode=True) == VIDEOS
