"""Videos of all kinds that people have, to go on from."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from motioncache.errors import MotionCacheError
from motioncache_magi.given.frames import video_frames
from motioncache_magi.given.videos import Shown, last_frames, resample

CODECS = {"mp4": "libx264", "mkv": "libx264", "avi": "mpeg4", "webm": "libvpx-vp9"}


def write(
    path: Path, frames: Any, *, fps: int = 24, rotation: tuple[int, bool] | None = None, options: Any = None
) -> Path:
    """Write frames `[frames, height, width, 3]`."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream: Any = container.add_stream(CODECS[path.suffix[1:]], rate=fps, options={"crf": "1"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        if rotation is not None:
            stream.set_display_rotation(rotation[0], hflip=rotation[1])
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode())
    return path


def counting(frames: int, height: int = 32, width: int = 48) -> np.ndarray:
    """Frame i is grey of 4 i."""
    shades = 4 * np.arange(frames, dtype=np.uint8)
    return np.broadcast_to(shades[:, None, None, None], (frames, height, width, 3))


def numbers(frames: list[Image.Image]) -> list[int]:
    return [round(float(np.asarray(frame).mean()) / 4) for frame in frames]


@pytest.mark.parametrize(
    ("fps", "expected"),
    [
        (24, list(range(28, 60))),
        (48, list(range(0, 60, 2))),  # an odd frame begins half way between two ticks, and the next one hides it
        (12, [n for n in range(44, 60) for _ in range(2)]),
        (8, [49, 49, *(n for n in range(50, 60) for _ in range(3))]),
    ],
)
def test_a_video_is_resampled_to_the_frame_rate_of_the_model(fps: int, expected: list[int], tmp_path: Path) -> None:
    path = write(tmp_path / "it.mp4", counting(60), fps=fps)
    read = numbers(last_frames(path, fps=24, most=32))
    assert read == expected


def shown(starts: list[float], end: float) -> list[Shown]:
    times = [*map(Fraction, starts), Fraction(end)]
    return [Shown(i, times[i], times[i + 1]) for i in range(len(starts))]


def test_frames_are_shown_from_the_nearest_tick_to_that_of_the_next() -> None:
    # Ticks of 1/4 s: the frames begin at ticks 0, 1 (at 0.9), 4 and 5 (at 4.5), and the last one ends at tick 7.
    frames = shown([0, 0.225, 1, 1.125], 1.75)
    assert resample(frames, 4, 100) == [0, 1, 1, 1, 2, 3, 3]
    assert resample(frames, 4, 3) == [2, 3, 3]
    assert resample(frames, 1, 100) == [1, 3]  # ticks 0, 0, 1, 1 and 2: the later one of a tick is shown
    assert resample(shown([0], 0.01), 4, 100) == [0]
    assert resample([], 4, 100) == []


def test_a_gap_of_years_takes_neither_time_nor_memory() -> None:
    assert resample(shown([0, 1e9], 1e9 + 1), 2, 5) == [0, 0, 0, 1, 1]


