"""Golden data of whole videos: every decision, distance and weight of a trace, and the latents that came out."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import SkyReelsV2DiffusionForcingPipeline, SkyReelsV2Transformer3DModel

from motioncache.api import cached, get_hook
from motioncache.decision import Call, ChunkState, Decision, Memory
from motioncache.engine import Engine
from motioncache.errors import MotionCacheError
from motioncache.policies.motioncache import MotionMemory
from motioncache.policies.none import NoCacheConfig
from motioncache.policies.policy import Policy
from motioncache.policies.wrapper import PolicyWrapper
from motioncache.probe import Probe
from motioncache.record import Phase, WindowShape
from motioncache_eval.parity import EXACT, FileReport
from motioncache_skyreels.compat.published import PublishedAdapter
from motioncache_skyreels.parity.golden import DISTANCES, LATENTS, WEIGHTS, Golden, build_pipeline, cache_config
from motioncache_skyreels.window import BRANCHES

ORIGINAL, WARMUP, REUSE, FULL, SELECTIVE, SKIPPED = range(1, 7)
"""Codes of the golden `kind`: without the cache, warm-up, nothing due, all due, some due, too few due."""

QUANTITIES = {
    "kind": EXACT,
    "n_tokens": EXACT,
    "chunk_step": EXACT,
    "mask": EXACT,
    "voted": EXACT,
    "phase2": EXACT,
    "dist": DISTANCES,
    "acc_post": WEIGHTS,
    "weights_new": WEIGHTS,
}


def check_trace(golden: Golden) -> FileReport:
    """A trace with the cache on, and its final latents."""
    report = FileReport(golden.name)
    pipeline = build_pipeline(golden)
    with cached(pipeline, cache_config(golden), adapter=PublishedAdapter()):
        recorder = Recorder(golden, get_hook(pipeline).engine, pipeline.transformer)
        latents = _generate(pipeline, golden, golden.about["io"]["addnoise"])
    for name, expected in golden.tensors.items():
        window, _, quantity = name.partition(".")
        if name == "frames":
            report.compare(name, latents, expected, LATENTS)
        elif quantity in QUANTITIES:
            report.compare(name, recorder.tensor(window, quantity, expected), expected, QUANTITIES[quantity])
        elif quantity == "final_latents":
            report.compare(name, _window_latents(latents, window, golden), expected, LATENTS)
        elif name in recorder.calls:
            tolerance = EXACT if expected.dtype is torch.int64 else LATENTS
            report.compare(name, recorder.calls[name], expected, tolerance)
        else:
            raise MotionCacheError(f"{golden.name} holds {name}, which this check does not know")
    return report


def check_vanilla(golden: Golden) -> FileReport:
    """The preset `exact` against runs without a cache.

    Given latents are frozen here, with one draw of noise per window: runs that drew new noise at every iteration
    (`*_redrawn`) are another sample, and are left out.
    """
    report = FileReport(golden.name)
    for name, expected in golden.tensors.items():
        found = re.fullmatch(r"frames_addnoise(\d+)(_one_draw)?", name)
        if found is None:
            continue
        pipeline = build_pipeline(golden)
        with cached(pipeline, NoCacheConfig()):
            latents = _generate(pipeline, golden, int(found.group(1)))
        report.compare(name, latents, expected, LATENTS)
    return report


class Overheard(PolicyWrapper):
    """A policy that also keeps the masks it last proposed, by branch and chunk."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self.voted: dict[tuple[str, int], torch.Tensor] = {}

    def decide(self, calls: Sequence[Call], memories: Sequence[Memory], window: WindowShape) -> list[Decision]:
        decisions = super().decide(calls, memories, window)
        for decision in decisions:
            if isinstance(decision.candidates, torch.Tensor):
                self.voted[decision.call.branch, decision.call.chunk] = decision.candidates
        return decisions


