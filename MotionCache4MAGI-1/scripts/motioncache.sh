#!/usr/bin/env bash
# The demo on MAGI-1: one prompt without a cache, with the preset exact, and with MotionCache, compared.
# Usage: bash MotionCache4MAGI-1/scripts/motioncache.sh model=FOLDER [key=value ...]     (keys: addconfig/job.yaml)
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/env.sh"
find_python requirements.txt
exec "$PYTHON" -m motioncache_magi.job "$ROOT/MotionCache4MAGI-1/addconfig/job.yaml" "$@"
