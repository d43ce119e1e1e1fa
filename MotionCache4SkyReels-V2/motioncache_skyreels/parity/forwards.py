"""Golden data of single forwards: full attention, block-causal, chunk by chunk, and selected tokens of one chunk."""

from collections.abc import Sequence

import torch
from diffusers import SkyReelsV2Transformer3DModel

from motioncache.decision import Decision, Memory, Proposal, Request
from motioncache.engine import Engine
from motioncache.policies.none import NoCache
from motioncache.presets import MotionCacheConfig
from motioncache.trace import Phase
from motioncache_eval.parity import FileReport
from motioncache_skyreels.hook import patch_blocks
from motioncache_skyreels.parity.golden import LATENTS, Golden, build_transformer
from motioncache_skyreels.patch import Patch
from motioncache_skyreels.schedule import Matrices, Schedule
from motioncache_skyreels.step_distance import StepDistance
from motioncache_skyreels.window import Window


class Scripted(NoCache):
    """Computes everything at step 0 and the given tokens afterwards; keeps what came out of the blocks."""

    def __init__(self, due: torch.Tensor) -> None:
        self.due = due
        self.hidden: list[torch.Tensor] = []

    @property
    def kept(self) -> int:
        return 1

    def settle(
        self, requests: Sequence[Request], proposals: Sequence[Proposal], masks: Sequence[torch.Tensor | None]
    ) -> list[Decision]:
        return [
            Decision(phase=Phase.token, due=True if request.step == 0 else self.due, candidates=0)
            for request in requests
        ]

    def remember(
        self, request: Request, proposal: Proposal, decision: Decision, hidden: torch.Tensor, predecessor: Memory
    ) -> Memory:
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
    patch_blocks(Patch(), transformer)
    full = _run(transformer, golden, NoCache(), [("x", "t")], frames, causal=False)
    report.compare("noncausal", full, tensors["noncausal"], LATENTS)
    causal = _run(transformer, golden, NoCache(), [("x", "t")], chunk_frames)
    report.compare("causal", causal, tensors["causal"], LATENTS)
    report.compare("reference_chunked", causal, tensors["reference_chunked"], LATENTS)
    for name, stale in (("selective_correct", False), ("selective_reference", True)):
        policy = Scripted(due)
        calls = [("x", "t_mixed"), ("x_sel", "t_mixed")]
        _run(transformer, golden, policy, calls, chunk_frames, stale=stale)
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
    stale: bool = False,
) -> torch.Tensor:
    """Run model calls of (latents, timesteps) in one window; after the first only the last chunk advances."""
    tensors = golden.tensors
    timesteps = torch.cat([tensors[t] for _, t in calls])
    advances = torch.ones_like(timesteps, dtype=torch.bool)
    advances[1:, :-chunk_frames] = False
    matrices = Matrices(timesteps=timesteps, update_mask=advances, valid_interval=[], prefix_frames=0)
    window = Window(
        transformer,
        Engine(policy),
        Schedule(matrices, chunk_frames=chunk_frames, finished_visits=False),
        {},
        texts={},
        branches=("cond",),
        causal=causal,
        stale_modulation=stale,
    )
    fps = [golden.about["fps_index"]]
    return [window.forward("cond", tensors[x], tensors[t], tensors["ctx"], fps) for x, t in calls][-1]
