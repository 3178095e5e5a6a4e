#!/usr/bin/env bash
# A benchmark's trainings on a machine with a GPU that nothing outside can be reached from, in calls of ten minutes at most.
#
#   here:   benchmarks/gpu.sh pack FOLDER [PACKAGE ...]   # FOLDER of $PARTCLIP_DATA, wheels that are missing there, and
#                                                         # the embedded texts of $PARTCLIP_CACHE -> .gpu/, to be carried
#   there:  benchmarks/gpu.sh run MODULE [ARGUMENT ...]   # python -m benchmarks.MODULE, results into $OUT; again while the
#                                                         # machine is warm, and it goes on where it was
set -euo pipefail
cd "$(dirname "$0")/.."
box=.gpu
case "${1:-}" in
pack)
    folder=${2:?pack: got no folder, expected one of \$PARTCLIP_DATA}
    rm -rf "$box" && mkdir -p "$box/wheels" "$box/text"
    grep -qx "/$box/" .git/info/exclude 2>/dev/null || echo "/$box/" >>.git/info/exclude
    python -m pip download --quiet --only-binary=:all: --python-version 3.12 --implementation cp \
        --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --dest "$box/wheels" pydantic
    python -m pip download --quiet --no-deps --only-binary=:all: --dest "$box/wheels" tensorboardX "${@:3}"
    cp "${PARTCLIP_CACHE:-.cache}"/text/*.npy "$box/text/"
    tar --create --xz --file "$box/data.tar.xz" --directory "${PARTCLIP_DATA:-data}" "$folder"
    du --summarize --human-readable "$box"
    ;;
run)
    export PARTCLIP_DATA=$PWD/.cache/gpu_data PARTCLIP_CACHE=$PWD/.cache PYTHONPATH=/tmp/site PYTHONUNBUFFERED=1
    python3 -m pip install --quiet --no-index --no-deps --no-compile --upgrade --target /tmp/site "$box"/wheels/*.whl
    mkdir -p "$PARTCLIP_DATA" "$PARTCLIP_CACHE/text"
    tar --extract --xz --file "$box/data.tar.xz" --directory "$PARTCLIP_DATA"
    cp "$box"/text/*.npy "$PARTCLIP_CACHE/text/"
    timeout 540 python3 -m "benchmarks.${2:?run: got no module, expected one of benchmarks/}" --jobs 8 --threads 2 "${@:3}" ||
        echo "stopped after nine minutes; call it again"
    cp -r benchmarks/results "$OUT/"
    ;;
*)
    sed -n '2,7p' "$0" >&2
    exit 2
    ;;
esac
