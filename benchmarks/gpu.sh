#!/usr/bin/env bash
# What benchmarks/ asks of a GPU, on a machine that nothing outside can be reached from, in calls of ten minutes at most.
#
#   here:   benchmarks/gpu.sh pack MODULE [PACKAGE ...]     # what MODULE's plan reads, and wheels -> .gpu/, to be carried
#   there:  benchmarks/gpu.sh run [MODULE [ARGUMENT ...]]   # python -m benchmarks.MODULE ARGUMENT ...; without a MODULE
#                                                           # bpmt, the tests marked gpu, then the trainings of ucla_gpu
#
# $OUT/results.tar.gz has what the call wrote, renewed while it runs: results, console.txt and metrics.jsonl. Unpack it
# here in the repository's root, so that finished runs travel too. Checkpoints stay there: while the machine is warm
# `run ucla_gpu` goes on from them.
set -euo pipefail
cd "$(dirname "$0")/.."
box=.gpu
carried=$((64 * 1024 * 1024)) # bytes of a working tree, .gpu/ among it, that travel
limit=${BENCH_SECONDS:-540}   # of a call
failed=0

bytes() { du --bytes --total --files0-from=- | tail -n 1 | cut -f 1; }

pack() {
    local module=${1:?pack: got no module, expected one of benchmarks/ with a plan} exclude tree
    local wheels=(python3 -m pip download --quiet --dest "$box/wheels" --only-binary=:all: --python-version 3.12
        --implementation cp --abi cp312 --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64
        --platform manylinux2014_x86_64)
    exclude=$(git rev-parse --git-path info/exclude)
    grep -qx "/$box/" "$exclude" 2>/dev/null || echo "/$box/" >>"$exclude"
    rm -rf "$box" && mkdir -p "$box/wheels"
    python3 -m benchmarks.gpu_box "$module" "$box"
    "${wheels[@]}" pydantic
    "${wheels[@]}" --no-deps tensorboardX "${@:2}"
    git describe --always --dirty >"$box/commit"
    tree=$({ git ls-files -z --cached --others --exclude-standard && find "$box" -type f -print0; } | bytes)
    echo "$((tree >> 20)) MiB travel, of $((carried >> 20)) at most"
    if ((tree > carried)); then
        echo "pack: got $tree bytes, expected at most $carried; pack a smaller data set" >&2
        return 1
    fi
}

# Written beside and renamed: whole whenever the call is killed. A file that grows meanwhile is 1 to tar. What was carried
# keeps its date, by another clock, but was changed here (-cnewer) before the call began.
keep() {
    find benchmarks/results work_dir -type f -cnewer "$box/began" \
        \( -path 'benchmarks/results/*' -o -name console.txt -o -name metrics.jsonl \) -print0 |
        { tar --create --gzip --file "$OUT/results.part" --null --files-from=- || [ $? -eq 1 ]; }
    mv "$OUT/results.part" "$OUT/results.tar.gz"
}

# step SECONDS COMMAND ...: run it so long at most, keeping what it has written; its exit code if it is the first bad one.
step() {
    local code=0 seconds=$((limit - SECONDS)) job
    ((seconds <= $1)) || seconds=$1
    if ((seconds <= 0)); then
        echo "no time left for: ${*:2}"
        code=124
    else
        timeout --kill-after=10 "$seconds" "${@:2}" &
        job=$!
        while kill -0 "$job" 2>/dev/null; do
            sleep 1
            ((SECONDS % 15)) || keep
        done
        wait "$job" || code=$?
        if ((code == 124)); then
            echo "stopped at the limit of $seconds seconds: ${*:2}"
        elif ((code)); then
            echo "exit code $code: ${*:2}"
        fi
        keep
    fi
    ((failed)) || failed=$code
}

run() {
    : "${OUT:?run: got no OUT, expected the folder that comes back}"
    [ -f "$box/commit" ] || { echo "run: got no $box, expected what benchmarks/gpu.sh pack makes, carried" >&2; exit 2; }
    mkdir -p work_dir && touch "$box/began"
    export PARTCLIP_DATA=$PWD/$box PARTCLIP_CACHE=$PWD/$box PYTHONPATH=/tmp/site PYTHONUNBUFFERED=1
    BENCH_COMMIT=$(cat "$box/commit")
    export BENCH_COMMIT BENCH_DEVICE=${BENCH_DEVICE:-0}
    python3 -m pip install --quiet --no-index --no-deps --no-compile --upgrade --target /tmp/site "$box"/wheels/*.whl
    if (($#)); then
        step "$limit" python3 -m "benchmarks.$1" "${@:2}"
    else
        step 240 python3 -m benchmarks.bpmt --device cuda
        step 120 python3 -m pytest -m gpu tests/model/test_ctrgcn.py tests/torchlight/test_launch.py
        step "$limit" python3 -m benchmarks.ucla_gpu --jobs 1 --threads 4
    fi
    exit "$failed"
}

case "${1:-}" in
pack) pack "${@:2}" ;;
run) run "${@:2}" ;;
*)
    sed -n '2,10p' "$0" >&2
    exit 2
    ;;
esac
