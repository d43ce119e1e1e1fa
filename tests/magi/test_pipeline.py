"""The pipeline as a user calls it, on random weights in the official layout."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import motioncache
from motioncache.errors import MotionCacheError
from motioncache_eval.video import write_mp4
from motioncache_magi.given.frames import image_frames
from motioncache_magi.pipeline import MagiPipeline
from motioncache_magi.request import Plan
from motioncache_magi.sampling.sampler import Sampler
from motioncache_magi.sampling.step import Step


def load(root: Path, **options: Any) -> MagiPipeline:
    pipe = MagiPipeline.from_pretrained(root, **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.fixture(scope="module")
def pipe(distilled: Path) -> MagiPipeline:
    return load(distilled)


@pytest.fixture(scope="module")
def base_pipe(base: Path) -> MagiPipeline:
    return load(base)


def test_output_types(pipe: MagiPipeline) -> None:
    video = pipe("a red circle", generator=generator()).frames
    assert video.shape == (1, 48, 32, 48, 3)
    assert video.dtype == np.float32
    assert 0 <= video.min() < video.max() <= 1
    tensor = pipe("a red circle", generator=generator(), output_type="pt").frames
    assert np.array_equal(tensor.permute(0, 1, 3, 4, 2).numpy(), video)
    (pictures,) = pipe("a red circle", generator=generator(), output_type="pil").frames
    assert [picture.size for picture in pictures] == [(48, 32)] * 48
    assert np.abs(np.asarray(pictures[7]) / 255 - video[0, 7]).max() < 0.003
    latents = pipe("a red circle", generator=generator(), output_type="latent").frames
    assert latents.shape == (1, 16, 12, 4, 6)


def test_a_stream_yields_each_chunk_and_equals_the_whole(pipe: MagiPipeline, base_pipe: MagiPipeline) -> None:
    for model in (pipe, base_pipe):
        whole = model("a red circle", generator=generator(), num_frames=60).frames[0]
        chunks = list(motioncache.stream(model, "a red circle", generator=generator(), num_frames=60))
        assert [len(chunk) for chunk in chunks] == [24, 24, 12]
        assert np.array_equal(np.concatenate(chunks), whole)


def test_one_model_serves_many_prompts(pipe: MagiPipeline) -> None:
    first = pipe("a red circle", generator=generator(), output_type="latent").frames
    other = pipe("a blue square", generator=generator(), output_type="latent").frames
    again = pipe("a red circle", generator=generator(), output_type="latent").frames
    assert not torch.equal(first, other)
    assert torch.equal(first, again)


def test_noise_can_be_passed(pipe: MagiPipeline) -> None:
    noise = torch.randn(1, 16, 12, 4, 6, generator=generator())
    kept = noise.clone()
    passed = pipe("a red circle", latents=noise, output_type="latent").frames
    assert torch.equal(passed, pipe("a red circle", generator=generator(), output_type="latent").frames)
    assert torch.equal(noise, kept)


def test_an_image_becomes_the_first_frame(pipe: MagiPipeline) -> None:
    image = Image.fromarray(np.full((20, 20, 3), 200, np.uint8))
    latents = pipe("a red circle", image=image, num_frames=24, generator=generator(), output_type="latent").frames
    without = pipe("a red circle", num_frames=24, generator=generator(), output_type="latent").frames
    assert latents.shape == (1, 16, 6, 4, 6)  # the image's latent frame is one of the video's
    given = pipe._codec.encode(image_frames(image, 32, 48))
    assert (latents[0, :, 0] - given[:, 0]).abs().mean() < (without[0, :, 0] - given[:, 0]).abs().mean()


def test_a_video_is_gone_on_from(base_pipe: MagiPipeline, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    video = rng.integers(0, 255, (40, 32, 48, 3), np.uint8)
    new = base_pipe("a red circle", video=video, num_frames=24, generator=generator()).frames
    assert new.shape == (1, 24, 32, 48, 3)
    last = base_pipe("a red circle", video=video[-32:], num_frames=24, generator=generator()).frames
    assert np.array_equal(new, last)  # the last 32 frames count
    write_mp4(tmp_path / "it.mp4", video, fps=24)
    read = base_pipe("a red circle", video=tmp_path / "it.mp4", num_frames=24, generator=generator()).frames
    assert read.shape == new.shape


@pytest.mark.parametrize("frames", [1, 4, 6, 10])
def test_every_latent_frame_gives_four_frames_but_for_a_still(pipe: MagiPipeline, frames: int) -> None:
    latents = torch.randn(1, 16, frames, 4, 6, generator=generator())
    assert len(pipe.decode(latents)) == (1 if frames == 1 else 4 * frames)


def test_nothing_left_of_a_prompt_is_unconditional_and_said(
    pipe: MagiPipeline, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        empty = pipe("((( )))", generator=generator(), output_type="latent").frames
    assert "sampled without one" in caplog.text
    assert torch.equal(empty, pipe("", generator=generator(), output_type="latent").frames)
    assert not torch.equal(empty, pipe("a red circle", generator=generator(), output_type="latent").frames)


def test_special_tokens_change_the_video(pipe: MagiPipeline, distilled: Path) -> None:
    plain = load(distilled)
    plain.special_tokens = None
    videos = [model("a red circle", generator=generator(), output_type="latent").frames for model in (plain, pipe)]
    assert not torch.equal(*videos)


def test_offloading_changes_nothing(pipe: MagiPipeline, distilled: Path) -> None:
    offloaded = load(distilled, offload=True)
    assert np.array_equal(
        offloaded("a red circle", generator=generator()).frames, pipe("a red circle", generator=generator()).frames
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"num_inference_steps": 10}, "num_inference_steps=10 must be a multiple of the window of 4 chunks"),
        ({"height": 40}, "multiples of 16"),
        ({"num_frames": -1}, "num_frames: -1 is not allowed; allowed: a whole number from 1 to 86401"),
        ({"output_type": "gif"}, "output_type must be one of"),
        ({"image": "no.png"}, "the image no.png cannot be read"),
        ({"video": "no.mp4"}, "the video no.mp4 cannot be read"),
        ({"video": np.zeros((3, 32, 48, 3), np.uint8)}, "3 frames is too short"),
        ({"image": "a.png", "video": "b.mp4"}, "not both"),
        ({"latents": torch.zeros(1, 16, 5, 4, 6)}, "this call needs"),
    ],
)
def test_bad_calls_say_what_to_do(pipe: MagiPipeline, call: dict[str, Any], message: str) -> None:
    with pytest.raises(MotionCacheError, match=message):
        pipe("a red circle", **call)


def test_bad_folders_say_what_to_do(distilled: Path, tmp_path: Path) -> None:
    for arguments, message in (
        ({"folder": tmp_path / "none"}, "there is no model folder"),
        ({"folder": tmp_path}, "holds no variant"),
        ({"folder": distilled, "variant": "24B_base"}, "has no variant '24B_base', only 4.5B_distill"),
    ):
        with pytest.raises(MotionCacheError, match=message):
            MagiPipeline.from_pretrained(**arguments)  # pyright: ignore[reportArgumentType]


def count_chunks(pipe: MagiPipeline, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The chunks of all denoise steps from now on."""
    chunks: list[int] = []
    step = Sampler.step

    def counting(self: Sampler, one: Step) -> None:
        chunks.extend(one.window)
        step(self, one)

    monkeypatch.setattr(Sampler, "step", counting)
    return chunks


