#!/usr/bin/env bash
# Makes the environment that VBench's own package scores videos in. Its requirements (an old transformers, numpy 1) do not
# fit beside diffusers'. It needs Python 3.10 or 3.11, and takes about 2 GB with a CPU build of PyTorch.
# Usage: bash scripts/vbench_env.sh [FOLDER]        FOLDER is .venv-vbench in the repository without one; of another one
#                                                   tell the commands by VBENCH_PYTHON=FOLDER/bin/python
#        PYTHON=/path/to/python3.11 chooses the Python; PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu takes CPU
#        builds, which need some GB less
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
FOLDER="$ROOT/.venv-vbench"
for argument in "$@"; do
    case "$argument" in
    -h | --help)
        sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p;}' "${BASH_SOURCE[0]}"
        exit 0
        ;;
    -*) echo "error: $argument is no option" >&2 && exit 2 ;;
    *) FOLDER="$argument" ;;
    esac
done

for candidate in "${PYTHON:-}" python3.11 python3.10 python3; do
    if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 &&
        "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 10), (3, 11)))' 2>/dev/null; then
        "$candidate" -m venv "$FOLDER"
        "$FOLDER/bin/python" -m pip install --quiet --disable-pip-version-check -r "$ROOT/requirements-vbench.txt"
        "$FOLDER/bin/python" "$ROOT/common/motioncache_eval/vbench/evaluate.py"
        echo "VBench is in $FOLDER; four dimensions (object_class, multiple_objects, color, spatial_relationship)"
        echo "also need detectron2: $FOLDER/bin/pip install --no-build-isolation git+https://github.com/facebookresearch/detectron2.git"
        exit
    fi
done
echo "error: VBench needs Python 3.10 or 3.11; none was found. Install one, or set PYTHON=/path/to/python3.11" >&2
exit 2
