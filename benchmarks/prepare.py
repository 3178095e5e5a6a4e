"""NTU preparation: the compiled, sharded pipeline against plain line-by-line reading and the published procedure.

    python -m benchmarks.prepare [--files 1000] [--many 10000] [--rounds 3]

Simulated files in NTU's layout, with the digits and line ends of the real ones: 30 to 300 frames, median 75; 15 % of
two bodies. Versions take turns, each in a process of its own, and compilation comes before the clock starts. The plain
pipeline ends with the padded (N, 300, 150) array, saved. Memory is what all processes of ``python -m feeders.prepare``
hold at once, shared pages counted once (PSS); there, the many files are hard links to the few.
"""

import argparse
import multiprocessing
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.processes import serving
from benchmarks.reference.ntu_prepare import denoise, prepare_plain, read_plain, translate
from feeders.ntu import NTU60
from feeders.prepare import plan, raw_source
from feeders.prepare.ntu_bodies import clean
from feeders.prepare.ntu_parse import read_skeleton
from feeders.store import Block, Recording, Store, StoreWriter, Track, encode

Stages = Mapping[str, Callable[[], object]]

FRAMES, COLUMNS, JOBS, BIG_STORE = 300, 150, 2, 50_000
SEVERAL = f"whole, {JOBS} jobs"
SHAPE = (len(NTU60.skeleton.joints), NTU60.skeleton.coordinates)
_JOINT = "%.7g %.7g %.7g %.7g %.7g %.7g %.7g %.7g %.7g %.7g %.7g 2\r\n"
_BODY = "%d 0 1 1 0 1 0 0.01391602 -0.1713867 2\r\n25\r\n" + 25 * _JOINT


