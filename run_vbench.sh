#!/usr/bin/env bash
# Samples VBench prompts with the chosen presets, and scores them.
# Usage: bash run_vbench.sh [key=value ...]            keys: the section vbench: of MotionCache4SkyReels-V2/addconfig/config.yaml
#        bash run_vbench.sh magi-1 [key=value ...]     keys: the section vbench: of MotionCache4MAGI-1/addconfig/config.yaml
#        bash run_vbench.sh -h                         lists the keys
source "$(dirname "${BASH_SOURCE[0]}")/scripts/env.sh"
show_help "$0" vbench "$@"
find_python requirements.txt
exec "$PYTHON" -m motioncache_eval vbench "$@"
