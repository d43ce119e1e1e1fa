#!/usr/bin/env bash
# The benchmark: every method on both shipped models, 8 prompts.
# Usage: bash scripts/benchmark.sh [key=value ...]
#        bash scripts/benchmark.sh -h                  lists the keys
# The results are in benchmarks/results/*/bench; a result that exists is not measured again. RESULTS=FOLDER measures into
# a folder of your own. JOBS=N processes share the prompts.
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
show_help "$0" "bench" "$@"
find_python requirements-bench.txt cache_dit flip_evaluator
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
JOBS="${JOBS:-2}"
if [[ ! "$JOBS" =~ ^[1-9][0-9]?$ ]]; then
    echo "error: JOBS=$JOBS is not allowed; allowed: 1 to 99" >&2
    exit 2
fi
for argument in "$@"; do
    case "$argument" in -h | --help) exec "$PYTHON" -m motioncache_eval.bench -h ;; esac
done
[[ -z "${RESULTS:-}" ]] || RESULTS="$(mkdir -p "$RESULTS" && cd "$RESULTS" && pwd)"
cd "$ROOT"

command_of() { # MODEL: sets COMMAND
    COMMAND=("$PYTHON" -m motioncache_eval.bench "benchmarks/$1.yaml")
    [[ -z "${RESULTS:-}" ]] || COMMAND+=("output=$RESULTS/$1" "tuned=$RESULTS/$1/tuned")
}

workers=()
stop() { # also the workers, which a shell keeps from interrupts
    [[ ${#workers[@]} -eq 0 ]] || kill "${workers[@]}" 2>/dev/null || true
    exit 130
}
trap stop INT TERM

# A mistake is said once, before any worker starts.
for model in skyreels magi; do
    command_of "$model"
    "${COMMAND[@]}" --check "$@"
done
status=0
for model in skyreels magi; do
    command_of "$model"
    for phase in --tune --quiet; do
        for ((i = 0; i < JOBS; i++)); do
            "${COMMAND[@]}" "$phase" --share "$i/$JOBS" "$@" &
            workers+=($!)
        done
        for worker in "${workers[@]}"; do wait "$worker" || status=$?; done
        workers=()
    done
    "${COMMAND[@]}" --report "$@" || status=$?
done
exit "$status"
