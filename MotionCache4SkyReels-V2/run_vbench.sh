#!/usr/bin/env bash
# Samples VBench prompts with SkyReels-V2 and the chosen presets.
# Usage: bash MotionCache4SkyReels-V2/run_vbench.sh [key=value ...]     keys: the section vbench: of addconfig/config.yaml
#        bash MotionCache4SkyReels-V2/run_vbench.sh -h                  lists the keys
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/env.sh"
show_help "$0" vbench skyreels-v2 "$@"
find_python requirements.txt
exec "$PYTHON" -m motioncache_eval vbench skyreels-v2 "$@"
