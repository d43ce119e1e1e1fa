"""Samples the prompts of VBench dimensions into files that VBench reads; scoring is not part of this package."""