def write_files(folder: Path, count: int) -> None:
    """Recordings of bodies that jitter about a place: the sizes are those of real files, the motion is not."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number in range(count):
        frames = int(np.clip(draw.lognormal(np.log(75), 0.45), 30, FRAMES))
        bodies = 1 + int(draw.random() < 0.15)
        values = draw.normal(size=(frames, bodies, 25, 11)) * ([0.3, 0.9, 0.3] + [300.0] * 4 + [0.5] * 4)
        values[..., 2] += 3.0
        text = [f"{frames}\r\n"]
        for frame in values:
            text.append(f"{bodies}\r\n")
            text += [_BODY % (72057594037931101 + body, *joints.ravel()) for body, joints in enumerate(frame)]
        (folder / f"{_name(number)}.skeleton").write_bytes("".join(text).encode("ascii"))


def _name(number: int) -> str:
    # No file of camera 4 is on the published list of missing skeletons.
    return f"S{1 + number % 17:03}C004P{1 + number // 17 % 40:03}R{1 + number // 680:03}A001"


def plain_stages(raw: Path, out: Path) -> Stages:
    """The stages as anyone would write them."""
    paths = sorted(raw.iterdir())
    clips = [read_plain(path) for path in paths]
    cleaned = [translate(denoise(clip)) for clip in clips]
    return {
        "parse": lambda: [read_plain(path) for path in paths],
        "clean": lambda: [translate(denoise(clip)) for clip in clips],
        "write": lambda: save_padded(out, cleaned),
    }


def plain_whole(raw: Path, out: Path) -> Stages:
    """All of it."""
    return {"whole": lambda: save_padded(out, [prepare_plain(path) for path in sorted(raw.iterdir())])}


def save_padded(out: Path, sequences: list[np.ndarray]) -> None:
    """The array that the published procedure ends with."""
    padded = np.zeros((len(sequences), FRAMES, COLUMNS), dtype=np.float32)
    for row, joints in zip(padded, sequences, strict=True):
        row[: len(joints), : joints.shape[1]] = joints
    np.savez(out, x=padded)


def fast_stages(raw: Path, out: Path) -> Stages:
    """The stages of `feeders.prepare`."""
    paths = sorted(raw.iterdir())
    source = raw_source("ntu60")
    clips = {path.stem: read_skeleton(path.stem, path.read_bytes()) for path in paths}
    recordings = [source.read(path.stem, path.read_bytes()).recording for path in paths]
    return {
        "parse": lambda: [read_skeleton(path.stem, path.read_bytes()) for path in paths],
        "clean": lambda: [clean(name, clip) for name, clip in clips.items()],
        "write": lambda: write_store(out, encode(recordings)),
    }


def fast_whole(raw: Path, out: Path) -> Stages:
    """All of it, by one process and by several; what has to be compiled is."""
    source = raw_source("ntu60")
    first = next(raw.iterdir())
    source.read(first.stem, first.read_bytes())

    def whole(jobs: int) -> None:
        shutil.rmtree(out, ignore_errors=True)
        plan(source, raw, out, jobs=jobs).finish()

    return {"whole": lambda: whole(1), SEVERAL: lambda: whole(JOBS)}


def write_store(out: Path, *blocks: Block) -> None:
    """A store of encoded clips, in place of what is there."""
    shutil.rmtree(out, ignore_errors=True)
    with StoreWriter(
        out,
        dataset=NTU60.name,
        skeleton=NTU60.skeleton.name,
        joints=SHAPE[0],
        coordinates=SHAPE[1],
        class_names=NTU60.class_names,
    ) as writer:
        for block in blocks:
            writer.append(block)


def make_runner(make: Callable[[Path, Path], Stages], raw: Path, out: Path) -> Callable[[str], None]:
    """What runs a stage of a version by its name, in a process of its own."""
    stages = make(raw, out)

    def run(stage: str) -> None:
        stages[stage]()

    return run


def time_stages(raw: Path, out: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Stage -> version -> median seconds."""
    # Here, as it imports torch, of which the measured processes are kept free.
    from benchmarks.measure import interleaved

    seconds: dict[str, dict[str, float]] = {}
    with (
        serving(make_runner, plain_stages, raw, out / "plain") as plain,
        serving(make_runner, fast_stages, raw, out / "fast") as fast,
    ):
        for stage in ("parse", "clean", "write"):
            seconds[stage] = interleaved({"plain": partial(plain, stage), "fast": partial(fast, stage)}, rounds)
    # In new processes: what the stages keep would be copied into those that the pipeline starts.
    with (
        serving(make_runner, plain_whole, raw, out / "plain") as plain,
        serving(make_runner, fast_whole, raw, out / "fast") as fast,
    ):
        asked = {"plain": partial(plain, "whole"), "fast": partial(fast, "whole"), SEVERAL: partial(fast, SEVERAL)}
        whole = interleaved(asked, rounds)
    seconds["whole"] = {version: whole[version] for version in ("plain", "fast")}
    seconds[SEVERAL] = {"plain": whole["plain"], "fast": whole[SEVERAL]}
    return seconds


