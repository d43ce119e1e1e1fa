"""The pipeline as a user calls it, on random weights in the official layout."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from motioncache.errors import MotionCacheError
from motioncache_eval.video import write_mp4
from motioncache_magi.pipeline import MagiPipeline


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
        chunks = list(model.stream("a red circle", generator=generator(), num_frames=60))
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
    without = pipe("a red circle", num_frames=48, generator=generator(), output_type="latent").frames
    assert latents.shape == (1, 16, 12, 4, 6)  # the image has a latent frame of its own: 1 + 6 need two chunks
    given = pipe._encode_prefix(image, None, 32, 48)
    assert given is not None
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
        ({"num_frames": -1}, "num_frames must be 1 or more"),
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