class Recorder(Probe):
    """Collects what a trace file holds: per window, iteration, branch and chunk, and whole model calls."""

    def __init__(self, golden: Golden, engine: Engine, transformer: SkyReelsV2Transformer3DModel) -> None:
        self._wanted = set(golden.tensors)
        self._engine = engine
        self._policy = Overheard(engine.policy)
        self._values: dict[tuple[str, str], list[tuple[tuple[int, int, int], Any]]] = defaultdict(list)
        self._made: Counter[str] = Counter()
        self.calls: dict[str, torch.Tensor] = {}
        engine.policy, engine.probe = self._policy, self
        transformer.register_forward_hook(self._record_call, with_kwargs=True)

    @property
    def _window(self) -> str:
        return f"w{len(self._engine.trace.windows) - 1}"

    def committed(self, decision: Decision, state: ChunkState) -> None:
        call = decision.call
        where = (call.iteration, BRANCHES.index(call.branch), call.chunk)
        voted = self._policy.voted.get((call.branch, call.chunk))
        for quantity, value in _quantities(decision, state, voted).items():
            self._values[self._window, quantity].append((where, value))

    def _record_call(self, module: Any, args: Any, kwargs: dict[str, Any], output: tuple[torch.Tensor]) -> None:
        """A model call has ended; the pipeline calls the CFG branches in turn."""
        iteration, branch = divmod(self._made[self._window], len(self._engine.trace.windows[-1].branches))
        self._made[self._window] += 1
        prefix = f"{self._window}.it{iteration}."
        found = {
            f"{prefix}model_input": kwargs["hidden_states"],
            f"{prefix}timestep": kwargs["timestep"],
            f"{prefix}out_{BRANCHES[branch]}": output[0],
        }
        self.calls |= {name: value.clone() for name, value in found.items() if name in self._wanted}

    def tensor(self, window: str, quantity: str, like: torch.Tensor) -> torch.Tensor:
        """All values of a quantity laid out as in the golden tensor; chunks that were not visited have step -1."""
        filled = torch.full_like(like, -1 if quantity == "chunk_step" else 0)
        for where, value in self._values[window, quantity]:
            filled[where] = torch.as_tensor(value).to(like.dtype)
        return filled


def _quantities(decision: Decision, state: ChunkState, voted: torch.Tensor | None) -> dict[str, Any]:
    """What the golden files record of one chunk at one iteration."""
    call = decision.call
    if call.kv_only is not None:
        return {"kind": ORIGINAL, "n_tokens": decision.computed, "mask": 1, "chunk_step": -2}
    mask = torch.zeros(call.tokens)
    mask[decision.indices()] = 1
    found: dict[str, Any] = {"kind": _kind(decision), "n_tokens": decision.computed, "mask": mask}
    found["chunk_step"] = call.step
    if decision.phase is Phase.warmup:
        return found
    memory = state.memory
    assert isinstance(memory, MotionMemory)
    assert memory.accumulated is not None
    found |= {"dist": call.distance, "acc_post": memory.accumulated, "voted": voted}
    found["phase2"] = int(decision.phase is Phase.token)
    if memory.weight is not None:
        found["weights_new"] = memory.weight
    return found


def _kind(decision: Decision) -> int:
    if decision.phase is Phase.warmup:
        return WARMUP
    if decision.due is True:
        return FULL
    if decision.due is False:
        return SKIPPED if decision.candidates else REUSE
    return SELECTIVE


def _generate(pipeline: SkyReelsV2DiffusionForcingPipeline, golden: Golden, addnoise: int) -> torch.Tensor:
    """Run the pipeline with the golden inputs and seeds; returns latents."""
    io = golden.about["io"]
    inputs = golden.sibling(golden.about.get("inputs", "e2e_inputs.safetensors")).tensors
    pipeline.set_progress_bar_config(disable=True)
    torch.manual_seed(io["glob_seed"])
    return pipeline(
        prompt=None,  # pyright: ignore[reportArgumentType]
        prompt_embeds=inputs["prompt_embeds"],
        negative_prompt_embeds=inputs["negative_prompt_embeds"],
        height=8 * io["H"],
        width=8 * io["W"],
        num_frames=io["num_frames"],
        base_num_frames=io["base_num_frames"],
        overlap_history=io.get("overlap"),
        num_inference_steps=io["N"],
        guidance_scale=io["guidance"],
        ar_step=io["ar"],
        causal_block_size=io["blk"],
        addnoise_condition=addnoise,
        fps=io.get("fps", 24),
        generator=torch.Generator().manual_seed(io["gen_seed"]),
        output_type="latent",
    ).frames


def _window_latents(latents: torch.Tensor, window: str, golden: Golden) -> torch.Tensor:
    """The latent frames of one window, cut out of the whole video."""
    io = golden.about["io"]
    base, overlap = (io["base_num_frames"] - 1) // 4 + 1, ((io.get("overlap") or 1) - 1) // 4 + 1
    start = int(window.removeprefix("w")) * (base - overlap)
    return latents[:, :, start : start + base]
