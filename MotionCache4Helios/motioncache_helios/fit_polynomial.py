"""Fit the distance polynomial of a Helios checkpoint: `python -m motioncache_helios.fit_polynomial MODEL`."""

import sys

from motioncache_eval import fit_polynomial
from motioncache_helios.job.model import HeliosJobs


def main(arguments: list[str] | None = None) -> int:
    return fit_polynomial.main(HeliosJobs(), "motioncache_helios", arguments)


if __name__ == "__main__":
    sys.exit(main())
