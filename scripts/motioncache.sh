#!/usr/bin/env bash
# The main job: one prompt without a cache, with the exact tier, and with MotionCache, compared.
# Usage: bash scripts/motioncache.sh [key=value ...]     (keys: addconfig/config.yaml)
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
find_python requirements.txt
exec "$PYTHON" -m motioncache_skyreels.job "$ROOT/addconfig/config.yaml" "$@"