def test_a_variable_frame_rate_is_made_constant(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "it.mkv"), "w") as container:
        stream: Any = container.add_stream("libx264", rate=30, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for image, time in zip(counting(5), (0, 250, 1000, 1500, 2000), strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    read = numbers(last_frames(tmp_path / "it.mkv", fps=4, most=32))
    assert read == [0, 1, 1, 1, 2, 2, 3, 3]  # the last one ends within the tick at which it begins


def quarters() -> np.ndarray:
    """48 x 32 pixels of red, green, blue and white, clockwise from the upper left."""
    picture = np.full((32, 48, 3), 255, np.uint8)
    picture[:16, :24], picture[:16, 24:], picture[16:, 24:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    return picture


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("angle", [0, 90, -90, 180])
def test_a_video_is_shown_as_its_display_matrix_says(angle: int, mirrored: bool, tmp_path: Path) -> None:
    path = write(tmp_path / "it.mp4", quarters()[None].repeat(6, axis=0), rotation=(angle, mirrored))
    right = np.rot90(quarters(), angle // 90)  # counter-clockwise, then mirrored
    right = right[:, ::-1] if mirrored else right
    for read in last_frames(path, fps=24, most=32):
        assert np.asarray(read).shape == right.shape
        assert np.abs(np.asarray(read)[4::8, 4::8].astype(int) - right[4::8, 4::8]).max() < 40


def test_an_angle_that_is_not_right_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "it.mp4", counting(6), rotation=(30, False))
    with pytest.raises(MotionCacheError, match="to be shown at an angle that is not right: turn its frames first"):
        last_frames(path, fps=24, most=32)


def test_transparent_parts_of_a_video_are_white(tmp_path: Path) -> None:
    frame = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    frame.paste((0, 0, 0, 255), (0, 0, 8, 16))
    frames = [frame.copy() for _ in range(4)]
    for i, one in enumerate(frames):
        one.putpixel((0, i), (9, 9, 9, 255))  # equal frames would be one
    frames[0].save(tmp_path / "it.gif", save_all=True, append_images=frames[1:], duration=100, disposal=2)
    for read in last_frames(tmp_path / "it.gif", fps=10, most=32):
        assert read.getpixel((4, 8)) == (0, 0, 0)
        assert read.getpixel((12, 8)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["mkv", "avi", "webm"])
def test_other_containers_are_read(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"it.{kind}", quarters()[None].repeat(12, axis=0))
    assert len(last_frames(path, fps=24, most=32)) == 12
    assert last_frames(path, fps=24, most=5)[0].getpixel((8, 8)) == pytest.approx((255, 0, 0), abs=40)


@pytest.mark.parametrize("kind", ["mp4", "mkv", "avi", "webm"])
def test_a_video_that_was_cut_off_is_refused(kind: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 32, 48, 3), np.uint8)
    path = write(tmp_path / f"it.{kind}", noise, options={"movflags": "faststart"} if kind == "mp4" else None)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(MotionCacheError, match=r"cannot be read|is damaged at|ends after \d\.\d of 4\.0 s"):
        last_frames(path, fps=24, most=32)


def write_sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())


def test_what_holds_no_video_is_refused_in_one_line(tmp_path: Path) -> None:
    write_sound(tmp_path / "sound.wav")
    (tmp_path / "text.txt").write_text("no video\n" * 99)
    for name in ("sound.wav", "text.txt"):
        with pytest.raises(MotionCacheError, match=rf"{name} holds no video: pass a video file"):
            last_frames(tmp_path / name, fps=24, most=32)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(3000))
    for path in (tmp_path, tmp_path / "none.mp4", tmp_path / "empty.mp4", tmp_path / "noise.mp4"):
        with pytest.raises(MotionCacheError, match=r"the video .* cannot be read: \S") as caught:
            last_frames(path, fps=24, most=32)
        assert "\n" not in str(caught.value)


def test_a_picture_as_a_video_is_too_short_and_the_error_says_where_it_goes(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "it.png")
    with pytest.raises(MotionCacheError, match=r"1 frames is too short .*: give 4 frames or more, or one picture as"):
        video_frames(tmp_path / "it.png", 32, 48, 4, 24)


VIDEO = np.random.default_rng(0).integers(0, 256, (6, 32, 48, 3), np.uint8)


@pytest.mark.parametrize(
    "video",
    [
        VIDEO,
        VIDEO[None],
        VIDEO / np.float32(255),
        (VIDEO / np.float32(255))[None],
        torch.from_numpy(VIDEO).permute(0, 3, 1, 2),
        torch.from_numpy(VIDEO / np.float32(255)).permute(0, 3, 1, 2)[None],
        [Image.fromarray(frame) for frame in VIDEO],
        [[Image.fromarray(frame) for frame in VIDEO]],
        tuple(VIDEO),
        [torch.from_numpy(frame).permute(2, 0, 1) for frame in VIDEO],
        [VIDEO],
    ],
    ids=lambda video: f"{type(video).__name__} of {type(video[0]).__name__}",
)
def test_what_pipelines_return_can_be_gone_on_from(video: Any) -> None:
    frames = video_frames(video, 32, 48, 4, 24)
    assert torch.equal(frames[0].permute(1, 2, 3, 0), torch.from_numpy(VIDEO[-4:]).float() / 127.5 - 1)


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (5, "the video is of type int: pass a file"),
        (Image.new("L", (8, 8)), "the video is of type Image: pass a file"),
        ([], "a video of 0 frames is too short"),
        (np.zeros((3, 32, 48, 3), np.uint8), "a video of 3 frames is too short to go on from: give 4 frames or more"),
        (np.zeros((32, 48, 3), np.uint8), r"the video has the shape \(32, 48, 3\): pass a file"),
        (np.zeros((2, 8, 32, 48, 3), np.uint8), "2 videos are given to go on from: pass one"),
        ([list(VIDEO), list(VIDEO)], "2 videos are given to go on from: pass one"),
        (torch.zeros(8, 32, 48, 3), r"a frame of the video has the shape \(32, 48, 3\): pass \[channels, height, wid"),
        (np.full((8, 32, 48, 3), 3.0), "a frame of the video holds floats from 3 to 3"),
        (["a.png"] * 8, "a frame of the video is of type str"),
        ([None] * 8, "a frame of the video is of type NoneType"),
    ],
)
def test_what_is_no_video_is_refused(video: Any, message: str) -> None:
    with pytest.raises(MotionCacheError, match=message):
        video_frames(video, 32, 48, 4, 24)
