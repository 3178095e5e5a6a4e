import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from torchlight.gallery import Gallery, Match, Threshold, read_gallery, threshold_of, write_gallery
from torchlight.metrics.distance import DISTANCES, DistanceName, EmbeddingSpace
from torchlight.metrics.protocol import GALLERY, PROBE, RetrievalProtocol, SampleTable
from torchlight.metrics.ranking import Pairing
from torchlight.metrics.verification import verify

NAMES = ("ann", "bob", "ann", "cid", "bob")


def gallery(**changed: object) -> Gallery:
    rng = np.random.default_rng(1)
    present = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1], [1, 1, 0], [1, 1, 1]], dtype=bool)
    kept = Gallery(
        names=NAMES,
        sample_id=tuple(f"walk{row}" for row in range(5)),
        embedding=rng.normal(size=(5, 3, 4)).astype(np.float32) * present[..., None],
        present=present,
        distance="parts/euclidean",
        checkpoint_sha="abc",
        threshold=Threshold(1.5, 0.05, 0.1, 20, 3, 2),
        config={"seed": 3},
        facts={"slots": ["whole", "arms", "legs"]},
    )
    return replace(kept, **changed)


def probes() -> tuple[np.ndarray, np.ndarray]:
    present = np.array([[1, 1, 1], [1, 1, 0], [0, 1, 0]], dtype=bool)
    return np.random.default_rng(0).normal(size=(3, 3, 4)).astype(np.float32) * present[..., None], present


def distances(known: Gallery, probe: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """(Q, G) mean over the parts that both show, in loops."""
    far = np.full((len(probe), len(known.names)), np.inf)
    for q, g in np.ndindex(far.shape):
        both = np.flatnonzero(seen[q] & known.present[g])
        if len(both):
            far[q, g] = np.mean([math.dist(probe[q, p].tolist(), known.embedding[g, p].tolist()) for p in both])
    return far


def test_people_are_ranked_by_their_nearest_sample() -> None:
    (probe, seen), known = probes(), gallery()
    far = distances(known, probe, seen)
    for row, found in enumerate(known.nearest(probe, seen, people=3)):
        best = {name: min((far[row, g], g) for g in range(5) if NAMES[g] == name) for name in set(NAMES)}
        expected = sorted((distance, g) for distance, g in best.values() if math.isfinite(distance))
        assert found == tuple(Match(NAMES[g], pytest.approx(distance), f"walk{g}") for distance, g in expected)
    assert [match.name for match in known.nearest(probe, seen, people=1)[0]] == [found_first(known, probe, seen)]


def found_first(known: Gallery, probe: np.ndarray, seen: np.ndarray) -> str:
    far = distances(known, probe[:1], seen[:1])
    return NAMES[int(far[0].argmin())]


@pytest.mark.parametrize("distance", DISTANCES)
def test_of_people_enrolled_by_the_same_walk_the_first_is_found(distance: DistanceName) -> None:
    embedding = np.random.default_rng(0).normal(size=(12, 3, 32)).astype(np.float32)
    embedding[-1] = embedding[0]
    everything = np.ones((12, 3), dtype=bool)
    names = tuple(f"person {row}" for row in range(12))
    known = Gallery(names, names, embedding, everything, distance, "abc")
    probe = np.random.default_rng(1).normal(size=(200, 3, 32)).astype(np.float32)
    for found in known.nearest(probe, np.ones((200, 3), dtype=bool), people=12):
        order = [match.name for match in found]
        assert order.index("person 0") + 1 == order.index("person 11")


def test_who_shares_no_part_with_anybody_is_like_nobody() -> None:
    known = gallery(present=np.tile([True, False, False], (5, 1)))
    (found,) = known.nearest(*(array[2:] for array in probes()), people=3)
    assert found == ()
    assert known.is_stranger(found)


@pytest.mark.parametrize("distance", ["vector/euclidean", "vector/cosine"])
def test_faiss_finds_the_same_people(distance: str) -> None:
    known = gallery(distance=distance, present=np.ones((5, 3), dtype=bool))
    probe, everything = probes()[0], np.ones((3, 3), dtype=bool)
    exact, fast = (known.nearest(probe, everything, people=2, index=index) for index in ("exact", "faiss"))
    assert [[match.name for match in row] for row in exact] == [[match.name for match in row] for row in fast]
    for one, other in zip(exact, fast, strict=True):
        assert [m.distance for m in one] == pytest.approx([m.distance for m in other], rel=1e-4)
    first = probe[0].ravel(), known.embedding[NAMES.index(exact[0][0].name)].ravel()
    if distance == "vector/euclidean":
        assert exact[0][0].distance <= math.dist(*first) + 1e-6


def test_faiss_refuses_what_it_cannot_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="index exact"):
        gallery().nearest(*probes(), people=2, index="faiss")
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ValueError, match="pip install"):
        gallery().nearest(*probes(), people=2, index="faiss")


