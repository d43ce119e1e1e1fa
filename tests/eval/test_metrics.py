import math

import pytest
import torch

from motioncache.errors import MotionCacheError
from motioncache_eval.metrics import fidelity, moving_pixels, psnr, psnr_of_frames, psnr_where, require_picture, ssim


def test_psnr_is_the_log_of_one_mean_squared_error() -> None:
    reference = torch.zeros(2, 3, 12, 12)
    video = reference.clone()
    video[0] += 0.1  # squared error 0.01 in one of two frames: 0.005
    assert psnr(video, reference) == pytest.approx(-10 * math.log10(0.005), abs=1e-4)
    assert psnr_of_frames(video, reference) == pytest.approx([20.0, 120.0], abs=1e-4)


def test_identical_videos_have_120_db_and_ssim_1() -> None:
    video = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert fidelity(video, video).psnr_db == pytest.approx(120)
    assert fidelity(video, video).ssim == pytest.approx(1)


def test_ssim_agrees_with_its_definition_at_a_pixel() -> None:
    generator = torch.Generator().manual_seed(1)
    a, b = torch.rand(2, 1, 3, 11, 11, generator=generator, dtype=torch.float64)
    offsets = torch.arange(-5, 6, dtype=torch.float64)
    line = torch.exp(-(offsets**2) / (2 * 1.5**2))
    window = line[:, None] * line / line.sum() ** 2
    from motioncache_eval.metrics import _ssim_map

    for channel in range(3):
        x, y = a[0, channel], b[0, channel]
        mx, my = (window * x).sum(), (window * y).sum()
        vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
        cov = (window * (x - mx) * (y - my)).sum()
        c1, c2 = 1e-4, 9e-4
        expected = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
        assert _ssim_map(a, b)[0, channel, 5, 5] == pytest.approx(expected.item())


def test_more_noise_is_less_similar() -> None:
    generator = torch.Generator().manual_seed(2)
    video = torch.rand(2, 3, 24, 24, generator=generator)
    noise = torch.randn(video.shape, generator=generator)
    scores = [ssim((video + s * noise).clamp(0, 1), video) for s in (0.02, 0.1, 0.4)]
    assert scores == sorted(scores, reverse=True)


def test_videos_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        fidelity(torch.zeros(2, 3, 16, 16), torch.zeros(3, 3, 16, 16))


def test_a_square_that_moves_is_told_from_what_rests() -> None:
    video = torch.full((3, 3, 20, 24), 0.2)
    for frame in range(3):
        video[frame, :, 8:16, 2 * frame : 2 * frame + 8] = 1.0
    moving = moving_pixels(video)
    assert moving.shape == (3, 20, 24)
    assert moving[1, 8:16, :16].all()
    assert torch.equal(moving[0], moving[1])
    assert not moving[:, :8].any()
    assert not moving[:, 16:].any()  # the last rows are half a patch
    assert not moving[:, :, 16:].any()
    worse = video + 0.1 * moving[:, None]
    assert psnr_where(worse, video, moving) == pytest.approx(20.0, abs=1e-3)
    assert psnr_where(worse, video, ~moving) == pytest.approx(120.0)


def test_where_nothing_moves_there_is_no_figure() -> None:
    video = torch.zeros(2, 3, 16, 16)
    assert psnr_where(video, video, moving_pixels(video)) is None
    assert not moving_pixels(video[:1]).any()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_video_with_values_that_are_no_numbers_has_no_figure(value: float) -> None:
    """Not even beside itself, where a difference of NaN could count as none."""
    whole = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    broken = whole.clone()
    broken[1, 0, 2, 3] = value
    everywhere = torch.ones(3, 16, 16, dtype=torch.bool)
    says = "1 of the video's 3 frames hold values that are NaN or infinite, the first of them frame 1"
    for pair in ((broken, whole), (whole, broken), (broken, broken)):
        for figure in (psnr, psnr_of_frames, ssim, fidelity, lambda a, b: psnr_where(a, b, everywhere)):
            with pytest.raises(MotionCacheError, match=says):
                figure(*pair)
    with pytest.raises(MotionCacheError, match=says):
        require_picture(broken)


def test_a_video_of_one_colour_shows_nothing() -> None:
    black = torch.full((2, 3, 16, 16), 0.001)
    with pytest.raises(MotionCacheError, match="the video is black in all of its 2 frames"):
        require_picture(black)
    blue = black.clone()
    blue[:, 2] = 0.5
    with pytest.raises(MotionCacheError, match=r"of one colour \(0.00, 0.00, 0.50\)"):
        require_picture(blue)
    blue[1, 2, 3, 3] = 0.51  # one pixel that anybody could see
    require_picture(blue)
