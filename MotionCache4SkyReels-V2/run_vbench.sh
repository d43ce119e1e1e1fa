#!/usr/bin/env bash
# Samples VBench prompts with SkyReels-V2 and the chosen preset.
# Usage: bash run_vbench.sh [key=value ...]     keys: the section vbench: of addconfig/config.yaml beside this script
#        bash run_vbench.sh -h                  lists the keys
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/env.sh"
show_help "$0" vbench "$@"
find_python requirements.txt
exec "$PYTHON" -m motioncache_eval vbench "$@"
