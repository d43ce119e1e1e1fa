#!/usr/bin/env bash
# The studio: a page in the browser that makes videos, shows them while they are made, and compares them.
# Usage: bash scripts/studio.sh [key=value ...]
#        bash scripts/studio.sh -h                                    lists the keys
# It has an environment of its own, .venv-studio: Gradio takes no Pillow 13, which the tested set has.
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
VENV="$ROOT/.venv-studio"
show_help "$0" studio "$@"
find_python requirements-studio.txt gradio
exec "$PYTHON" -m motioncache_eval studio "$@"
