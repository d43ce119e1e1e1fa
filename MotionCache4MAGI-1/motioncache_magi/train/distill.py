"""Distils the guidance of the base model: a model of one branch learns the joined result of the three branches."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from motioncache_magi.model.config import MagiConfig
from motioncache_magi.model.dit import VideoDiT
from motioncache_magi.model.packed import Text
from motioncache_magi.sampling.guidance import Guidance
from motioncache_magi.sampling.step import Step, distilled_step_size
from motioncache_magi.text.chunks import NULL_TEXT_LENGTH
from motioncache_magi.train.forward import TrainChunk, training_forward
from motioncache_magi.train.transformer import CHUNK, LONG_BATCH, STEPS, clip_chunks, draw_step
from motioncache_train.captions import CaptionEncoder
from motioncache_train.latents import LatentSet, weighted_error
from motioncache_train.loop import Losses, TrainConfig, train


def distilled_config(config: MagiConfig) -> MagiConfig:
    """Derive the student's configuration from the teacher's."""
    return replace(config, runtime=replace(config.runtime, cfg_number=1), engine=replace(config.engine, distill=True))


def train_distilled(
    config: TrainConfig, teacher: VideoDiT, settings: MagiConfig, data: LatentSet, encode: CaptionEncoder
) -> VideoDiT:
    """Train a copy of the teacher on whole windows.

    Args:
        settings: the teacher's configuration, whose guidance is distilled.
        data: clips of whole windows.
    """
    torch.manual_seed(config.seed)
    student = VideoDiT(teacher.config).to(config.device)
    student.load_state_dict(teacher.state_dict())
    guidance = Guidance.of(settings)

    def loss(step: int) -> Losses:
        rng = np.random.default_rng((config.seed, 0, step))
        rows = rng.integers(0, len(data), size=LONG_BATCH)
        return {"loss": distillation_loss(student, teacher, guidance, data, rows, rng, encode, config.device)}

    def validate(averaged: torch.nn.Module) -> dict[str, float]:
        rng = np.random.default_rng(7)
        rows = np.arange(16)
        with torch.inference_mode():
            value = distillation_loss(averaged, teacher, guidance, data, rows, rng, encode, config.device)  # pyright: ignore
        return {"loss": value.item()}

    vectors = ("x_embedder", "t_embedder", "y_embedder", "final_linear", "rope")
    return train(student, config, loss=loss, validate=validate, vectors=vectors)  # pyright: ignore[reportReturnType]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """Clips at drawn steps of the window schedule.

    Attributes:
        clean: latents `[clips, channels, frames, height, width]`.
        noise: noise of the same shape.
        captions: one caption per clip.
        steps: number of denoise steps of the schedule, which all clips share.
        drawn: for each clip its step, and the times of all steps.
        movers: movers of the chunks in the windows, clip after clip, `[chunks, chunk_frames, height, width]`.
    """

    clean: torch.Tensor
    noise: torch.Tensor
    captions: list[str]
    steps: int
    drawn: list[tuple[Step, list[float]]]
    movers: torch.Tensor


def distillation_loss(
    student: VideoDiT,
    teacher: VideoDiT,
    guidance: Guidance,
    data: LatentSet,
    rows: np.ndarray,
    rng: np.random.Generator,
    encode: CaptionEncoder,
    device: str,
) -> torch.Tensor:
    """Compute the weighted squared distance of the student's velocity from the teacher's guided one.

    All clips of a batch share the number of steps, which the student is told.

    Args:
        rows: indices of the clips in `data`.
    """
    batch = _draw_batch(data, rows, rng, device)
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        with torch.no_grad():
            target = _guided_velocity(teacher, guidance, batch, encode)
        clips = _chunks(student, batch, encode, text=True, distilled=True)
        velocity = torch.stack(training_forward(student, clips, distilled_step_size(batch.steps, 1)))
    return weighted_error(velocity, target, batch.movers, torch.ones((), device=device))


def _draw_batch(data: LatentSet, rows: np.ndarray, rng: np.random.Generator, device: str) -> _Batch:
    clean = data.latents[rows].float().to(device)
    noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32)).to(device)
    steps = int(rng.choice(STEPS))
    drawn = [draw_step(rng, clean.shape[2] // CHUNK, rng.uniform(), steps) for _ in rows]
    movers: list[torch.Tensor] = []
    for row, (step, _) in zip(rows, drawn, strict=True):
        movers += [data.movers[row, chunk * CHUNK : (chunk + 1) * CHUNK].to(device) for chunk in step.window]
    captions = [data.captions[row] for row in rows]
    return _Batch(clean=clean, noise=noise, captions=captions, steps=steps, drawn=drawn, movers=torch.stack(movers))


def _chunks(
    model: VideoDiT, batch: _Batch, encode: CaptionEncoder, *, text: bool, alone: bool = False, distilled: bool = False
) -> list[list[TrainChunk]]:
    """Prepare the chunks of each clip in one branch of guidance.

    Args:
        text: whether the chunks attend to their caption, and not to the null text.
        alone: whether every chunk sees itself only.
        distilled: whether the model is a distilled one.
    """
    device = batch.clean.device
    null = Text(model.embed_text(model.y_embedder.null_caption_embedding[:NULL_TEXT_LENGTH]))
    texts = [Text(model.embed_text(encode(caption).to(device))) if text else null for caption in batch.captions]
    return [
        clip_chunks(batch.clean[i], batch.noise[i], step, times, texts[i], null, alone=alone, distilled=distilled)
        for i, (step, times) in enumerate(batch.drawn)
    ]


def _guided_velocity(teacher: VideoDiT, guidance: Guidance, batch: _Batch, encode: CaptionEncoder) -> torch.Tensor:
    """Join the three branches of the teacher, float32 `[chunks, channels, chunk_frames, height, width]`."""
    clips = _chunks(teacher, batch, encode, text=True)
    with_text = torch.stack(training_forward(teacher, clips)).float()
    past = torch.stack(training_forward(teacher, _chunks(teacher, batch, encode, text=False))).float()
    alone = torch.stack(training_forward(teacher, _chunks(teacher, batch, encode, text=False, alone=True))).float()
    scales = [guidance.scales(chunk.t) for clip in clips for chunk in clip if chunk.counts]
    shape, device = (-1, 1, 1, 1, 1), batch.clean.device
    by_past = torch.tensor([scale.past for scale in scales], device=device).view(shape)
    by_text = torch.tensor([scale.text for scale in scales], device=device).view(shape)
    return (1 - by_past) * alone + (by_past - by_text) * past + by_text * with_text
