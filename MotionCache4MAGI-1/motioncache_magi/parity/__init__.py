"""Parity with golden data made by running the official code."""

import os

# The golden data were made where MKL takes this path. A distilled model is told the length of a step by sinusoids whose
# angles reach 32,000, where the last bit of an exponential in float32 moves the output by 6e-4 of its deviation.
# MKL reads this at its first call; in a process that has computed already, it is too late.
os.environ.setdefault("MKL_CBWR", "COMPATIBLE")
