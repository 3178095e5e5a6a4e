import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from torchlight.gallery import Gallery, Match, Threshold, calibrate, distances, read_gallery, write_gallery

NAMES = ("ann", "bob", "ann", "cid", "bob")


def gallery(**changed: object) -> Gallery:
    rng = np.random.default_rng(1)
    present = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1], [1, 1, 0], [1, 1, 1]], dtype=bool)
    kept = Gallery(
        names=NAMES,
        sample_id=tuple(f"walk{row}" for row in range(5)),
        embedding=rng.normal(size=(5, 3, 4)).astype(np.float32) * present[..., None],
        present=present,
        checkpoint_sha="abc",
        threshold=Threshold(1.5, 0.05, 0.1, 20, 3),
        config={"seed": 3},
        facts={"slots": ["whole", "arms", "legs"]},
    )
    return replace(kept, **changed)


def probes() -> tuple[np.ndarray, np.ndarray]:
    present = np.array([[1, 1, 1], [1, 1, 0], [0, 1, 0]], dtype=bool)
    return np.random.default_rng(0).normal(size=(3, 3, 4)).astype(np.float32) * present[..., None], present


def naive(one: np.ndarray, seen: np.ndarray, other: np.ndarray, other_seen: np.ndarray, measure: str) -> float:
    if measure == "vector":
        return math.dist(one.ravel().tolist(), other.ravel().tolist())
    parts = [
        math.dist(a.tolist(), b.tolist()) for a, b, s, t in zip(one, other, seen, other_seen, strict=True) if s and t
    ]
    return sum(parts) / len(parts) if parts else math.inf


@pytest.mark.parametrize("measure", ["part_mean", "vector"])
def test_distances_equal_their_naive_twin(measure: str) -> None:
    (probe, seen), known = probes(), gallery()
    expected = [
        [naive(one, s, other, t, measure) for other, t in zip(known.embedding, known.present, strict=True)]
        for one, s in zip(probe, seen, strict=True)
    ]
    np.testing.assert_allclose(distances(probe, seen, known.embedding, known.present, measure), expected, rtol=1e-6)


def test_people_are_ranked_by_their_nearest_sample() -> None:
    (probe, seen), known = probes(), gallery()
    far = distances(probe, seen, known.embedding, known.present, "part_mean")
    for row, found in enumerate(known.nearest(probe, seen, people=3)):
        best = {name: min((far[row, g], g) for g in range(5) if NAMES[g] == name) for name in set(NAMES)}
        expected = sorted((distance, g) for distance, g in best.values() if math.isfinite(distance))
        assert found == tuple(Match(NAMES[g], pytest.approx(distance), f"walk{g}") for distance, g in expected)
    assert [match.name for match in known.nearest(probe, seen, people=1)[0]] == [found_first(known, probe, seen)]


def found_first(known: Gallery, probe: np.ndarray, seen: np.ndarray) -> str:
    far = distances(probe[:1], seen[:1], known.embedding, known.present, known.measure)
    return NAMES[int(far[0].argmin())]


def test_who_shares_no_part_with_anybody_is_like_nobody() -> None:
    known = gallery(present=np.tile([True, False, False], (5, 1)))
    (found,) = known.nearest(*(array[2:] for array in probes()), people=3)
    assert found == ()
    assert known.is_stranger(found)


def test_faiss_finds_the_same_people() -> None:
    known = gallery(measure="vector")
    exact, fast = (known.nearest(*probes(), people=2, index=index) for index in ("exact", "faiss"))
    assert [[match.name for match in row] for row in exact] == [[match.name for match in row] for row in fast]
    for one, other in zip(exact, fast, strict=True):
        assert [m.distance for m in one] == pytest.approx([m.distance for m in other], rel=1e-4)


def test_faiss_refuses_what_it_cannot_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="measure 'vector'"):
        gallery().nearest(*probes(), people=2, index="faiss")
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ValueError, match="pip install"):
        gallery(measure="vector").nearest(*probes(), people=2, index="faiss")


def test_a_gallery_survives_its_file(tmp_path: Path) -> None:
    kept, path = gallery(), tmp_path / "gallery.npz"
    write_gallery(path, kept)
    read = read_gallery(path)
    assert (read.names, read.sample_id, read.threshold) == (kept.names, kept.sample_id, kept.threshold)
    assert (read.config, read.facts, read.measure, read.checkpoint_sha) == (
        *(kept.config, kept.facts),
        *("part_mean", "abc"),
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


def test_a_threshold_lets_in_as_many_strangers_as_allowed_and_tells_whom_it_turns_away() -> None:
    # Probe k is its own person's walk: its distance to the nearest other is 10 k, to its own person 4 k.
    people = np.arange(1, 11)
    distance = np.full((10, 10), 1000.0)
    distance[people - 1, people - 1] = 4.0 * people
    distance[people - 1, people % 10] = 10.0 * people
    chosen = calibrate(distance, people, people, false_accepts=0.2)
    assert chosen.distance == pytest.approx(30)
    assert chosen.distance < 30
    assert (chosen.false_accepts, chosen.false_rejects) == (0.2, 0.3)
    assert (chosen.probes, chosen.people) == (10, 10)
    assert calibrate(distance, people, people, false_accepts=0.0).false_accepts == 0
    assert calibrate(distance, people, people, false_accepts=0.999).false_rejects == 0
    with pytest.raises(ValueError, match="expected both"):
        calibrate(distance, people, people + 20, false_accepts=0.2)


def test_nobody_is_a_stranger_without_a_threshold() -> None:
    known = gallery(threshold=None)
    assert known.is_stranger(known.nearest(*probes(), people=1)[0]) is None
    assert gallery().is_stranger((Match("ann", 1.4, "w"),)) is False
    assert gallery().is_stranger((Match("ann", 1.6, "w"),)) is True
