#!/usr/bin/env bash
# The demo: one prompt with the chosen preset, without a cache, with the preset exact, and with forecast at equal cost.
# Usage: bash scripts/motioncache.sh [key=value ...]                  keys: addconfig/config.yaml
#        bash scripts/motioncache.sh model=magi-1 [key=value ...]     keys: MotionCache4MAGI-1/addconfig/job.yaml
#        bash scripts/motioncache.sh -h                               lists the keys
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
show_help "$0" demo "$@"
find_python requirements.txt
exec "$PYTHON" -m motioncache_eval demo "$@"
