"""Retrieval metrics of a large gallery: counting against sorting.

    python -m benchmarks.retrieval [--rounds 3]

100,000 in the gallery, 256 numbers each, ten walks of each of 10,000 people, one probe of each. The field's way (one
matrix of all distances and its argsort, `benchmarks.reference.retrieval.full_matrix`, numpy too) has memory for 2,000
probes: those are timed in turn, on two threads. All 10,000 probes are measured in a process of their own, whose memory
is read before and after. For some probes every rank is held against a list sorted by distances in float64.
"""

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.measure import environment, interleaved, write_result
from benchmarks.reference import retrieval as reference
from torchlight.metrics import ranking
from torchlight.metrics.distance import EmbeddingSpace
from torchlight.metrics.protocol import RetrievalProtocol, Rows, SampleTable, roles
from torchlight.metrics.ranking import Pairing
from torchlight.metrics.retrieval import trials_of

PEOPLE, GALLERY, WIDTH, FEW, CHECKED = 10_000, 100_000, 256, 2_000, 50
AIM, MOST_MEMORY = 5.0, 1024
# So noisy that a probe's last match stands among the strangers.
NOISE = 1.8
_PRODUCT = ("rank1", "mAP", "mINP")


def make_vectors() -> np.ndarray:
    """(PEOPLE + GALLERY, WIDTH) float32, the probes first; sample n shows person n modulo PEOPLE."""
    draw = np.random.default_rng(0)
    people = draw.standard_normal((PEOPLE, WIDTH), dtype=np.float32)
    noise = draw.standard_normal((PEOPLE + GALLERY, WIDTH), dtype=np.float32)
    noise *= np.float32(NOISE)
    noise += np.tile(people, (1 + GALLERY // PEOPLE, 1))
    return noise


def product(vectors: np.ndarray, probes: int) -> tuple[float, ...]:
    """Rank-1, mAP and mINP of the first probes."""
    number = np.arange(len(vectors))
    table = SampleTable(tuple(map(str, number)), number % PEOPLE)
    protocol = RetrievalProtocol("all", roles(number < probes, number >= PEOPLE))
    pairing = Pairing.of(table, protocol)
    space = EmbeddingSpace.of(vectors[:, None], np.ones((len(vectors), 1), dtype=np.bool_), "vector/euclidean")
    trials = trials_of(table, protocol, pairing, space.between(pairing.probe, pairing.gallery))
    return tuple(float(trials.values[name].mean()) for name in _PRODUCT)


def field(vectors: np.ndarray, probes: int) -> tuple[float, ...]:
    """The same by the field's way."""
    person = np.arange(len(vectors)) % PEOPLE
    return reference.full_matrix(vectors[:probes], vectors[PEOPLE:], person[:probes], person[PEOPLE:])


def ranks_that_differ(vectors: np.ndarray, probes: Rows) -> int:
    """How many matches stand elsewhere than in a list that is sorted by distances in float64."""
    number = np.arange(len(vectors))
    table = SampleTable(tuple(map(str, number)), number % PEOPLE)
    protocol = RetrievalProtocol("some", roles(np.isin(number, probes), number >= PEOPLE))
    pairing = Pairing.of(table, protocol)
    space = EmbeddingSpace.of(vectors[:, None], np.ones((len(vectors), 1), dtype=np.bool_), "vector/euclidean")
    ranked = ranking.rank_matches(table, protocol, pairing, space.between(pairing.probe, pairing.gallery))
    differing = 0
    for row, probe in enumerate(pairing.probe):
        distance = np.square(vectors[PEOPLE:].astype(np.float64) - vectors[probe]).sum(axis=1)
        is_match = np.arange(GALLERY) % PEOPLE == probe
        order = np.lexsort((is_match, distance))
        places = np.flatnonzero(is_match[order])
        ours = ranked.ahead[ranked.bounds[row] : ranked.bounds[row + 1]]
        differing += int((ours != places - np.arange(len(places))).sum())
    return differing


def measure_all(path: Path) -> tuple[tuple[float, ...], float, float]:
    """The metrics of all probes, seconds, and MiB of memory above what holds the embeddings."""
    vectors = np.load(path)
    product(vectors[np.arange(PEOPLE + 1000)], 1)  # the libraries, the compiled code
    before = _memory("VmRSS")
    start = time.perf_counter()
    values = product(vectors, PEOPLE)
    seconds = time.perf_counter() - start
    return values, seconds, _memory("VmHWM") - before


def _memory(what: str) -> float:
    """MiB that this process holds (VmRSS) or has held at most (VmHWM); Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1024


def main() -> None:
    """Measure, print the table, keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="timed calls of each way")
    rounds = parser.parse_args().rounds
    print(environment())
    vectors = make_vectors()
    differing = ranks_that_differ(vectors, np.arange(CHECKED))
    print(f"ranks that differ from float64 sorting, of {10 * CHECKED}: {differing}")
    values: dict[str, tuple[float, ...]] = {}
    ways = {
        "field": lambda: values.update(field=field(vectors, FEW)),
        "product": lambda: values.update(product=product(vectors, FEW)),
    }
    seconds = interleaved(ways, rounds)
    ratio = seconds["field"] / seconds["product"]
    print(f"{'way':10}{'seconds':>9}" + "".join(f"{name:>10}" for name in _PRODUCT) + f"   ({FEW} probes)")
    for way, numbers in values.items():
        print(f"{way:10}{seconds[way]:9.2f}" + "".join(f"{number:10.4f}" for number in numbers))
    print(f"{'ratio':10}{ratio:9.2f}   aim {AIM}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.npy"
        np.save(path, vectors)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            numbers, whole, memory = pool.apply(measure_all, (path,))
    print(f"{'all':10}{whole:9.2f}" + "".join(f"{number:10.4f}" for number in numbers) + f"   ({PEOPLE} probes)")
    print(f"memory over the embeddings: {memory:.0f} MiB, most {MOST_MEMORY}")
    row = {
        "probes": FEW,
        "gallery": GALLERY,
        "width": WIDTH,
        "matches": GALLERY // PEOPLE,
        "field_s": round(seconds["field"], 2),
        "product_s": round(seconds["product"], 2),
        "ratio": round(ratio, 2),
        "aim": AIM,
        "values": {way: dict(zip(_PRODUCT, numbers, strict=True)) for way, numbers in values.items()},
        "ranks_that_differ": differing,
    }
    whole_row = {
        "probes": PEOPLE,
        "gallery": GALLERY,
        "seconds": round(whole, 1),
        "memory_mib": round(memory),
        "most_memory_mib": MOST_MEMORY,
        "values": dict(zip(_PRODUCT, numbers, strict=True)),
    }
    print(write_result("retrieval", {"rounds": rounds, "against_the_field": row, "all_probes": whole_row}))


if __name__ == "__main__":
    main()
