#!/usr/bin/env bash
# The demo: one prompt without a cache, with the preset exact, and with MotionCache, compared.
# Usage: bash scripts/motioncache.sh [key=value ...]     (keys: addconfig/config.yaml)
#        bash scripts/motioncache.sh model=magi-1 [key=value ...]     (keys: MotionCache4MAGI-1/addconfig/job.yaml)
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
arguments=()
magi=
for argument in "$@"; do
    if [ "$argument" = model=magi-1 ]; then magi=1; else arguments+=("$argument"); fi
done
if [ "$magi" ]; then
    exec bash "$ROOT/MotionCache4MAGI-1/scripts/motioncache.sh" ${arguments[@]+"${arguments[@]}"}
fi
find_python requirements.txt
exec "$PYTHON" -m motioncache_skyreels.job "$ROOT/addconfig/config.yaml" "$@"
