import numpy as np
import pytest

from motioncache_eval.scenes import KINDS, Mover, Scene, draw_scene, draw_split, parse_caption, render


def test_the_same_seed_gives_the_same_clip() -> None:
    clips = []
    for _ in range(2):
        rng = np.random.default_rng(3)
        clips.append(render(draw_scene(rng), rng, frames=5)[0])
    assert np.array_equal(*clips)


def test_captions_say_what_is_shown() -> None:
    mover = Mover(colour="red", shape="circle", direction="left", speed="slowly")
    still = Mover(colour="blue", shape="square")
    assert Scene(kind="mover", background="teal", movers=(mover,)).caption == (
        "a red circle moving left slowly over a teal background"
    )
    assert Scene(kind="pan", background="gray", movers=(still,), pan=("up", "quickly")).caption == (
        "a blue square resting over a gray background panning up quickly"
    )


def test_a_caption_is_parsed_back_into_its_scene() -> None:
    rng = np.random.default_rng(0)
    for kind in KINDS:
        for _ in range(50):
            scene = draw_scene(rng, kind)
            assert parse_caption(scene.caption) == scene


@pytest.mark.parametrize(
    "caption", ["", "a cat", "a red circle", "a pink circle resting over a teal background", "a red circle over a sea"]
)
def test_a_caption_outside_the_grammar_is_refused(caption: str) -> None:
    with pytest.raises(ValueError, match="grammar"):
        parse_caption(caption)


@pytest.mark.parametrize(
    ("direction", "shift"), [("right", (0, 8)), ("left", (0, -8)), ("down", (8, 0)), ("up", (-8, 0))]
)
def test_a_mover_keeps_its_direction_and_speed_around_the_torus(direction: str, shift: tuple[int, int]) -> None:
    mover = Mover(colour="white", shape="square", direction=direction, speed="quickly")
    scene = Scene(kind="mover", background="navy", movers=(mover,))
    _, covered = render(scene, np.random.default_rng(0), frames=97)
    for frame in (0, 40, 88):  # one pixel per frame
        assert np.allclose(np.roll(covered[frame], shift, axis=(0, 1)), covered[frame + 8], atol=1e-3)


def test_a_still_scene_does_not_change() -> None:
    rng = np.random.default_rng(1)
    video, _ = render(draw_scene(rng, "still"), rng, frames=9)
    assert (video == video[0]).all()


def test_kinds_are_drawn_at_their_rates() -> None:
    rng = np.random.default_rng(2)
    kinds = [draw_scene(rng).kind for _ in range(2000)]
    for kind, rate in KINDS.items():
        assert kinds.count(kind) / 2000 == pytest.approx(rate, abs=0.03)
    with pytest.raises(ValueError, match="kind must be one of"):
        draw_scene(rng, "flying")


def test_no_caption_is_in_both_splits() -> None:
    rng = np.random.default_rng(4)
    trained, held = ({draw_split(rng, held_out=h).caption for _ in range(300)} for h in (False, True))
    assert not trained & held
    assert len(held) > 30
