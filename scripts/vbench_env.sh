#!/usr/bin/env bash
# Makes .venv-vbench, the environment that VBench's own package scores videos in. Its requirements (an old transformers,
# numpy 1) do not fit beside diffusers'. It needs Python 3.10 or 3.11, and takes about 2 GB.
# Usage: bash scripts/vbench_env.sh            PYTHON=/path/to/python3.11 chooses the Python
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
for argument in "$@"; do
    case "$argument" in -h | --help) ;; *) echo "error: $argument is no option" >&2 && exit 2 ;; esac
    sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p;}' "${BASH_SOURCE[0]}"
    exit 0
done

for candidate in "${PYTHON:-}" python3.11 python3.10 python3; do
    if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 &&
        "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 10), (3, 11)))' 2>/dev/null; then
        "$candidate" -m venv "$ROOT/.venv-vbench"
        "$ROOT/.venv-vbench/bin/python" -m pip install --quiet --disable-pip-version-check -r "$ROOT/requirements-vbench.txt"
        "$ROOT/.venv-vbench/bin/python" -c 'import vbench'
        echo "VBench is in $ROOT/.venv-vbench; four dimensions (object_class, multiple_objects, color, spatial_relationship)"
        echo "also need detectron2: .venv-vbench/bin/pip install --no-build-isolation git+https://github.com/facebookresearch/detectron2.git"
        exit
    fi
done
echo "error: VBench needs Python 3.10 or 3.11; none was found. Install one, or set PYTHON=/path/to/python3.11" >&2
exit 2
