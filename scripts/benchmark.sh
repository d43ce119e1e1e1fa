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
[[ -z "${RESULTS:-}" ]] || RESULTS="$(mkdir -p "$RESULTS" && cd "$RESULTS" && pwd)"
cd "$ROOT"
status=0
workers=()
finish() {
    for worker in "${workers[@]}"; do wait "$worker" || status=$?; done
    workers=()
}
for model in skyreels magi; do
    place=()
    [[ -z "${RESULTS:-}" ]] || place=("output=$RESULTS/$model" "tuned=$RESULTS/$model/tuned")
    for phase in --tune --quiet; do
        for ((i = 0; i < JOBS; i++)); do
            "$PYTHON" -m motioncache_eval.bench "benchmarks/$model.yaml" "$phase" --share "$i/$JOBS" "${place[@]}" "$@" &
            workers+=($!)
        done
        finish
    done
    "$PYTHON" -m motioncache_eval.bench "benchmarks/$model.yaml" --report "${place[@]}" "$@" || status=$?
done
exit "$status"
