"""Checks this implementation against golden data of the published code.

`python -m motioncache_skyreels.parity FOLDER` reads every file of a folder and compares unit functions, single forwards
and whole videos; it prints the largest error of each quantity and exits with 1 where one exceeds its tolerance.
"""
