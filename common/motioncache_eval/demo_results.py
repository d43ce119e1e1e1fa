"""The figures of a demo: how they are measured, printed and written."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from motioncache.config import PolicyConfig
from motioncache_eval.metrics import fidelity
from motioncache_eval.report import environment
from motioncache_eval.sampling import Sample

Result = dict[str, float]
"""The figures of one preset, see `measure`."""

COLUMNS = {
    "seconds": ("seconds", 1, "{:.2f}"),
    "speed-up": ("speedup", 1, "{:.2f}x"),
    "TFLOPs": ("flops", 1e12, "{:.3f}"),
    "computed": ("computed_share", 1, "{:.1%}"),
    "PSNR dB": ("psnr_db", 1, "{:.2f}"),
    "SSIM": ("ssim", 1, "{:.4f}"),
}
"""The columns of the table: the figure behind each, its unit, and its format."""


def measure(samples: Mapping[str, Sample], videos: Mapping[str, torch.Tensor], vanilla: str) -> dict[str, Result]:
    """The cost of every preset, and how far it is from `vanilla`, if that was sampled.

    The FLOPs of vanilla are those that run, including the pairs of tokens that the attention mask hides.
    """
    counted = next(sample.summary for sample in samples.values() if sample.summary is not None)
    results: dict[str, Result] = {}
    for name, sample in samples.items():
        results[name] = {
            "seconds": sample.seconds,
            "flops": counted.vanilla_flops if sample.summary is None else sample.summary.flops,
            "computed_share": 1.0 if sample.summary is None else sample.summary.computed_share,
        }
        if vanilla in samples:
            quality = fidelity(videos[name], videos[vanilla])
            difference = (sample.latents.float() - samples[vanilla].latents.float()).abs().max()
            results[name] |= {
                "speedup": samples[vanilla].seconds / sample.seconds,
                "psnr_db": quality.psnr_db,
                "ssim": quality.ssim,
                "max_abs_latent_difference": float(difference),
            }
    return results


def table_rows(results: Mapping[str, Result]) -> list[list[str]]:
    """A heading and a row for each preset, as texts; columns that were not measured are left out."""
    measured = next(iter(results.values()))
    columns = {name: column for name, column in COLUMNS.items() if column[0] in measured}
    rows = [
        [name, *(text.format(row[key] / unit) for key, unit, text in columns.values())] for name, row in results.items()
    ]
    return [["", *columns], *rows]


def print_table(results: Mapping[str, Result]) -> None:
    """Print the figures of every preset."""
    rows = table_rows(results)
    width = max(12, *(len(row[0]) for row in rows))
    print()
    for name, *figures in rows:
        print(f"{name:{width}s}" + "".join(f"{figure:>10s}" for figure in figures))
    if "PSNR dB" in rows[0]:
        print("PSNR and SSIM against vanilla, on decoded frames; 120 dB stands for identical")
    print()


def run_report(
    job: Any,
    policies: Mapping[str, PolicyConfig | None],
    samples: Mapping[str, Sample],
    results: Mapping[str, Result],
) -> dict[str, Any]:
    """The content of `run.json`: configuration, versions, and per preset the policy and the figures."""
    chunks = {name: sample.summary.chunks for name, sample in samples.items() if sample.summary is not None}
    return {
        "config": asdict(job),
        "policies": {name: describe_policy(policy) for name, policy in policies.items()},
        "calibration": next(filter(None, map(used_calibration, samples.values())), None),
        **environment(job.device),
        "results": dict(results),
        "forecast_errors": forecast_notes(samples),
        "chunks": {name: [asdict(chunk) for chunk in rows] for name, rows in chunks.items()},
    }


def describe_policy(policy: PolicyConfig | None) -> dict[str, Any] | None:
    """The name of a policy's config with its fields; None without a cache."""
    fields: Any = policy
    return None if policy is None else {"name": type(policy).__name__, **asdict(fields)}


def forecast_notes(samples: Mapping[str, Sample]) -> list[str]:
    """What the videos say of their own forecasts, a sentence for each preset that made any."""
    summaries = {name: sample.summary for name, sample in samples.items() if sample.summary is not None}
    return [f"{name}: {one.forecast_errors}." for name, one in summaries.items() if one.forecast_errors is not None]


def used_calibration(sample: Sample) -> str | None:
    """What velocities were forecast with, in words; None where nothing was forecast."""
    return None if sample.summary is None else sample.summary.calibration