@pytest.mark.parametrize("model", ["pipe", "base_pipe"])
def test_no_chunk_is_sampled_that_only_the_frame_of_an_image_would_need(
    model: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = request.getfixturevalue(model)
    asked: dict[str, Any] = {"image": Image.new("RGB", (20, 20), "teal"), "output_type": "latent"}
    steps = count_chunks(pipe, monkeypatch)
    video = pipe("a red circle", num_frames=48, generator=generator(), **asked).frames
    assert len(steps) == 2 * 8  # 48 frames are two chunks, of 8 denoise steps each
    assert video.shape == (1, 16, 12, 4, 6)
    # 48 frames and one for the image are three chunks in the official code, whose first frames are these.
    plan_of = Plan.of
    monkeypatch.setattr(Plan, "of", lambda *given: official(plan_of(*given)))
    steps.clear()
    whole = pipe("a red circle", num_frames=48, generator=generator(), **asked).frames
    assert len(steps) == 3 * 8
    assert whole.shape == (1, 16, 18, 4, 6)
    assert (whole[:, :, :12] - video).abs().max() < 1e-4  # not to the bit: the model calls are of other sizes


def official(plan: Plan) -> Plan:
    return replace(plan, schedule=replace(plan.schedule, chunks=plan.announced_chunks))


@pytest.mark.parametrize("frames", [4, 7, 8, 23, 24, 31, 32])
def test_the_frames_of_a_given_video_are_not_repeated(pipe: MagiPipeline, frames: int) -> None:
    video = np.random.default_rng(0).integers(0, 255, (frames, 32, 48, 3), np.uint8)
    latents = list(pipe.stream("a", video=video, num_frames=30, generator=generator(), output_type="latent"))
    given = frames // 4
    chunks = -(-(given + 8) // 6)  # 30 frames are 8 latent frames
    assert sum(chunk.shape[1] for chunk in latents) == 6 * chunks - given
    assert latents[0].shape[1] == 6 - given % 6
    new = pipe("a", video=video, num_frames=30, generator=generator()).frames
    assert new.shape == (1, 30, 32, 48, 3)
    decoded = pipe.decode(torch.cat(latents, dim=1)[None]).permute(0, 2, 3, 1)[:30].numpy()
    if given != 5:  # the stream decodes a single latent frame behind the given ones, `decode` in front of the next
        assert np.array_equal(new[0], decoded)
    assert np.array_equal(new[0, 4:], decoded[4:])


def test_the_own_output_of_every_type_can_be_gone_on_from(pipe: MagiPipeline) -> None:
    new = []
    for output_type in ("np", "pt", "pil"):
        given = pipe("a red circle", num_frames=24, generator=generator(), output_type=output_type).frames
        video = pipe("a red circle", video=given, num_frames=24, generator=generator(), output_type="latent").frames
        image = pipe(
            "a red circle", image=given[0][0], num_frames=4, generator=generator(), output_type="latent"
        ).frames
        new.append((video, image))
    for video, image in new[1:]:
        assert torch.equal(video, new[0][0])
        assert torch.equal(image, new[0][1])


def test_a_file_of_another_frame_rate_is_resampled(pipe: MagiPipeline, tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (32, 1, 1, 3), np.uint8).repeat(32, axis=1).repeat(48, axis=2)
    call = {"num_frames": 24, "output_type": "latent"}
    write_mp4(tmp_path / "slow.mp4", frames, fps=12)
    write_mp4(tmp_path / "twice.mp4", frames[16:].repeat(2, axis=0), fps=24)
    slow, twice = (
        pipe("a red circle", video=tmp_path / name, generator=generator(), **call).frames
        for name in ("slow.mp4", "twice.mp4")
    )
    assert torch.nn.functional.mse_loss(slow, twice) < 0.01 * twice.var()
    at_their_rate = pipe("a red circle", video=frames, generator=generator(), **call).frames
    assert torch.nn.functional.mse_loss(at_their_rate, twice) > 0.05 * twice.var()


def test_without_a_generator_the_seed_is_that_of_the_configuration(pipe: MagiPipeline) -> None:
    seeded = torch.Generator().manual_seed(pipe.config.runtime.seed)
    expected = pipe("a red circle", num_frames=24, generator=seeded, output_type="latent").frames
    for _ in range(2):
        assert torch.equal(pipe("a red circle", num_frames=24, output_type="latent").frames, expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"num_frames": 0}, "num_frames: 0 is not allowed; allowed: a whole number from 1 to 86401"),
        ({"height": 0}, "height: 0 is not allowed"),
        ({"width": 0}, "width: 0 is not allowed; allowed: a whole number from 1 to 4096"),
        ({"num_inference_steps": 0}, "num_inference_steps: 0 is not allowed"),
        ({"num_frames": 24.0}, "num_frames: 24.0 is not allowed"),
        ({"num_frames": True}, "num_frames: True is not allowed"),
        ({"height": 1e6}, "height: 1000000.0 is not allowed"),
        ({"prompt": None}, "prompt must be one text: a call samples one video, not None"),
        ({"prompt": ["a red circle"]}, "prompt must be one text"),
        ({"generator": [torch.Generator()]}, "generator must be one torch.Generator, not"),
        ({"generator": 3}, "generator must be one torch.Generator, not 3"),
        ({"latents": np.zeros((1, 16, 12, 4, 6))}, "latents must be a tensor"),
        ({"latents": torch.full((1, 16, 12, 4, 6), torch.nan)}, "latents are not finite"),
        ({"latents": torch.zeros(1, 16, 12, 4, 6, dtype=torch.int64)}, "needs floats of the shape"),
        ({"switches": {"hq": False}}, "switches must be TextSwitches"),
        ({"output_type": ["np"]}, "output_type must be one of np, pt, pil, latent, not"),
        ({"image": 5}, "the image is of type int"),
        ({"video": 5}, "the video is of type int"),
        ({"image": np.zeros((2, 2)), "video": np.zeros((4, 2, 2, 3))}, "not both"),
    ],
)
def test_arguments_of_another_kind_are_refused_before_anything_is_sampled(
    pipe: MagiPipeline, call: dict[str, Any], message: str
) -> None:
    with pytest.raises(MotionCacheError, match=message) as caught:
        pipe.stream(**{"prompt": "a red circle", **call})  # nothing is asked of the stream
    assert "\n" not in str(caught.value)


def test_latents_that_are_not_finite_are_refused_at_the_first_chunk(distilled: Path) -> None:
    broken = load(distilled)
    broken.transformer.final_linear.linear.weight.data[0, 0] = torch.nan
    with pytest.raises(MotionCacheError, match="latent frame 0 was sampled as NaN or infinite"):
        broken("a red circle", generator=generator())


@pytest.mark.parametrize("fps", [1, 8, 12, 15, 16, 30])
def test_a_chunk_has_all_its_frames_at_every_frame_rate(pipe: MagiPipeline, fps: int) -> None:
    config = pipe.config
    other = MagiPipeline(
        pipe.transformer,
        pipe.vae,
        pipe.text_encoder,
        replace(config, runtime=replace(config.runtime, fps=fps)),
        special_tokens=pipe.special_tokens,
    )
    other.set_progress_bar_config(disable=True)
    assert other("a red circle", num_frames=24, generator=generator()).frames.shape == (1, 24, 32, 48, 3)
