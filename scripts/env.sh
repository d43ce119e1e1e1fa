#!/usr/bin/env bash
# Sourced by the other scripts: sets ROOT, the repository, and PYTHON, a Python that can run it.
#
# The active Python is used if it has the package and everything the script needs. Otherwise .venv in the repository is
# made (once; it is brought up to date when the requirements change). PYTHON=... in the environment chooses another one.
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="$ROOT/.venv"
RUNTIME_MODULES="motioncache motioncache_eval motioncache_diffusers motioncache_train motioncache_skyreels motioncache_magi motioncache_helios torch diffusers transformers accelerate omegaconf av matplotlib ftfy bs4 sentencepiece google.protobuf"

has_modules() { # PYTHON MODULE...: prints the folder of the first one's package
    local python="$1"
    shift
    # Not from the working directory: a folder there could pass for a package.
    (cd / && "$python" - "$@" <<'PY'
import importlib.util, sys
specs = [importlib.util.find_spec(name) for name in sys.argv[1:]]
if None in specs:
    sys.exit(1)
print(specs[0].submodule_search_locations[0])
PY
    ) 2>/dev/null
}

show_help() { # SCRIPT COMMAND ARGUMENT...: with -h among the arguments, prints the usage, and the keys of the command
    local script="$1" command="$2" argument
    shift 2
    for argument in "$@"; do
        case "$argument" in -h | --help) ;; *) continue ;; esac
        sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p;}' "$script"
        # The keys are listed by the package; where there is none yet, they stand in the YAML file.
        if [ -n "$command" ] && { use_active_python || use_venv; }; then
            echo
            exec "$PYTHON" -m motioncache_eval "$command" "$@"
        fi
        exit 0
    done
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

use_active_python() { # [MODULE...]: sets PYTHON to the active Python if that has what the script needs
    local active package
    active="$(command -v "${PYTHON:-python3}" || true)"
    case "$active" in
    "" | /*) ;;
    *) active="$PWD/$active" ;;
    esac
    # shellcheck disable=SC2086
    if [ -z "$active" ] || ! package="$(has_modules "$active" $RUNTIME_MODULES "$@")"; then return 1; fi
    PYTHON="$active"
    if [ -n "$package" ] && [[ "$(cd "$package" && pwd -P)" != "$(cd "$ROOT" && pwd -P)"/* ]]; then
        echo "the active Python has the packages of $package; those of $ROOT are run in their place" >&2
        export PYTHONPATH="$ROOT/common:$ROOT/MotionCache4SkyReels-V2:$ROOT/MotionCache4MAGI-1${PYTHONPATH:+:$PYTHONPATH}"
    fi
}

use_venv() { # as it is, for what does not need it up to date
    PYTHON="$VENV/bin/python"
    [ -x "$PYTHON" ]
}

find_python() { # REQUIREMENTS [MODULE...]
    local requirements="$1"
    shift
    use_active_python "$@" || make_venv "$requirements"
}
