"""Record how tokens change while videos are sampled: `python -m motioncache_skyreels.record MODEL --output FOLDER`.

The stock pipeline samples every prompt without a cache, asynchronously, and forward hooks watch it. FOLDER gets one
file per prompt; a prompt that has a file is skipped. `python -m motioncache_eval.ranking FOLDER` reads the files.
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import SkyReelsV2DiffusionForcingPipeline, SkyReelsV2Transformer3DModel

from motioncache.errors import MotionCacheError
from motioncache_diffusers.autoencoder import decode
from motioncache_diffusers.terminal import run_command
from motioncache_eval.ranking.proxies import ChunkStep
from motioncache_eval.ranking.recording import Recorder, Recording
from motioncache_eval.video import to_uint8
from motioncache_skyreels.cli import load_model, model_parser
from motioncache_skyreels.job.config import JobConfig
from motioncache_skyreels.job.sample import run_pipeline


@dataclass(slots=True)
class Watch:
    """Forward hooks on a stock transformer that hand every denoise step of the cond branch to a recorder.

    At every iteration the model is called for all chunks, including those that wait or are finished. A chunk has taken
    a step when its timestep has changed. The step is recorded as the last call with the old timestep saw it.

    Attributes:
        grid: latent frames, rows and columns of tokens of the window that was watched last.
    """

    transformer: SkyReelsV2Transformer3DModel
    recorder: Recorder = field(default_factory=Recorder)
    _embedded: torch.Tensor | None = None
    _hidden: torch.Tensor | None = None
    _prompt: torch.Tensor | None = None
    _timesteps: dict[int, int] = field(default_factory=dict)
    _steps: dict[int, ChunkStep] = field(default_factory=dict)
    grid: tuple[int, int, int] = (0, 0, 0)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Watch the calls that are made inside the `with` block."""
        model = self.transformer
        hooks = [
            model.patch_embedding.register_forward_hook(self._store_embedded),
            model.blocks[-1].register_forward_hook(self._store_hidden),
            model.register_forward_hook(self._store_steps, with_kwargs=True),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
        for chunk in list(self._steps):  # no call came after the last step
            self._record(chunk)

    def _store_embedded(self, module: Any, inputs: Any, output: torch.Tensor) -> None:
        self._embedded = output  # [1, channels, frames, rows, columns]

    def _store_hidden(self, module: Any, inputs: Any, output: torch.Tensor) -> None:
        self._hidden = output  # [1, tokens, channels]

    def _store_steps(self, module: Any, inputs: Any, named: dict[str, Any], output: Any) -> None:
        if self._prompt is None:
            self._prompt = named["encoder_hidden_states"]
        if named["encoder_hidden_states"] is not self._prompt:
            return  # the uncond branch
        timesteps = named["timestep"][0].tolist()
        step = self._step_of_window(named["hidden_states"], named["timestep"][0], output[0])
        length = self.transformer.config.num_frame_per_block
        for chunk in range(len(timesteps) // length):
            start, timestep = chunk * length, timesteps[chunk * length]
            if chunk in self._steps and timestep != self._timesteps[chunk]:
                self._record(chunk)
            if timestep > 0:  # a finished chunk takes no further step
                self._timesteps[chunk] = timestep
                self._steps[chunk] = _frames_of(step, slice(max(start - 1, 0), start + length))

    def _record(self, chunk: int) -> None:
        self.recorder.add(chunk, self._steps.pop(chunk), self.transformer.config.num_frame_per_block)

    def _step_of_window(self, latents: torch.Tensor, timestep: torch.Tensor, velocity: torch.Tensor) -> ChunkStep:
        """What the model call saw and predicted, over all latent frames of the window."""
        assert self._embedded is not None
        assert self._hidden is not None
        _, _, frames, rows, columns = self._embedded.shape
        self.grid = (frames, rows, columns)
        sigma = timestep.float().view(1, 1, -1, 1, 1) / 1000
        return ChunkStep(
            latents=_tokens(latents, self.grid),
            embedded=_tokens(self._embedded, self.grid),
            hidden=self._hidden[0].float().unflatten(0, (frames, -1)),
            velocity=_tokens(velocity, self.grid),
            predicted=_tokens(latents - sigma * velocity, self.grid),
        )


def _tokens(x: torch.Tensor, grid: tuple[int, int, int]) -> torch.Tensor:
    """Reshape `[1, channels, frames, height, width]` to `[frames, tokens_per_frame, values]`."""
    frames, rows, columns = grid
    x = x[0].float().unflatten(3, (columns, -1)).unflatten(2, (rows, -1))  # [channels, frames, rows, p, columns, q]
    return x.permute(1, 2, 4, 0, 3, 5).reshape(frames, rows * columns, -1)


def _frames_of(step: ChunkStep, frames: slice) -> ChunkStep:
    """A copy of some latent frames."""
    return ChunkStep(**{name: getattr(step, name)[frames].clone() for name in ChunkStep.__slots__})


def record(pipeline: SkyReelsV2DiffusionForcingPipeline, job: JobConfig) -> Recording:
    """Sample the job's prompt once, and record it."""
    if job.long or job.ar_step == 0:
        raise MotionCacheError(
            "recording needs one window, sampled asynchronously: pass num_frames <= base_num_frames and ar_step > 0"
        )
    watch = Watch(pipeline.transformer)
    with watch.attached():
        latents = run_pipeline(pipeline, job)
    return watch.recorder.recording(job.prompt, to_uint8(decode(pipeline, latents)), watch.grid)


def check_prompt(path: Path, prompt: str) -> None:
    """Refuse a recording of another prompt under the file name of this one."""
    recorded = Recording.load(path).prompt
    if recorded != prompt:
        raise MotionCacheError(
            f"{path} is a recording of {recorded!r}, not of {prompt!r}: pass another --output folder"
        )


def main(arguments: list[str] | None = None) -> int:
    parser = model_parser("python -m motioncache_skyreels.record", __doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder for the recordings")
    options = parser.parse_intermixed_args(arguments)
    return run_command(lambda: run(options))


def run(options: argparse.Namespace) -> int:
    """Record the prompts that have no file yet."""
    pipeline, job, prompts = load_model(options)
    options.output.mkdir(parents=True, exist_ok=True)
    for i, prompt in enumerate(prompts):
        path = options.output / f"{i:02d}.npz"
        if path.exists():
            check_prompt(path, prompt)
            continue
        record(pipeline, replace(job, prompt=prompt, seed=job.seed + i)).save(path)
        print(f"{path}: {prompt}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
