"""Comparison of two tensors under a tolerance, collected per file."""

from dataclasses import dataclass, field
from enum import Enum

import torch


class Tolerance(Enum):
    """What is compared, and how closely it has to agree: (absolute, relative)."""

    exact = (0.0, 0.0)
    """Masks and counts."""
    latents = (2e-5, 0.0)
    weights = (1e-6, 0.0)
    distances = (1e-12, 1e-5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One quantity: its largest error in units of its tolerance (1 is the limit), and as a plain figure."""

    name: str
    tolerance: Tolerance
    error: float
    mismatches: int
    elements: int

    @property
    def passed(self) -> bool:
        return self.mismatches == 0

    def __str__(self) -> str:
        verdict = "ok  " if self.passed else "FAIL"
        detail = f"largest error {self.error:.2e}" if self.tolerance is not Tolerance.exact else "masks and counts"
        return (
            f"  {verdict} {self.name:32s} {detail}, {self.mismatches} of {self.elements} outside {self.tolerance.name}"
        )


@dataclass(slots=True)
class FileReport:
    """All comparisons of one golden file."""

    name: str
    comparisons: list[Comparison] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return bool(self.comparisons) and all(comparison.passed for comparison in self.comparisons)

    def compare(self, name: str, ours: torch.Tensor, golden: torch.Tensor, tolerance: Tolerance) -> None:
        """Add a comparison; a wrong shape or a NaN counts as a mismatch of every element."""
        absolute, relative = tolerance.value
        if ours.shape != golden.shape:
            self.comparisons.append(
                Comparison(
                    name=f"{name}: shape {tuple(ours.shape)}, golden {tuple(golden.shape)}",
                    tolerance=tolerance,
                    error=float("inf"),
                    mismatches=golden.numel(),
                    elements=golden.numel(),
                )
            )
            return
        difference = (ours.double() - golden.double()).abs()
        within = difference <= absolute + relative * golden.double().abs()
        scale = golden.double().abs().clamp(min=1e-12) if relative else torch.ones(())
        self.comparisons.append(
            Comparison(
                name=name,
                tolerance=tolerance,
                error=float((difference / scale).max()) if golden.numel() else 0.0,
                mismatches=int((~within).sum()),
                elements=golden.numel(),
            )
        )

    def __str__(self) -> str:
        lines = [f"{'ok  ' if self.passed else 'FAIL'} {self.name}"]
        return "\n".join(lines + [str(comparison) for comparison in self.comparisons])
