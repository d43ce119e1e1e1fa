#!/usr/bin/env bash
# Sourced by the other scripts: sets ROOT, the repository, and PYTHON, a Python that can run it.
#
# The active Python is used if it has the package and everything the script needs. Otherwise .venv in the repository is
# made (once; it is brought up to date when the requirements change). PYTHON=... in the environment chooses another one.
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="$ROOT/.venv"
RUNTIME_MODULES="motioncache motioncache_eval motioncache_train motioncache_skyreels motioncache_magi torch diffusers transformers accelerate omegaconf av matplotlib ftfy bs4 sentencepiece google.protobuf"

has_modules() { # PYTHON MODULE...
    local python="$1"
    shift
    # Not from the working directory: a folder there could pass for a package.
    (cd / && "$python" - "$@" <<'PY'
import importlib.util, sys
sys.exit(any(importlib.util.find_spec(name) is None for name in sys.argv[1:]))
PY
    ) >/dev/null 2>&1
}

base_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11; do
        if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "error: MotionCache needs Python 3.11 to 3.13; none was found. Install one, or set PYTHON=/path/to/python" >&2
    exit 2
}

make_venv() { # REQUIREMENTS
    local requirements="$ROOT/$1" stamp
    stamp="$VENV/.installed-$1-$(cat "$ROOT"/requirements*.txt "$ROOT/pyproject.toml" | cksum | cut -d' ' -f1)"
    if [ ! -f "$stamp" ]; then
        if [ ! -x "$VENV/bin/python" ]; then
            local base
            base="$(base_python)"
            echo "making $VENV with $("$base" --version)" >&2
            "$base" -m venv "$VENV"
        fi
        echo "installing $1 into $VENV (once; about 1.5 GB)" >&2
        local pip=("$VENV/bin/python" -m pip install --quiet --disable-pip-version-check)
        # PyTorch by its pinned version first, or another package would pull in a newer one.
        "${pip[@]}" "$(grep '^torch==' "$ROOT/requirements.txt")" >&2
        "${pip[@]}" -r "$requirements" >&2
        "${pip[@]}" --no-deps -e "$ROOT" >&2
        touch "$stamp"
    fi
    PYTHON="$VENV/bin/python"
}

find_python() { # REQUIREMENTS [MODULE...]
    local requirements="$1" active
    shift
    active="$(command -v "${PYTHON:-python3}" || true)"
    case "$active" in
    "" | /*) ;;
    *) active="$PWD/$active" ;;
    esac
    # shellcheck disable=SC2086
    if [ -n "$active" ] && has_modules "$active" $RUNTIME_MODULES "$@"; then
        PYTHON="$active"
    else
        make_venv "$requirements"
    fi
}
