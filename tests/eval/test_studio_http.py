"""The studio over HTTP: what programs and `curl` ask for, many at once, and what must not get in or out."""

import json
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from .studio_server import MODEL, Running, ask, client, make

pytest.importorskip("gradio", reason="the studio's page is tested where gradio is installed")

PAGE = Path(__file__).parents[2] / "docs" / "studio.md"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A studio for tests that only add to its history."""
    studio = Running(tmp_path_factory.mktemp("studio") / "out")
    yield studio
    studio.close()


def test_a_client_makes_finds_compares_and_deletes_videos(running: Running) -> None:
    studio = client(running)
    assert studio.predict(MODEL, num_frames=37, api_name="/estimate") == {
        "whole": 6e12, "flops": None, "seconds": None, "memory": 10**9,
    }  # fmt: skip
    job = studio.submit(**ask("a red square"), api_name="/make")
    made, told = job.result(), job.outputs()
    first = made["name"]
    assert told[0]["state"] in ("waiting", "being made")
    assert made["state"] == "complete"
    assert made["figures"]["flops"] == 6e12
    second = make(running, seed=1)
    assert [video["name"] for video in studio.predict(api_name="/videos")] == [second, first]
    found = studio.predict(first, second, api_name="/compare")
    assert 7 < found["psnr_db"] < 8.5  # of two uniform noises: 10 log10(6) = 7.8
    assert running.get(found["page"]).status_code == 200
    video = studio.predict(first, api_name="/video")
    assert "prompt=a red square" in video["command"]
    assert "enable_cache" not in video["python"]
    assert running.get(video["mp4"]).content[4:8] == b"ftyp"
    assert running.get(video["json"]).json()["prompt"] == "a red square"
    assert studio.predict(first, api_name="/remove") == "removed"
    assert running.get(video["mp4"]).status_code == 404


def test_a_client_stops_its_own_video_and_no_other(running: Running) -> None:
    running.pause.clear()
    mine, other = client(running), client(running)
    job = mine.submit(**ask(), api_name="/make")
    while not any(len(told.get("parts", ())) == 2 for told in job.outputs()):
        time.sleep(0.1)
    other.predict(api_name="/stop")
    mine.predict(api_name="/stop")
    running.pause.set()
    assert job.result()["state"] == "stopped"
    assert len(job.result()["parts"]) == 2


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [text for text in found if "gradio" in text]


def test_the_lines_of_the_documents_work(running: Running, tmp_path: Path) -> None:
    models: Any = running.studio.models
    read = models.read
    models.read = lambda name, _, wishes: read(name, "vanilla", wishes)  # the stand-in takes no cache
    (curl,), (python,) = blocks("bash"), blocks("python")

    def run(line: str, **names: str) -> str:
        for name, value in names.items():
            line = line.replace(name, value)
        words = shlex.split(line.replace("http://127.0.0.1:7860", running.address))
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120).stdout

    hand_in, follow, fetch = curl.splitlines()
    event = json.loads(run(hand_in))["event_id"]
    *_, last = (line for line in run(follow, EVENT=event).splitlines() if line.startswith("data: "))
    run(fetch, NAME=json.loads(last.removeprefix("data: "))[0]["name"])
    assert (tmp_path / "video.mp4").read_bytes()[4:8] == b"ftyp"
    names: dict[str, Any] = {}
    exec(compile(python.replace("http://127.0.0.1:7860", running.address), str(PAGE), "exec"), names)
    assert names["made"]["state"] == "complete"


def test_twenty_at_once_are_served_or_refused(tmp_path: Path) -> None:
    running = Running(tmp_path / "out", queue=12)

    clients = [client(running) for _ in range(20)]

    def one(seed: int) -> str:
        try:
            return clients[seed].predict(**ask(seed=seed), api_name="/make")["name"]
        except Exception as error:
            return f"refused: {error}"

    running.pause.clear()  # none is made before all have asked
    try:
        with ThreadPoolExecutor(20) as pool:
            jobs = [pool.submit(one, seed) for seed in range(20)]
            while sum(job.done() for job in jobs) < 7:
                time.sleep(0.1)
            running.pause.set()
            found = [job.result() for job in jobs]
    finally:
        running.close()
    refused = [text for text in found if text.startswith("refused")]
    assert [text for text in refused if "12 videos wait already" not in text] == []
    made = set(found) - set(refused)
    assert len(made) in (12, 13)  # twelve that wait, and one that is made if it was begun before they came
    assert {entry.name for entry in running.studio.history.entries()} == made


WRONG: tuple[tuple[dict[str, Any], str], ...] = (
    ({"num_frames": 38}, "num_frames: 38 is not allowed; allowed: 4 n"),
    ({"num_frames": 10**12}, "num_frames"),
    ({"height": "<b>"}, "height"),
    ({"height": -16}, "height"),
    ({"seed": -1}, "seed: -1 is not allowed"),
    ({"prompt": ""}, "prompt: '' is not allowed"),
    ({"prompt": ["a", {"b": 1}]}, "prompt: .* is not allowed; allowed: a text"),
    ({"model": "/etc"}, "not started with the model '/etc'"),
    ({"preset": "../../etc/passwd.yaml"}, "preset: '../../etc/passwd.yaml' is not allowed"),
    ({"image": {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}}, "paths are not taken"),
    ({"image": {"path": "https://example.com/a.png", "meta": {"_type": "gradio.FileData"}}}, "paths are not taken"),
    ({"video": {"path": "SECRET"}}, "paths are not taken"),
    ({"target_speedup": "nan", "preset": "forecast"}, "target_speedup"),
)


@pytest.mark.parametrize(("wrong", "message"), WRONG)
def test_what_is_wrong_is_a_sentence_and_does_no_harm(shared: Running, wrong: dict[str, Any], message: str) -> None:
    secret = shared.studio.history.output.parent / "secret.txt"
    secret.write_text("hidden")
    before = shared.studio.history.entries()
    wrong = json.loads(json.dumps(wrong).replace("SECRET", str(secret)))
    said = shared.say_no({**ask(), **wrong})
    assert re.search(message, said)
    assert "Traceback" not in said
    assert "hidden" not in said
    assert shared.studio.history.entries() == before


@pytest.mark.parametrize("name", ["../secret.txt", "..", "/", "", "comparisons", "a\0b"])
def test_the_name_of_a_video_is_never_a_path(shared: Running, name: str) -> None:
    shared.studio.history.output.mkdir(exist_ok=True)  # the first video makes it
    for call in (("/video", name), ("/remove", name), ("/compare", name, name)):
        with pytest.raises(Exception, match="there is no video"):
            client(shared).predict(*call[1:], api_name=call[0])
    assert shared.studio.history.output.is_dir()


HOSTILE = (
    "runs/../settings.json", "runs/%2e%2e/%2e%2e/etc/passwd", "runs/ENTRY/%2e%2e%2fsecret.txt", "runs/ENTRY/frames.mkv",
    "runs/ENTRY/secret.txt", "comparisons/..%2fsecret.txt", "comparisons/secret.txt", "live/../../secret.txt",
    "progress/../../etc/passwd", "gradio_api/file=SECRET", "file=SECRET",
)  # fmt: skip


@pytest.mark.parametrize("path", HOSTILE)
def test_nothing_but_videos_is_handed_out(shared: Running, path: str) -> None:
    output = shared.studio.history.output
    entry = next((entry.name for entry in shared.studio.history.entries()), None) or make(shared)
    for place in (output.parent, output, output / entry):
        (place / "secret.txt").write_text("hidden")
    answer = shared.get(path.replace("ENTRY", entry).replace("SECRET", str(output.parent / "secret.txt")))
    assert "hidden" not in answer.text
    assert "root:" not in answer.text
    assert answer.status_code in (403, 404) or "text/html" in answer.headers["content-type"]


def test_a_page_elsewhere_is_not_answered(shared: Running) -> None:
    assert shared.get("", headers={"host": "evil.example"}).status_code == 400
    assert shared.get("").status_code == 200
