"""The sensitivity that an automatic calibration takes, from the shipped ones: `python benchmarks/sensitivity_prior.py`.

Prints, by the sigma where a step ends, the sensitivity of each trained model divided by its geometric mean over these
levels, how many times they differ, and their geometric mean, which is `PRIOR_SENSITIVITY`.
"""

import numpy as np

from motioncache.forecast.automatic import PRIOR_SENSITIVITY, PRIOR_SIGMAS
from motioncache.forecast.budget import shipped_calibration
from motioncache.forecast.calibration import Calibration, sensitivity_at
from motioncache.forecast.prediction import Array, end_sigmas
from motioncache_magi.cache.adapter import MagiAdapter
from motioncache_skyreels.adapter import SkyReelsAdapter


def shipped() -> list[Array]:
    """The sensitivity of both models at the levels of the prior."""
    rows: list[Array] = []
    for adapter in (SkyReelsAdapter(), MagiAdapter()):
        calibration = Calibration.load(shipped_calibration(adapter.presets()))
        sensitivity = sensitivity_at(np.array(PRIOR_SIGMAS), end_sigmas(calibration.sigmas), calibration.sensitivity)
        rows.append(sensitivity / np.exp(np.log(sensitivity).mean()))
    return rows


def main() -> None:
    skyreels, magi = shipped()
    print("| sigma | SkyReels-V2 | MAGI-1 | differ by | mean | in the code |\n|--:|--:|--:|--:|--:|--:|")
    for row in zip(PRIOR_SIGMAS, skyreels, magi, PRIOR_SENSITIVITY, strict=True):
        sigma, one, other, known = row
        ratio = max(one / other, other / one)
        print(f"| {sigma:g} | {one:.3g} | {other:.3g} | {ratio:.1f} | {(one * other) ** 0.5:.3g} | {known:.3g} |")


if __name__ == "__main__":
    main()
