from dataclasses import replace

import numpy as np

from motioncache_eval.detector import DetectedShape, Detection, detect
from motioncache_eval.judge import QUESTIONS, Verdict, count, judge
from motioncache_eval.scenes import draw_scene, parse_caption, render

SHOWN = Detection(
    background="teal",
    background_db=50.0,
    camera=(0.0, 0.0),
    shapes=(DetectedShape(colour="red", shown=0.9, shape="circle", velocity=(1.0, 0.1)),),
)


def verdict(caption: str, shown: Detection = SHOWN) -> Verdict:
    return judge(shown, parse_caption(caption))


def test_generated_clips_are_judged_right() -> None:
    rng = np.random.default_rng(1)
    scenes = [draw_scene(rng) for _ in range(40)]
    verdicts = [judge(detect(render(scene, rng, frames=20)[0]), scene) for scene in scenes]
    for question in QUESTIONS:
        right, total = count(verdicts, question)
        assert right == (0 if question == "unnamed" else total)
        assert total > 0


def test_every_wrong_word_is_found() -> None:
    assert verdict("a red circle moving right quickly over a teal background") == Verdict(
        background=True,
        camera=True,
        colours=(True,),
        shapes=(True,),
        moving=(True,),
        directions=(True,),
        speeds=(True,),
        resting=(),
        unnamed=False,
        background_db=50.0,
    )
    assert not verdict("a red circle moving right quickly over a navy background").background
    assert verdict("a red square moving right quickly over a teal background").shapes == (False,)
    assert verdict("a red circle moving up quickly over a teal background").directions == (False,)
    assert verdict("a red circle moving right slowly over a teal background").speeds == (False,)
    assert verdict("a red circle resting over a teal background").resting == (False,)


def test_a_shape_of_another_colour_is_missing_and_unnamed() -> None:
    found = verdict("a blue circle moving right quickly over a teal background")
    assert found.unnamed
    assert (found.colours, found.shapes, found.moving, found.directions) == ((False,), (False,), (False,), (False,))


def test_two_shapes_are_told_apart_by_their_colours() -> None:
    white = DetectedShape(colour="white", shown=1.0, shape="square", velocity=(0.0, -0.5))
    shown = replace(SHOWN, shapes=(*SHOWN.shapes, white))
    found = verdict(
        "a white square moving up slowly and a red circle moving left quickly over a teal background", shown
    )
    assert (found.colours, found.shapes, found.directions) == ((True, True), (True, True), (True, False))
    assert (found.speeds, found.unnamed) == ((True, True), False)


def test_with_a_panning_camera_a_resting_shape_goes_along() -> None:
    caption = "a red circle resting over a teal background panning right quickly"
    assert verdict(caption).directions == (True,)
    assert not verdict(caption).camera
    assert verdict(caption, replace(SHOWN, camera=(0.9, 0.0))).camera
    assert verdict(caption).background_db is None  # all of it moves
