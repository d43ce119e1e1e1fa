#!/usr/bin/env bash
# Samples VBench prompts. Usage: bash run_vbench.sh [key=value ...]
exec bash "$(dirname "${BASH_SOURCE[0]}")/MotionCache4SkyReels-V2/run_vbench.sh" "$@"
