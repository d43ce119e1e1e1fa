"""Files of prompts: which characters end a line, what is refused, and VBench's names."""

import json
from pathlib import Path
from typing import Any

import pytest

from motioncache.errors import ConfigError
from motioncache_eval.prompts import read_prompts
from motioncache_eval.vbench.config import VBenchConfig
from motioncache_eval.vbench.prompts import Video, file_name, list_videos


@pytest.mark.parametrize(
    ("content", "prompts"),
    [
        ("a dog\nb\n", ["a dog", "b"]),
        ("a dog\r\nb", ["a dog", "b"]),
        ("\ufeffa dog\nb", ["a dog", "b"]),
        ("a\u2028dog\nb\u2029c\x85d", ["a\u2028dog", "b\u2029c\x85d"]),
        ("a\x0cdog\x0bb\x1cc\n", ["a\x0cdog\x0bb\x1cc"]),
        ("a\rb\n", ["a\rb"]),
        ("\n\n  a dog \t\n \n", ["a dog"]),
        ("façade 狐\n", ["façade 狐"]),
    ],
)
def test_only_a_line_feed_ends_a_line(tmp_path: Path, content: str, prompts: list[str]) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes(content.encode())
    assert read_prompts(path) == prompts


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\nb\0c\n", "line 2 of the prompts in .* holds a NUL character"),
        (b"", "holds no prompts; write one per line"),
        (b" \r\n\n", "holds no prompts"),
        (b"\xef\xbb\xbf", "holds no prompts"),
        ("façade".encode("latin-1"), "cannot be read: 'utf-8' codec can't decode byte 0xe7.*save the file in UTF-8"),
        ("a dog".encode("utf-16"), "cannot be read: .*save the file in UTF-8"),
        ("a dog".encode("utf-16-le"), "holds a NUL character"),
    ],
)
def test_a_file_that_holds_no_prompts_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_prompts(path)


@pytest.mark.parametrize("path", ["", "none.txt", "a" * 5000, "\0", "/dev/zero", "none/none.txt"])
def test_a_path_of_no_file_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match=r"^[^\n]{1,400}$"):
        read_prompts(Path(path))


def videos_of(folder: Path, short: str, long: str | None = None) -> list[Video]:
    (folder / "scene.txt").write_text(short)
    if long is not None:
        (folder / "scene_longer.txt").write_text(long)
    return list_videos(["scene"], samples=1, full_info=None, short=folder, long=None if long is None else folder)


def test_two_videos_never_share_a_name(tmp_path: Path) -> None:
    message = r"scene.txt holds the prompt 'beach' 2 times, and its videos would have one file name: keep one of them"
    with pytest.raises(ConfigError, match=message):
        videos_of(tmp_path, "beach\nalley\nbeach\n")
    with pytest.raises(ConfigError, match=message):
        videos_of(tmp_path, "beach\n beach\n", "A wide beach.\nA narrow beach.\n")
    assert len(videos_of(tmp_path, "beach\nalley\n", "Sand.\nSand.\n")) == 2


def test_a_byte_order_mark_is_in_no_name(tmp_path: Path) -> None:
    assert [video.name for video in videos_of(tmp_path, "\ufeffbeach\n", "\ufeffSand.\n")] == ["beach-0.mp4"]


def test_a_prompt_that_is_too_long_for_a_name_says_what_to_do() -> None:
    assert len(file_name("x" * 249, 0).encode()) == 255
    for long in ("x" * 250, "狐" * 84):
        with pytest.raises(ConfigError, match=r"short_prompts=, and this one with long_prompts=$"):
            file_name(long, 0)
    for bad in ("a/b", "a\0b", "\ud800"):
        with pytest.raises(ConfigError, match=r"the prompt '.*' (cannot be a file name|is no text in UTF-8)"):
            file_name(bad, 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"prompt_en": None, "dimension": ["scene"]}], "entry 0: prompt_en is None, and has to be a text"),
        ([{"prompt_en": 5, "dimension": ["scene"]}], "entry 0: prompt_en is 5"),
        ([{"prompt_en": " ", "dimension": ["scene"]}], "entry 0: prompt_en is ' '"),
        ([{"dimension": ["scene"]}], "entry 0: prompt_en is None"),
        ([{"prompt_en": ["a"], "dimension": ["scene"]}], r"entry 0: prompt_en is \['a'\]"),
        ([{"prompt_en": "a", "dimension": "scene"}, {"prompt_en": "b"}, 5, None], "has no prompts for scene"),
        ([], "has no prompts for scene"),
        ({"prompt_en": "a"}, "is not VBench's list of prompts, but {"),
        (None, "is not VBench's list of prompts, but None"),
    ],
)
def test_a_list_that_is_not_vbenchs_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "info.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=message):
        list_videos(["scene"], samples=1, full_info=path, short=None, long=None)


@pytest.mark.parametrize("content", [b"[" * 100_000, b"[", b"", b"\xff", b"9" * 5000])
def test_a_list_that_is_no_json_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "info.json"
    path.write_bytes(content)
    for given in (path, tmp_path, tmp_path / "none.json"):
        with pytest.raises(ConfigError, match=r"^[^\n]+$"):
            list_videos(["scene"], samples=1, full_info=given, short=None, long=None)


def test_a_prompt_that_vbenchs_list_repeats_is_taken_once(tmp_path: Path) -> None:
    path = tmp_path / "info.json"
    path.write_text(json.dumps([{"prompt_en": "a", "dimension": ["scene"]}] * 2))
    assert len(list_videos(["scene"], samples=3, full_info=path, short=None, long=None)) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples_per_prompt": 10**12}, "samples_per_prompt: 1000000000000 is not allowed; allowed: from 1 to 1000"),
        ({"samples_per_prompt": 0}, "samples_per_prompt: 0 is not allowed"),
        ({"devices": ("cpu", "cpu:x")}, "device: 'cpu:x' is not allowed; allowed: cpu, cuda or cuda:N"),
        ({"devices": ("",)}, "device: '' is not allowed"),
        ({"output": ""}, "output: '' is not allowed"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VBenchConfig(**settings)


def test_more_videos_than_anybody_makes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "scene.txt").write_text("\n".join(map(str, range(1001))))
    with pytest.raises(ConfigError, match="1001 prompts of 1000 videos each are more than 1000000"):
        list_videos(["scene"], samples=1000, full_info=None, short=tmp_path, long=None)


def test_a_prompt_becomes_a_file_that_can_be_made(tmp_path: Path) -> None:
    for video in videos_of(tmp_path, "a\u2028b\x0c.\n. \n狐" + "x" * 200):
        (tmp_path / video.name).touch()
        assert tmp_path / video.name in tmp_path.iterdir()
