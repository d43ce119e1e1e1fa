"""The page of a VBench run, in a headless Chromium where there is one."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motioncache_eval.jobs import find_model
from motioncache_eval.vbench.page import write_scores_page
from motioncache_eval.vbench.plan import Plan, make_plan
from motioncache_eval.vbench.scores import Score, remarks, score_table
from motioncache_eval.video import write_mp4

from .pages import FRAMES, check_headings, check_nothing_is_cut_off, check_scheme, video

SCENES = ["alley, 100 % #1? & <b>", 'façade\'s "beach".']


def plan_of(tmp_path: Path, prompts: dict[str, list[str]], samples: int = 2) -> Plan:
    info = tmp_path / "info.json"
    entries = [{"prompt_en": prompt, "dimension": [suite]} for suite, of in prompts.items() for prompt in of]
    info.write_text(json.dumps(entries))
    model = find_model("skyreels-v2")
    texts = [
        f"full_info={info}",
        f"output={tmp_path / 'out'}",
        "presets=[vanilla,slow]",
        f"samples_per_prompt={samples}",
    ]
    return make_plan(model, model.adapter().presets(), [*texts, f"dimensions=[{','.join(prompts)}]"])


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """Two suites; the videos of `slow` are ahead, and one is missing."""
    plan = plan_of(tmp_path, {"scene": SCENES, "temporal_flickering": ["a quiet lake"]})
    scores: dict[str, dict[str, Score]] = {}
    for shift, preset in enumerate(plan.policies):
        for one in plan.videos:
            path = plan.folder(preset).path(one)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_mp4(path, np.repeat(np.repeat(video(4 * shift), 4, 1), 4, 2), fps=8)
        videos = {one.name: 0.9 - shift / 10 for one in plan.videos if one.suite == "temporal_flickering"}
        scores[preset] = {"temporal_flickering": Score(value=0.9 - shift / 10, videos=videos)}
    plan.folder("slow").path(plan.videos[-1]).unlink()
    table = score_table(scores, ["scene", "temporal_flickering"])
    return write_scores_page(plan, scores, table, remarks(scores, {"slow": {"scene": "no weights <i>"}}))


def test_the_page_stays_small_however_many_videos_there_are(tmp_path: Path) -> None:
    """6,230 videos of each preset: a page that opens, whose players load those of one prompt."""
    suites = {
        f"{name}": [f"{name} {'long ' * 20}{i}" for i in range(85)] for name in ("scene", "color", "human_action")
    }
    plan = plan_of(tmp_path, {**suites, "temporal_flickering": [f"a lake {i}" for i in range(75)]}, samples=20)
    assert len(plan.videos) == 6600
    plan.output.mkdir()
    scores = {
        preset: {
            "temporal_flickering": Score(value=0.9, videos={video.name: 0.912345 for video in plan.videos}),
        }
        for preset in plan.policies
    }
    path = write_scores_page(plan, scores, score_table(scores), remarks(scores))
    assert path.stat().st_size < 4_000_000


def test_the_file_needs_nothing_but_the_videos(page: Path) -> None:
    text = page.read_text()
    assert not re.findall(r"(?:src|href)=\"(?!data:)", text)
    assert "http" not in re.sub(r"<script type=.*?</script>", "", text, flags=re.DOTALL)
    assert "no weights &lt;i&gt;" in text


@pytest.fixture
def opened(browser: Any, page: Path) -> Iterator[Any]:
    tab = browser.new_page(viewport={"width": 900, "height": 700})
    errors: list[str] = []
    requests: list[str] = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(page.as_uri())
    tab.requests = requests
    wait(tab, 1)
    yield tab
    assert errors == []
    assert all(url.startswith(("file:", "data:")) for url in requests)
    tab.close()


def wait(tab: Any, choice: int) -> None:
    tab.wait_for_function(
        f"byId('side-by-side').dataset.loaded === '{choice}' && !shown.videos.some((one) => one.seeking)"
    )


def frames_shown(tab: Any) -> list[int]:
    return tab.evaluate("shown.videos.map((one) => Math.floor(one.currentTime * shown.fps))")


def test_the_scores_come_first_and_the_videos_of_one_prompt_are_loaded(opened: Any) -> None:
    assert opened.locator("h2").all_inner_texts() == ["Scores", "Videos"]
    rows = opened.locator("tbody tr").all_inner_texts()
    assert rows[0].split("\t") == ["temporal flickering", "90.00", "80.00", "-10.00"]
    assert rows[1].split("\t") == ["scene", "not measured", "not measured", "-"]
    check_headings(opened)
    loaded = [url for url in opened.requests if url.endswith(".mp4")]
    assert len(set(loaded)) == 2
    assert {url.split("/")[-4] for url in loaded} == {"vanilla", "slow"}
    assert opened.locator("#prompt option").all_inner_texts() == SCENES


def test_another_suite_prompt_and_video_are_chosen_and_one_that_is_missing_is_told(opened: Any) -> None:
    opened.keyboard.press("n")
    wait(opened, 2)
    assert opened.locator("#prompt").input_value() == "1"
    assert opened.locator("video").count() == 2
    opened.select_option("#suite", "temporal_flickering")
    wait(opened, 3)
    assert "temporal_flickering 0.8" in opened.inner_text('figure[data-preset="slow"] figcaption')
    opened.select_option("#index", "1")
    wait(opened, 4)
    assert opened.locator("video").count() == 1
    assert opened.inner_text(".error").endswith("slow/videos/temporal_flickering/a quiet lake-1.mp4")
    opened.click("#play")
    opened.wait_for_function("shown.frame > 1")


def test_players_move_in_step(opened: Any) -> None:
    assert opened.inner_text("#frame-number") == f"1 of {FRAMES}"
    opened.keyboard.press("ArrowRight")
    opened.keyboard.press("ArrowRight")
    opened.keyboard.press("ArrowLeft")
    assert frames_shown(opened) == [1, 1]
    opened.fill("#frame", "7")
    assert frames_shown(opened) == [7, 7]
    opened.click("#play")
    opened.wait_for_function("shown.frame >= 9 || shown.frame < 7")
    apart = "Math.abs(shown.videos[0].currentTime - shown.videos[1].currentTime) * shown.fps"
    opened.wait_for_function(f"{apart} < 1")
    opened.click("#play")
    opened.wait_for_function("shown.videos.every((one) => one.paused && !one.seeking)")
    first, second = frames_shown(opened)
    assert first == second == opened.evaluate("shown.frame")
    opened.wait_for_timeout(300)
    assert frames_shown(opened) == [first, second]  # they stand still


def test_small_videos_are_enlarged_by_whole_factors(opened: Any) -> None:
    for width in (900, 390, 1280):
        opened.set_viewport_size({"width": width, "height": 700})
        opened.wait_for_timeout(100)
        sizes = opened.eval_on_selector_all("video", "all => all.map(one => one.getBoundingClientRect().width)")
        room = opened.locator("figure").first.evaluate("one => one.clientWidth")
        assert set(sizes) == {room // 96 * 96}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_narrow_window_in_both_schemes(browser: Any, page: Path, scheme: str) -> None:
    tab = browser.new_page(viewport={"width": 390, "height": 700}, color_scheme=scheme)
    tab.goto(page.as_uri())
    wait(tab, 1)
    check_nothing_is_cut_off(tab)
    check_scheme(tab, scheme)
    check_headings(tab)
    tab.close()
