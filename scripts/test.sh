#!/usr/bin/env bash
# The tests. Usage: bash scripts/test.sh [pytest arguments]
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
find_python requirements-dev.txt pytest peft
# The models of the tests are so small that threads cost more than they give.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
cd "$ROOT"
exec "$PYTHON" -m pytest "$@"
