"""The harness of the golden forwards, on a random model: a call is replayed with the text that it was made with."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from motioncache_magi.model.dit import from_patches
from motioncache_magi.model.forward import ChunkInput, run_chunks
from motioncache_magi.model.packed import Text
from motioncache_magi.parity import forwards, videos
from motioncache_magi.parity.forwards import CLEAN, LIMITED, Case, DispatcherSampler, guided_velocity
from motioncache_magi.parity.golden import FLOAT, Golden
from motioncache_magi.sampling.sampler import Sampler
from motioncache_magi.sampling.step import distilled_step_size

from .conftest import CHANNELS, WORDS, official_json, random_dit, small_config
from .test_parity import FIXTURES, needs_fixtures

TIMES = [CLEAN, 0.6, 0.2, 0.05]
CHUNKS, WIDTH, HEIGHT = 4, 2, 6


def random_case(folder: Path, layers: int) -> Case:
    """A cases file as the golden ones are, with random weights and inputs."""
    config = small_config("base", num_layers=layers)
    weights = {name: tensor.bfloat16() for name, tensor in random_dit(config.model).state_dict().items()}
    about = {
        "dit_random_weights": {"config": official_json(config)},
        "dit_random_cases": {"weights": "dit_random_weights", "chunk_width": WIDTH},
    }
    generator = torch.Generator().manual_seed(3)
    few = torch.arange(WORDS) < 5
    inputs = {
        "x": torch.randn(1, 16, CHUNKS * WIDTH, HEIGHT, 8, generator=generator),
        "t4": torch.tensor([TIMES]),
        "y": torch.randn(CHUNKS, WORDS, CHANNELS, generator=generator),
        "mask": few.expand(CHUNKS, -1).contiguous(),
        "y_null": torch.randn(1, WORDS, CHANNELS, generator=generator),
        "mask_null": few[None],
    }
    save_file(weights, folder / "dit_random_weights.safetensors")
    save_file(inputs, folder / "dit_random_cases.safetensors")
    (folder / "manifest.json").write_text(json.dumps(about))
    return Case.of(Golden(folder / "dit_random_cases.safetensors"))


def captions(case: Case) -> list[Text]:
    return [case.text(chunk) for chunk in range(CHUNKS)]


def without_past(case: Case) -> torch.Tensor:
    """Velocities of all chunks, each by itself at the start of a video, with the null text."""
    alone: list[torch.Tensor] = []
    for chunk, t in enumerate(TIMES):
        chunk_input = ChunkInput(
            tokens=case.model.embed(case.latents[:, chunk * WIDTH : (chunk + 1) * WIDTH]),
            first_frame=0,
            t=t,
            dropped=True,
            text=case.null(),
            cache_start=0,
            attended=slice(0, case.tokens),
        )
        with torch.inference_mode():
            (velocity,) = run_chunks(case.model, [chunk_input], case.cache, case.grid)
        alone.append(from_patches(velocity, *case.grid))
    return torch.cat(alone, dim=1)[None]


def expected(case: Case, *, cfg: int, clean_text: Text) -> torch.Tensor:
    """What the official dispatcher computes for chunks 1 to 3, where captions stand beside the text of chunk 0."""
    texts = [clean_text, *captions(case)[1:]]
    chunks = list(range(CHUNKS))
    if cfg == 1:
        size = distilled_step_size(case.config.runtime.num_steps, 1)
        return case.run(chunks, TIMES, texts, LIMITED, step_size=size)[:, :, WIDTH:]
    text = case.run(chunks, TIMES, texts, LIMITED)
    past = case.run(chunks, TIMES, [case.null()] * CHUNKS, LIMITED, dropped=True)
    alone = without_past(case)
    # Released scales of past and text: 1 and 0 at time 0.6, 1.5 and 7.5 at times 0.2 and 0.05.
    at_06, later = slice(WIDTH, 2 * WIDTH), slice(2 * WIDTH, None)
    guided = (1 - 1.5) * alone + (1.5 - 7.5) * past + 7.5 * text
    return torch.cat([past[:, :, at_06], guided[:, :, later]], dim=2)


def error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Largest error in standard deviations."""
    return float((ours - theirs).abs().max() / theirs.std(correction=0))


def test_a_clean_chunks_text_reaches_its_neighbour_in_layer_2_and_the_next_chunk_in_layer_3(tmp_path: Path) -> None:
    """Chunk 1 attends to chunk 0, and chunks 2 and 3 attend to chunk 1 but not to chunk 0."""
    moved: dict[int, list[bool]] = {}
    for layers in (1, 2, 3):
        case = random_case(tmp_path, layers)
        texts = captions(case)
        with_caption = case.run([0, 1, 2, 3], TIMES, texts, LIMITED)
        with_null = case.run([0, 1, 2, 3], TIMES, [case.null(), *texts[1:]], LIMITED)
        differs = (with_caption != with_null).unflatten(2, (CHUNKS, WIDTH))  # [1, channels, chunks, frames, ...]
        moved[layers] = differs.transpose(0, 2).flatten(1).any(dim=1).tolist()
    assert moved == {1: [True, False, False, False], 2: [True, True, False, False], 3: [True, True, True, True]}


@pytest.mark.parametrize("cfg", [1, 3])
def test_a_step_with_a_clean_chunk_is_replayed_with_its_caption(tmp_path: Path, cfg: int) -> None:
    case = random_case(tmp_path, layers=3)
    ours = guided_velocity(case, cfg=cfg, times=TIMES, near=False, extra=True)
    assert error(ours, expected(case, cfg=cfg, clean_text=case.text(0))) < FLOAT.deviation
    assert error(ours, expected(case, cfg=cfg, clean_text=case.null())) > 100 * FLOAT.deviation


@pytest.mark.parametrize("cfg", [1, 3])
def test_sampling_itself_gives_a_clean_chunk_the_null_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cfg: int
) -> None:
    monkeypatch.setattr(forwards, "DispatcherSampler", Sampler)
    case = random_case(tmp_path, layers=3)
    ours = guided_velocity(case, cfg=cfg, times=TIMES, near=False, extra=True)
    assert error(ours, expected(case, cfg=cfg, clean_text=case.null())) < FLOAT.deviation


@needs_fixtures
@pytest.mark.parametrize("name", ["e2e_base_cfg3", "e2e_distill_n16_cfg1"])
def test_golden_videos_deny_a_clean_chunk_its_caption(name: str) -> None:
    golden = Golden(FIXTURES / f"{name}.safetensors")
    assert videos.check_video(golden).passed
    assert not videos.check_video(golden, DispatcherSampler).passed
