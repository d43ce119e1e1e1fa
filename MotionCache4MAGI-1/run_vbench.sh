#!/usr/bin/env bash
# Samples VBench prompts with MAGI-1 and the chosen presets.
# Usage: bash MotionCache4MAGI-1/run_vbench.sh [key=value ...]     keys: the section vbench: of addconfig/config.yaml
#        bash MotionCache4MAGI-1/run_vbench.sh -h                  lists the keys
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/env.sh"
show_help "$0" vbench magi-1 "$@"
find_python requirements.txt
exec "$PYTHON" -m motioncache_eval vbench magi-1 "$@"