def peak_memory(raw: Path, out: Path) -> dict[str, float]:
    """MiB that all processes of one command hold at once, at most; and its seconds, the interpreter's start too."""
    command = [sys.executable, "-m", "feeders.prepare", "ntu60", "--raw", str(raw), "--out", str(out)]
    start, peak = time.perf_counter(), 0
    with subprocess.Popen(
        [*command, "--jobs", str(JOBS)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        while process.poll() is None:
            peak = max(peak, sum(map(_proportional_kilobytes, _tree(process.pid))))
            time.sleep(0.02)
        if process.returncode:
            raise RuntimeError(f"{command}: got exit status {process.returncode}, expected 0")
    return {"mebibytes": round(peak / 1024, 1), "seconds": round(time.perf_counter() - start, 2)}


def _tree(pid: int) -> list[int]:
    """A process and all that it started; one that has just ended counts for nothing."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        children = []
    return [pid, *(one for child in children for one in _tree(int(child)))]


def _proportional_kilobytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def epoch_memory(store: Path) -> float:
    """MiB that a process holds at most while it reads a training epoch, the mapped file not counted."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_read_epoch, (store,))


def _read_epoch(folder: Path) -> float:
    # Here, as they import torch, of which the measured processes are kept free.
    from feeders.loading import ActionDataConfig, ClipLoader, Pipeline
    from torchlight.allocator import keep_freed_memory

    keep_freed_memory()
    store = Store(folder)
    pipeline = Pipeline(store, NTU60.skeleton, ActionDataConfig(dataset="ntu60"), bodies=2)
    loader = ClipLoader(pipeline, np.arange(len(store)), batch_size=64, seed=0, is_training=True)
    peak = 0
    for _ in loader.epoch(0):
        status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        peak = max(peak, *(int(line.split()[1]) for line in status if line.startswith("RssAnon:")))
    return round(peak / 1024, 1)


def opening_milliseconds(out: Path) -> float:
    """Until the first clip is read of a store of many short clips."""
    draw = np.random.default_rng(0)
    clips = [Recording(str(n), n % 60, 4, (Track(np.arange(4), draw.normal(size=(4, *SHAPE))),)) for n in range(1000)]
    block = encode(clips)
    names = (np.array([f"S{copy:03}{name:>17}" for name in block.index.sample_id]) for copy in range(BIG_STORE // 1000))
    write_store(out, *(replace(block, index=replace(block.index, sample_id=sample_id)) for sample_id in names))
    seconds = []
    for _ in range(15):
        start = time.perf_counter()
        store = Store(out)
        store.clip(len(store) - 1)
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds)


def main() -> None:
    """Measure, print the table, keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--many", type=int, default=10_000, help="files of the second measurement of memory")
    parser.add_argument("--rounds", type=int, default=3, help="timed calls of each stage")
    asked = parser.parse_args()
    # Here, as it imports torch, of which the measured processes are kept free.
    from benchmarks.measure import environment, write_result

    print(environment())
    with tempfile.TemporaryDirectory() as place:
        raw, many, out = (Path(place, name) for name in ("few", "many", "out"))
        write_files(raw, asked.files)
        out.mkdir()
        rows = []
        print(f"{'stage':16}{'plain files/s':>15}{'fast files/s':>14}{'ratio':>8}{'aim':>6}")
        for stage, seconds in time_stages(raw, out, asked.rounds).items():
            plain, fast = (asked.files / seconds[version] for version in ("plain", "fast"))
            aim = 10.0 if stage in ("parse", SEVERAL) else None
            rows.append(
                {
                    "stage": stage,
                    "plain": round(plain, 1),
                    "fast": round(fast, 1),
                    "ratio": round(fast / plain, 2),
                    "aim": aim,
                }
            )
            print(f"{stage:16}{plain:15.0f}{fast:14.0f}{fast / plain:8.1f}{aim or '':>6}")
        size = sum(path.stat().st_size for path in (out / "fast").iterdir())
        padded = asked.files * FRAMES * COLUMNS * 4
        print(f"store {size / 1e6:.1f} MB, {size / padded:.3f} of the padded array (aim 0.25)")
        many.mkdir()
        sources = sorted(raw.iterdir())
        for number in range(asked.many):
            (many / f"{_name(number)}.skeleton").hardlink_to(sources[number % len(sources)])
        memory = {str(len(list(files.iterdir()))): peak_memory(files, out / files.name) for files in (raw, many)}
        for count, facts in memory.items():
            print(f"{count} files, {JOBS} jobs: at most {facts['mebibytes']} MiB (aim 1024), {facts['seconds']} s")
        epoch = {count: epoch_memory(out / files.name) for count, files in zip(memory, (raw, many), strict=True)}
        print(
            ", ".join(
                f"a training epoch of {count} clips: at most {mebibytes} MiB" for count, mebibytes in epoch.items()
            )
        )
        opening = opening_milliseconds(out / "big")
        print(f"opening a store of {BIG_STORE} clips: {opening:.1f} ms (aim 50)")
    result = {
        "files": asked.files,
        "rounds": asked.rounds,
        "files_per_second": rows,
        "store_of_padded": round(size / padded, 4),
        "peak_memory": memory,
        "epoch_mebibytes": epoch,
        "opening_milliseconds": round(opening, 1),
    }
    print(write_result("prepare", result))


if __name__ == "__main__":
    main()
