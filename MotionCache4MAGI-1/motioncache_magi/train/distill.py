"""Distil the guidance of the base model: a model of one branch learns what the three branches give together."""

from dataclasses import replace

import numpy as np
import torch

from motioncache_magi.model.config import MagiConfig
from motioncache_magi.model.dit import VideoDiT
from motioncache_magi.model.packed import Text
from motioncache_magi.sampling.guidance import Guidance
from motioncache_magi.sampling.schedule import distilled_step_size
from motioncache_magi.text.chunks import NULL_TEXT_LENGTH
from motioncache_magi.train.forward import TrainChunk, training_forward
from motioncache_magi.train.transformer import CHUNK, LONG_BATCH, STEPS, clip_chunks, draw_step
from motioncache_train.captions import CaptionEncoder
from motioncache_train.latents import LatentSet, weighted_error
from motioncache_train.loop import Losses, TrainConfig, train


def distilled_config(config: MagiConfig) -> MagiConfig:
    """The configuration of the student."""
    return replace(config, runtime=replace(config.runtime, cfg_number=1), engine=replace(config.engine, distill=True))


def train_distilled(
    config: TrainConfig, teacher: VideoDiT, settings: MagiConfig, data: LatentSet, encode: CaptionEncoder
) -> VideoDiT:
    """Train a copy of the teacher on whole windows.

    Args:
        settings: the teacher's configuration, whose guidance is distilled.
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
    """Weighted squared distance of the student's velocity from the teacher's guided one.

    All clips of a batch share the number of steps, which the student is told.
    """
    clean = data.latents[rows].float().to(device)
    noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32)).to(device)
    steps = int(rng.choice(STEPS))
    drawn = [draw_step(rng, clean.shape[2] // CHUNK, rng.uniform(), steps) for _ in rows]

    def clips(model: VideoDiT, *, text: bool, alone: bool = False, distilled: bool = False) -> list[list[TrainChunk]]:
        null = Text(model.embed_text(model.y_embedder.null_caption_embedding[:NULL_TEXT_LENGTH]))
        captions = [data.captions[row] for row in rows]
        words = [Text(model.embed_text(encode(caption).to(device))) if text else null for caption in captions]
        return [
            clip_chunks(clean[i], noise[i], step, times, words[i], null, alone=alone, distilled=distilled)
            for i, (step, times) in enumerate(drawn)
        ]

    with torch.autocast(torch.device(device).type, torch.bfloat16):
        with torch.no_grad():
            with_text, past, alone = (
                torch.stack(training_forward(teacher, made))
                for made in (
                    clips(teacher, text=True),
                    clips(teacher, text=False),
                    clips(teacher, text=False, alone=True),
                )
            )
        made = clips(student, text=True, distilled=True)
        velocity = torch.stack(training_forward(student, made, distilled_step_size(steps, 1)))
    counted = [chunk.t for clip in made for chunk in clip if chunk.counts]
    scales = [guidance.scales(t) for t in counted]
    shape = (-1, 1, 1, 1, 1)
    by_past = torch.tensor([s.past for s in scales], device=device).view(shape)
    by_text = torch.tensor([s.text for s in scales], device=device).view(shape)
    target = (1 - by_past) * alone.float() + (by_past - by_text) * past.float() + by_text * with_text.float()
    movers = torch.stack(
        [
            data.movers[row, chunk * CHUNK : (chunk + 1) * CHUNK].to(device)
            for row, (step, _) in zip(rows, drawn, strict=True)
            for chunk in step.window
        ]
    )
    return weighted_error(velocity, target, movers, torch.ones((), device=device))
