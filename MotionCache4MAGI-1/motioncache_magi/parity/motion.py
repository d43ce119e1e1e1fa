"""Golden runs of cache methods: corrected behaviour in `_fixed` files, published in `_ref` files."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch

from motioncache.decision import Call, Memory
from motioncache.distance import relative_l1
from motioncache.grid import TokenGrid
from motioncache.policies.distance import Distance
from motioncache.policies.policy import Policy
from motioncache.policies.wrapper import PolicyWrapper
from motioncache.record import Phase, Record, WindowShape
from motioncache_eval.parity import EXACT, FileReport
from motioncache_magi.cache.config import MagiReuseConfig
from motioncache_magi.cache.hook import MagiHook
from motioncache_magi.cache.motioncache import MagiMemory, MagiMotionCache, MagiMotionCacheConfig, motion_weight
from motioncache_magi.cache.teacache import MagiTeaCacheConfig
from motioncache_magi.compat.published import PublishedAdapter, PublishedMotionCacheConfig, PublishedTeaCacheConfig
from motioncache_magi.model.config import MagiConfig
from motioncache_magi.model.dit import VideoDiT, to_patches
from motioncache_magi.parity.golden import DISTANCES, FLOAT, WEIGHTS, Golden
from motioncache_magi.parity.videos import golden_sampler, sampled
from motioncache_magi.sampling.sampler import Sampler
from motioncache_magi.sampling.schedule import WindowSchedule

VOTE = 4 / 6
"""Published: more than four of the six latent frames of a chunk."""


def check_motion_video(golden: Golden) -> FileReport:
    """Latents, the number of reused tokens at every step of every chunk, and their masks."""
    report, tensors = FileReport(golden.name), golden.tensors
    inputs = golden.sibling(golden.about["inputs_in"])
    cache = cache_config(golden.about["motion_config"], published=golden.name.endswith("_ref"))
    hook, sampler = _hooked_sampler(golden, cache)
    hook.engine.policy = ComparesWithNoise(hook.engine.policy, inputs)
    report.compare("latents", sampled(sampler, inputs), tensors["latents"], FLOAT)
    records = list(hook.engine.trace.denoise_records())
    log = [(r.iteration, r.chunk, r.step, r.tokens - r.computed) for r in records]
    report.compare("reuse_log", torch.tensor(log), tensors["reuse_log"], EXACT)
    if "token_masks" in tensors:
        masks = [_reused(record) for record in records if record.step >= cache.token_phase_begin]
        report.compare("token_masks", torch.stack(masks), tensors["token_masks"], EXACT)
    return report


def check_teacache_video(golden: Golden) -> FileReport:
    """Latents, and at which steps the whole window is reused."""
    report, given = FileReport(golden.name), golden.about["motion_config"]
    kind = PublishedTeaCacheConfig if golden.name.endswith("_ref") else MagiTeaCacheConfig
    cache = kind(
        warmup=max(given["no_reuse_first_n_steps"] - 1, 0),
        threshold=max(given["rel_l1_thresh"], 0.0),
        refresh_clean=False,
    )
    hook, sampler = _hooked_sampler(golden, cache)
    inputs = golden.sibling(golden.about["inputs_in"])
    report.compare("latents", sampled(sampler, inputs), golden.tensors["latents"], FLOAT)
    total = hook.engine.trace.windows[0].iterations
    computed = dict.fromkeys(range(total), 0)
    for record in hook.engine.trace.denoise_records():
        computed[record.iteration] += record.computed
    log = [(step, -1, 0, int(tokens == 0)) for step, tokens in computed.items()]
    report.compare("reuse_log", torch.tensor(log), golden.tensors["reuse_log"], EXACT)
    return report


def _hooked_sampler(golden: Golden, cache: MagiReuseConfig) -> tuple[MagiHook, Sampler]:
    """A sampler of the golden inputs that a cache takes part in."""
    inputs = golden.sibling(golden.about["inputs_in"])
    config = MagiConfig.from_dict(golden.about["config"], where=golden.name)
    hooks: list[MagiHook] = []

    def create(model: VideoDiT, *args: Any, **options: Any) -> Sampler:
        hooks.append(PublishedAdapter().hook(SimpleNamespace(config=config, transformer=model), cache))
        return hooks[0].create_sampler(model, *args, **options)

    sampler = golden_sampler(inputs, config, create)
    return hooks[0], sampler


class ComparesWithNoise(PolicyWrapper):
    """What all golden runs do with a given video: the first new chunk is compared with noise, which stands where the
    given chunks never were put. The product compares it with the given video.
    """

    def __init__(self, policy: Policy, inputs: Golden) -> None:
        super().__init__(policy)
        self._noise = inputs.tensors["noise"][0]

    def remember_prefix(self, hidden: torch.Tensor, window: WindowShape) -> Memory:
        frames = window.grid.chunk_frames
        return MagiMemory(last_frame=to_patches(self._noise[:, frames - 1 : frames])[None])


def check_motion_unit(golden: Golden) -> FileReport:
    """Accumulated distances, decisions and masks along a given trajectory, and motion weights of given latents."""
    report = FileReport(golden.name)
    inputs = golden if "feats" in golden.tensors else golden.sibling(golden.name.replace("_fixed", "_ref"))
    for name, case in golden.about["cases"].items():
        given = case["config"]
        if given["no_reuse_mode"] == "first" and not given["whole_calc_when_cross"]:
            _check_decisions(report, golden, inputs, name, given)
    if golden is inputs:
        _check_weights(report, golden)
    return report


def _check_decisions(report: FileReport, golden: Golden, inputs: Golden, name: str, given: dict[str, Any]) -> None:
    about, features = golden.about, inputs.tensors["feats"]
    frames, rows, columns = about["tokens_grid"]
    grid = TokenGrid(frames=frames * about["chunks"], height=rows, width=columns, chunk_frames=frames)
    config = cache_config(given, published=golden.name.endswith("_ref"))
    policy = config.create_policy(_schedule(about))
    assert isinstance(policy, MagiMotionCache)
    window = WindowShape(grid=grid, iterations=len(about["index"]), branches=("text",), causal=True)
    tokens = grid.tokens_per_chunk
    memories: dict[int, MagiMemory] = {}
    last: dict[int, torch.Tensor] = {}
    found: dict[str, list[torch.Tensor]] = {key: [] for key in ("chunk_acc", "chunk_flags", "token_acc", "token_masks")}
    for row, (step, chunk, count) in enumerate(about["index"]):
        keep = (0,) if config.measures_tokens(count) else ()
        distance = relative_l1(features[row], last[chunk], keep=keep) if chunk in last else 0.0
        last[chunk] = features[row]
        memory = memories.get(chunk, MagiMemory())
        if step > 0:
            weight = inputs.tensors["weights_after_step"][step - 1][grid.chunk_of_frames(chunk)]
            memory = replace(memory, weight=weight.flatten())
        call = Call(
            branch="text", chunk=chunk, step=count, iteration=step, tokens=tokens, attended=tokens, distance=distance
        )
        decision = policy.decide_chunk(call, memory, window)
        mask = decision.due if isinstance(decision.due, torch.Tensor) else None
        remembered = policy.remember(decision, torch.zeros(1, tokens, 1), window, None)
        assert isinstance(remembered, MagiMemory)
        assert remembered.chunk_distance is not None
        assert remembered.token_distance is not None
        memories[chunk] = remembered
        in_token_phase = decision.phase is Phase.token and mask is not None
        reused = decision.phase is Phase.chunk and mask is not None and not mask.any()
        found["chunk_acc"].append(remembered.chunk_distance)
        found["token_acc"].append(remembered.token_distance)
        found["chunk_flags"].append(torch.tensor(reused))
        found["token_masks"].append(~mask if in_token_phase and mask is not None else torch.zeros(tokens) > 0)
    for key, values in found.items():
        if f"{name}.{key}" not in golden.tensors:  # of methods that decide for whole chunks only
            continue
        theirs = golden.tensors[f"{name}.{key}"]
        known = ~theirs.isnan() if theirs.is_floating_point() else torch.ones_like(theirs, dtype=torch.bool)
        tolerance = DISTANCES if theirs.is_floating_point() else EXACT
        report.compare(f"{name}.{key}", torch.stack(values)[known], theirs[known], tolerance)


def _check_weights(report: FileReport, golden: Golden) -> None:
    """Compare the weights of the latents after some steps; only chunks that have entered the window have weights."""
    about, tensors = golden.about, golden.tensors
    frames = about["tokens_grid"][0]
    for row, step in enumerate(about["x_after_step_rows"]):
        latents, theirs = tensors["x_after_step"][row], tensors["weights_after_step"][step]
        first, end = about["window_per_step"][step]
        for chunk in range(first, end):
            here = slice(chunk * frames, (chunk + 1) * frames)
            patches = to_patches(latents).view(latents.shape[1], theirs.shape[1], -1)
            before = patches[here.start - 1 : here.start] if chunk > 0 else None
            ours = motion_weight(patches[here], before, 0.6, 1.0)
            report.compare(f"weights after step {step}, chunk {chunk}", ours, theirs[here], WEIGHTS)


def _schedule(about: dict[str, Any]) -> WindowSchedule:
    return WindowSchedule(
        chunks=about["chunks"], prefix_chunks=0, steps=about["num_steps"], window=4, ranges=(), clean_range=1
    )


def _reused(record: Record) -> torch.Tensor:
    mask = torch.full((record.tokens,), record.computed == 0)
    if record.due is not None:
        mask[:] = True
        mask[record.due] = False
    return mask


def cache_config(given: dict[str, Any], *, published: bool) -> MagiMotionCacheConfig:
    """From the fields of the published YAML file; a negative threshold means that everything is due."""
    most = given["max_token_reuse_ratio"]
    ratio = (given["initial_token_reuse_ratio"], given["final_token_reuse_ratio"])
    kind = PublishedMotionCacheConfig if published else MagiMotionCacheConfig
    return kind(
        warmup=given["warmup_steps"] - 1,
        chunk_phase_steps=given["chunk_wise_only_steps"] if given["token_wise_reuse"] else None,
        threshold=max(given["rel_l1_thresh"], 0.0),
        token_threshold=max(given["token_rel_l1_thresh"], 0.0),
        distance=Distance.per_token if given["tokenwise_l1_mode"] == "token" else Distance.per_chunk,
        floor=given["temporal_weight_floor"],
        power=given["temporal_weight_power"],
        weights_once=given["compute_l1_weights_once"],
        reuse_ratio=(most, most) if None in ratio else ratio,
        temporal_vote=VOTE if given["enable_temporal_voting"] else None,
        refresh_clean=False,
        nearly_clean=not given["discard_nearly_clean_chunk"],
    )
