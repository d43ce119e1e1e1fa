"""Golden data of single functions: frame difference, distance, decision."""

from dataclasses import replace

import torch

from motioncache.decision import Call
from motioncache.distance import polynomial, relative_l1
from motioncache.grid import TokenGrid
from motioncache.motion import Normalisation, motion_score, motion_weight
from motioncache.policies.motioncache import MotionCache, MotionCacheConfig, MotionMemory
from motioncache.record import WindowShape
from motioncache_eval.parity import EXACT, FileReport
from motioncache_skyreels.parity.golden import DISTANCES, WEIGHTS, Golden


def check_frame_difference(golden: Golden) -> FileReport:
    """Motion weights over calls that hand the last latent frame on from chunk to chunk."""
    report, tensors = FileReport(golden.name), golden.tensors
    for case in golden.about["cases"]:
        grid = (case["frames_per_chunk"], case["H"] * case["W"])
        prefix = f"{case['case']}."
        modes = sorted({name.split(".out.")[0] for name in tensors if name.startswith(prefix) and ".out." in name})
        for mode in modes:
            last: dict[int, torch.Tensor] = {}
            for i, chunk in enumerate(case["call_order_chunk_ids"]):
                hidden = tensors[f"{prefix}in.{i}"].unflatten(1, grid)
                weight = _weight(hidden, last.get(chunk - 1), chunk, mode.removeprefix(prefix))
                last[chunk] = hidden[:, -1]
                report.compare(f"{mode}.{i}", weight, tensors[f"{mode}.out.{i}"], WEIGHTS)
    constant = tensors.get("const.in")
    for name in tensors:
        if constant is not None and name.startswith("const.") and name.endswith(".out"):
            frames = golden.about["cases"][0]["frames_per_chunk"]
            weight = _weight(constant.unflatten(1, (frames, -1)), None, 0, name.split(".out")[0].removeprefix("const."))
            report.compare(name, weight, tensors[name], WEIGHTS)
    return report


def _weight(hidden: torch.Tensor, before: torch.Tensor | None, chunk: int, mode: str) -> torch.Tensor:
    normalisation, floor = mode.rsplit("_", 1)
    score = motion_score(hidden, before, missing=1.0 if chunk > 0 else torch.nan)
    return motion_weight(score, Normalisation(normalisation), float(floor)).flatten()


def check_distance(golden: Golden) -> FileReport:
    """Relative change and polynomial, for a chunk and per token."""
    report, tensors = FileReport(golden.name), golden.tensors
    coefficients = golden.about["coefficients_high_to_low"]
    for case in sorted({name.split(".")[0] for name in tensors} - {"poly"}):
        now, before = tensors[f"{case}.cur"], tensors[f"{case}.prev"]  # [batch, frames, 6, channels]
        change = relative_l1(now, before)
        report.compare(f"{case}.rel_l1", change[None], tensors[f"{case}.rel_l1"], DISTANCES)
        ours = torch.tensor([polynomial(float(change), coefficients)], dtype=torch.float64)
        report.compare(f"{case}.global", ours, tensors[f"{case}.global"], DISTANCES)
        per_frame = polynomial(relative_l1(now, before, keep=(1,)), coefficients)
        tokens = per_frame.repeat_interleave(golden.about["hw"])
        report.compare(f"{case}.token", tokens, tensors[f"{case}.token"], DISTANCES)
    values = torch.tensor([polynomial(x, coefficients) for x in tensors["poly.x"].tolist()], dtype=torch.float64)
    report.compare("poly", values, tensors["poly.y"], DISTANCES)
    return report


def check_decision(golden: Golden) -> FileReport:
    """Accumulate, threshold, vote, minimum update ratio, reset: step by step under scripted distances and weights."""
    report = FileReport(golden.name)
    for case in golden.about["cases"]:
        names = ("acc_post", "voted", "updated", "ratio", "skip", "phase2")
        ours = _replay(case, golden)
        for name in names:
            expected = golden.tensors[f"{case['case']}.{name}"]
            tolerance = WEIGHTS if name in ("acc_post", "ratio") else EXACT
            stacked = torch.stack(ours[name]).to(expected.dtype).reshape(expected.shape)
            report.compare(f"{case['case']}.{name}", stacked, expected, tolerance)
    return report


def _replay(case: dict, golden: Golden) -> dict[str, list[torch.Tensor]]:
    policy = MotionCache(
        MotionCacheConfig(
            warmup=case["warmup"],
            chunk_phase_updates=case["phase1_update_count"],
            threshold=case["threshold"],
            temporal_vote=case["temporal_threshold"],
            minimum_update_ratio=case["min_update_ratio"],
        )
    )
    grid = TokenGrid(frames=case["frames"], height=case["H"], width=case["W"], chunk_frames=case["frames"])
    window = WindowShape(grid=grid, iterations=0, branches=("cond",), causal=True)
    tokens = grid.tokens_per_chunk
    memory = MotionMemory(accumulated=torch.zeros(tokens), token_phase=case["phase1_update_count"] == 0)
    ours: dict[str, list[torch.Tensor]] = {k: [] for k in ("acc_post", "voted", "updated", "ratio", "skip", "phase2")}
    for i in range(case["steps"]):
        in_token_phase, step = memory.token_phase, case["warmup"] + 1 + i
        weight = golden.tensors[f"{case['case']}.weights_used"][i] if in_token_phase else None
        distance = float(golden.tensors[f"{case['case']}.dist"][i])
        call = Call(
            branch="cond", chunk=0, step=step, iteration=step, tokens=tokens, attended=tokens, distance=distance
        )
        decision = policy.decide_chunk(call, replace(memory, weight=weight), window)
        assert isinstance(decision.due, torch.Tensor)
        assert isinstance(decision.candidates, torch.Tensor)
        updated, count = decision.due, int(decision.candidates.sum())
        answer = replace(decision, due=bool(updated.any()))  # as the engine hands it on: some are computed, or none is
        memory = policy.remember(answer, torch.zeros(1, tokens, 1), window, None)
        assert isinstance(memory, MotionMemory)
        assert memory.accumulated is not None
        ours["acc_post"].append(memory.accumulated)
        ours["voted"].append(decision.candidates)
        ours["updated"].append(updated)
        ours["ratio"].append(torch.tensor(count / tokens, dtype=torch.float64))
        ours["skip"].append(torch.tensor(count > 0 and not updated.any()))
        ours["phase2"].append(torch.tensor(in_token_phase))
    return ours