def test_who_stands_in_the_gallery_is_found_at_no_distance() -> None:
    known = gallery()
    for row, found in enumerate(known.nearest(known.embedding, known.present, people=1)):
        assert found[0].name == NAMES[row]
        assert found[0].distance == pytest.approx(0, abs=1e-6)


def test_a_gallery_survives_its_file(tmp_path: Path) -> None:
    kept, path = gallery(), tmp_path / "gallery.npz"
    write_gallery(path, kept)
    read = read_gallery(path)
    assert (read.names, read.sample_id, read.threshold) == (kept.names, kept.sample_id, kept.threshold)
    assert (read.config, read.facts, read.distance, read.checkpoint_sha) == (
        *(kept.config, kept.facts),
        *("parts/euclidean", "abc"),
    )
    np.testing.assert_array_equal(read.embedding, kept.embedding)
    np.testing.assert_array_equal(read.present, kept.present)


def test_other_weights_and_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="enrol again"):
        gallery().refuse_others("def", "gallery.npz")
    gallery().refuse_others("abc", "gallery.npz")
    with pytest.raises(FileNotFoundError, match="--phase enrol"):
        read_gallery(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", names=np.array(["ann"]))
    with pytest.raises(ValueError, match="expected a gallery"):
        read_gallery(tmp_path / "other.npz")
    with pytest.raises(ValueError, match="slots and width"):
        gallery().nearest(np.zeros((1, 2, 4), np.float32), np.ones((1, 2), bool), people=1)


def test_a_threshold_lets_in_as_many_strangers_as_allowed_and_says_whom_it_finds() -> None:
    # Person k stands at 100 k in the gallery; their probe is k away from there, and 100 - k from the next person.
    place = np.concatenate([100.0 * np.arange(10), 101.0 * np.arange(10)]).astype(np.float32)
    table = SampleTable(tuple(f"walk{row}" for row in range(20)), np.tile(np.arange(10), 2))
    protocol = RetrievalProtocol("walks", np.repeat([GALLERY, PROBE], 10).astype(np.int8))
    space = EmbeddingSpace.of(place[:, None, None], np.ones((20, 1), dtype=bool), "vector/euclidean")
    verification = verify(table, protocol, Pairing.of(table, protocol), space)
    chosen = threshold_of(verification, false_alarms=0.2, walks=1)
    # The last person has nobody behind them: the strangers' distances are 109, 100, 99, ... 92; two of ten are allowed.
    assert chosen.distance == pytest.approx(94)
    assert chosen.distance < 94
    assert chosen.distance == verification.unknown_threshold(0.2)
    assert (chosen.false_alarms, chosen.detected) == (0.2, 1.0)
    assert (chosen.probes, chosen.people) == (10, 10)


def test_nobody_is_a_stranger_without_a_threshold() -> None:
    known = gallery(threshold=None)
    assert known.is_stranger(known.nearest(*probes(), people=1)[0]) is None
    assert gallery().is_stranger((Match("ann", 1.4, "w"),)) is False
    assert gallery().is_stranger((Match("ann", 1.6, "w"),)) is True
