"""Golden data of single forwards: full attention, block-causal, chunk by chunk, and selected tokens of one chunk."""

from collections.abc import Sequence

import torch
from diffusers import SkyReelsV2Transformer3DModel

from motioncache.decision import Call, Decision, Memory
from motioncache.engine import Engine
from motioncache.patch import Patch
from motioncache.policies.motioncache import MotionCacheConfig
from motioncache.policies.none import NoCache
from motioncache.record import Phase, WindowShape
from motioncache.step_distance import StepDistance
from motioncache_eval.parity import FileReport
from motioncache_skyreels.compat.published import PublishedMotionCacheWindow, without_finished
from motioncache_skyreels.opening import allocate, window_shape
from motioncache_skyreels.packed import BlockFunctions, after_attention, before_attention, patch_blocks
from motioncache_skyreels.parity.golden import LATENTS, Golden, build_transformer
from motioncache_skyreels.schedule import Matrices, Schedule
from motioncache_skyreels.window import Window


class Scripted(NoCache):
    """Computes everything at step 0 and the given tokens afterwards; keeps what came out of the blocks."""

    def __init__(self, due: torch.Tensor) -> None:
        self.due = due
        self.hidden: list[torch.Tensor] = []

    history = 1

    def decide(self, calls: Sequence[Call], memories: Sequence[Memory], window: WindowShape) -> list[Decision]:
        return [
            Decision(call=call, phase=Phase.token, due=True if call.step == 0 else self._mask(call)) for call in calls
        ]

    def _mask(self, call: Call) -> torch.Tensor:
        mask = torch.zeros(call.tokens, dtype=torch.bool)
        mask[self.due] = True
        return mask

    def remember(self, decision: Decision, hidden: torch.Tensor, window: WindowShape, predecessor: Memory) -> Memory:
        self.hidden.append(hidden)
        return None


@torch.inference_mode()
def check_forward(golden: Golden) -> FileReport:
    """All forwards of the file, through the packed pass."""
    report, tensors = FileReport(golden.name), golden.tensors
    transformer = build_transformer(golden.sibling("weights_diffusers.safetensors"))
    frames, chunk_frames = tensors["t"].shape[1], tensors["e0_last_chunk_per_frame"].shape[1]
    due = tensors["sel_idx"]
    distance = StepDistance(transformer, MotionCacheConfig(), golden.about["fps_index"])
    modulation = distance.modulation(tuple(tensors["t_mixed"][0, -chunk_frames:].tolist()))
    report.compare("e0_last_chunk_per_frame", modulation[None], tensors["e0_last_chunk_per_frame"], LATENTS)
    patch_blocks(Patch(), transformer, BlockFunctions(before_attention, after_attention))
    full = _run(transformer, golden, NoCache(), [("x", "t")], frames, causal=False)
    report.compare("noncausal", full, tensors["noncausal"], LATENTS)
    causal = _run(transformer, golden, NoCache(), [("x", "t")], chunk_frames)
    report.compare("causal", causal, tensors["causal"], LATENTS)
    report.compare("reference_chunked", causal, tensors["reference_chunked"], LATENTS)
    for name, window in (("selective_correct", Window), ("selective_reference", PublishedMotionCacheWindow)):
        policy = Scripted(due)
        calls = [("x", "t_mixed"), ("x_sel", "t_mixed")]
        _run(transformer, golden, policy, calls, chunk_frames, window=window)
        report.compare(name, policy.hidden[-1][:, due], tensors[name], LATENTS)
    mixed = policy.hidden[frames // chunk_frames - 1]
    report.compare("mixed_last_chunk", mixed, tensors["mixed_last_chunk_tokens_full"], LATENTS)
    return report


def _run(
    transformer: SkyReelsV2Transformer3DModel,
    golden: Golden,
    policy: NoCache,
    calls: Sequence[tuple[str, str]],
    chunk_frames: int,
    *,
    causal: bool = True,
    window: type[Window] = Window,
) -> torch.Tensor:
    """Run model calls of (latents, timesteps) in one window; after the first only the last chunk advances."""
    tensors = golden.tensors
    timesteps = torch.cat([tensors[t] for _, t in calls])
    advances = torch.ones_like(timesteps, dtype=torch.bool)
    advances[1:, :-chunk_frames] = False
    matrices = Matrices(timesteps=timesteps, update_mask=advances, valid_interval=[], prefix_frames=0)
    schedule = without_finished(Schedule(matrices, chunk_frames=chunk_frames))
    latents = tensors[calls[0][0]]
    shape = window_shape(transformer, latents, schedule, ("cond",), causal=causal)
    cache, engine = allocate(transformer, latents, shape), Engine(policy)
    engine.start_window(shape)
    made = window(
        transformer,
        engine,
        schedule.visits,
        shape,
        cache=cache,
        rotary=transformer.rope(latents),
        texts={},
        guided=lambda: False,
    )
    fps = [golden.about["fps_index"]]
    return [made.forward("cond", tensors[x], tensors[t], tensors["ctx"], fps) for x, t in calls][-1]
