#!/usr/bin/env bash
# Samples VBench prompts with SkyReels-V2 and the chosen preset.
# Usage: bash run_vbench.sh [key=value ...]     (keys: the section vbench: of addconfig/config.yaml beside this script)
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/env.sh"
find_python requirements.txt
exec "$PYTHON" -m motioncache_skyreels.vbench "$ROOT/MotionCache4SkyReels-V2/addconfig/config.yaml" "$@"
