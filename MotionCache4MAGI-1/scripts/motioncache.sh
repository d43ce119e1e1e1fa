#!/usr/bin/env bash
# The demo on MAGI-1: one prompt with the chosen preset, without a cache, and with forecast at equal cost.
# Usage: bash MotionCache4MAGI-1/scripts/motioncache.sh [model=FOLDER] [key=value ...]     keys: addconfig/job.yaml
#        bash MotionCache4MAGI-1/scripts/motioncache.sh -h                                 lists the keys
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/env.sh"
show_help "$0" demo model=magi-1 "$@"
find_python requirements.txt
exec "$PYTHON" -m motioncache_eval demo model=magi-1 "$@"
