"""The picture of a decision belongs to the last window of the video."""

from collections.abc import Callable

import numpy as np

import motioncache
from motioncache import MotionCacheConfig
from motioncache.api import get_hook
from motioncache_eval.motion_map import MotionRecorder

from .conftest import generate, make_pipeline


def test_the_drawn_decision_is_of_the_last_window(config: Callable[..., MotionCacheConfig]) -> None:
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, config())
    recorder = MotionRecorder("cond")
    recorder.attach(get_hook(pipeline))
    latents = generate(pipeline, num_frames=137, overlap_history=17)  # two windows of one size
    trace = motioncache.last_trace(pipeline)
    assert trace.windows[0].grid == trace.windows[1].grid
    frames = 4 * (latents.shape[2] - 1) + 1
    video = np.broadcast_to(np.arange(frames, dtype=np.uint8)[:, None, None, None], (frames, 16, 32, 3))
    drawn = recorder.motion_map(trace, video)
    assert drawn is not None
    chunk, step = (int(part.split()[-1]) for part in drawn.title.split(",")[:2])
    shown = [
        r for r in trace.records if (r.window, r.chunk, r.step, r.branch) == (1, chunk, step, "cond") and r.denoises
    ]
    assert len(shown) == 1
    assert shown[0].due is not None
    middle = [i - 16 for i in shown[0].due.tolist() if 16 <= i < 24]  # the third of five latent frames of 8 tokens
    assert np.flatnonzero(~drawn.reused).tolist() == middle
    latent_frame = 15 + 5 * chunk + 2  # the last window begins at latent frame 15 of 35
    assert drawn.frame[0, 0, 0] == 4 * latent_frame
