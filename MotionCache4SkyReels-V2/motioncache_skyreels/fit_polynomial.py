"""Fit the distance polynomial of a SkyReels-V2 checkpoint: `python -m motioncache_skyreels.fit_polynomial MODEL`."""

import sys

from motioncache_eval import fit_polynomial
from motioncache_skyreels.job.model import SkyReelsJobs


def main(arguments: list[str] | None = None) -> int:
    return fit_polynomial.main(SkyReelsJobs(), "motioncache_skyreels", arguments)


if __name__ == "__main__":
    sys.exit(main())
