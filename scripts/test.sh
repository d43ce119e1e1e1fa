#!/usr/bin/env bash
# The tests, in two processes. Usage: bash scripts/test.sh [pytest arguments]
# Where an argument names a test file, one process runs it; -n N asks for N processes.
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
show_help "$0" "" "$@"
find_python requirements-dev.txt pytest xdist peft
# The models of the tests are so small that threads cost more than they give.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
cd "$ROOT"
workers=(-n 2 --dist worksteal)
for argument in "$@"; do
    if [ -f "${argument%%::*}" ]; then workers=(-n 0); fi
done
exec "$PYTHON" -m pytest "${workers[@]}" "$@"
