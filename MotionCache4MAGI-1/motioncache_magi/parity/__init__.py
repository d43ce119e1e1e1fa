"""Parity with golden data made by running the official code."""
