"""A package that is missing is one error, which says what to install."""

import sys
from pathlib import Path

import pytest

from motioncache import MotionCacheError
from motioncache.extras import PACKAGES, require_extra
from motioncache_magi.given.frames import video_frames
from motioncache_magi.text.prompt import T5Text


def hide(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)


@pytest.mark.parametrize("module", ["av", "google.protobuf"])
def test_an_extra_that_is_installed_passes(module: str) -> None:
    require_extra(module, "everything")
    assert module in sys.modules


@pytest.mark.parametrize("module", PACKAGES)
def test_the_error_names_the_package_and_its_extra(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    package, extra = PACKAGES[module]
    hide(monkeypatch, module)
    with pytest.raises(MotionCacheError) as caught:
        require_extra(module, "drawing")
    assert str(caught.value) == f"drawing needs {package}: pip install 'motioncache[{extra}]'"


def test_a_missing_parent_is_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "google")
    monkeypatch.delitem(sys.modules, "google.protobuf", raising=False)
    with pytest.raises(MotionCacheError, match="needs protobuf"):
        require_extra("google.protobuf", "reading")


def test_what_an_installed_package_lacks_is_its_own_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "av.py").write_text("import avionics_that_nobody_has\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "av", raising=False)
    with pytest.raises(ModuleNotFoundError, match="avionics_that_nobody_has"):
        require_extra("av", "writing videos")


@pytest.mark.parametrize("module", ["sentencepiece", "google.protobuf"])
def test_the_official_tokenizer_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "spiece.model").touch()
    hide(monkeypatch, module)
    with pytest.raises(MotionCacheError, match=r"spiece.model needs \w+: pip install 'motioncache\[magi\]'"):
        T5Text(tmp_path)


def test_a_video_to_go_on_from_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hide(monkeypatch, "av")
    with pytest.raises(MotionCacheError, match=r"reading videos needs PyAV: pip install 'motioncache\[video\]'"):
        video_frames(tmp_path / "video.mp4", 16, 16, 4, 24)
