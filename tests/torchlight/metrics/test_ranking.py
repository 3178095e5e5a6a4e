"""Ranks by counting, against lists that are sorted whole: ties, absent parts, excluded pairs, cells, tiny galleries."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.reference import retrieval as reference
from torchlight.metrics import distance as distance_module
from torchlight.metrics import ranking as ranking_module
from torchlight.metrics.distance import DISTANCES, DistanceName, EmbeddingSpace, GivenDistances
from torchlight.metrics.protocol import RetrievalProtocol, SampleTable, roles
from torchlight.metrics.ranking import Pairing, nearest, rank_matches
from torchlight.metrics.retrieval import METRICS, RANKS, trials_of

EXCLUSIONS = ((), (("camera",),), (("identity", "camera"),), (("camera",), ("identity", "condition")))


@pytest.fixture(params=["compiled", "plain"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "plain":
        monkeypatch.setattr(ranking_module, "_compiled", lambda: None)
    return str(request.param)


def test_whoever_is_not_seen_is_infinitely_far_also_where_there_is_one_part() -> None:
    embedding = np.array([[[1.0, 0.0]], [[0.0, 1.0]], [[0.0, 0.0]]], np.float32)
    space = EmbeddingSpace.of(embedding, np.array([[True], [True], [False]]), "parts/cosine")
    between = space.between(np.array([0]), np.array([1, 2]))
    np.testing.assert_array_equal(between.rows(0, 1)[0], [[2.0, np.inf]])
    np.testing.assert_array_equal(between.exact(np.array([0, 0]), np.array([0, 1])), [2.0, np.inf])


class Case:
    """A small random gallery, and the distance of its pairs by plain loops."""

    def __init__(self, seed: int, samples: int, name: DistanceName, kind: str) -> None:
        draw = np.random.default_rng(seed)
        self.name = name
        # Small whole numbers tie often, and are exact in whatever order they are added.
        whole = draw.integers(-2, 3, (samples, 3, 2)) if kind == "ties" else draw.normal(size=(samples, 3, 2))
        self.embedding = (whole + (np.array([7.0, 7.0]) if name.endswith("cosine") else 0)).astype(np.float32)
        if kind == "same":
            self.embedding[:] = self.embedding[0]
        if kind == "near ties":
            self.embedding = (self.embedding[:1] + 1e-5 * self.embedding).astype(np.float32)
        self.present = draw.random((samples, 3)) < (0.7 if name.startswith("parts") else 2)
        self.table = SampleTable(
            tuple(f"s{n}" for n in range(samples)),
            draw.integers(-1, 4, samples),
            {"camera": draw.integers(-1, 3, samples), "condition": draw.integers(0, 2, samples)},
        )
        self.role = roles(draw.random(samples) < 0.6, draw.random(samples) < 0.6)
        self.role[:2] = 0, 1
        self.space = EmbeddingSpace.of(self.embedding, self.present, name)

    def distance(self, one: int, other: int) -> float:
        pair = [self.embedding[n].astype(float).tolist() for n in (one, other)]
        if self.name.endswith("cosine"):
            unit = self.space.vectors.reshape(len(self.embedding), -1, 2 if self.name.startswith("parts") else 6)
            pair = [unit[n].astype(float).tolist() for n in (one, other)]
            if self.name.startswith("vector"):
                return reference.squared(pair[0][0], pair[1][0]) / 2
            return reference.mean_over_parts(
                *pair, *self.present[[one, other]].tolist(), lambda a, b: reference.squared(a, b) / 2
            )
        if self.name.startswith("vector"):
            return reference.euclidean(sum(pair[0], []), sum(pair[1], []))
        return reference.mean_over_parts(*pair, *self.present[[one, other]].tolist(), reference.euclidean)

    def is_match(self, probe: int, item: int) -> bool:
        identity = self.table.identity
        return bool(identity[probe] == identity[item] >= 0)

    def candidates(self, protocol: RetrievalProtocol, probe: int) -> list[int]:
        def agree(item: int, columns: tuple[str, ...]) -> bool:
            values = [(self.table.column(name)[probe], self.table.column(name)[item]) for name in columns]
            return all(a == b >= 0 for a, b in values)

        return [
            int(item)
            for item in np.flatnonzero((protocol.role == 1) | (protocol.role == 2))
            if item != probe and not any(agree(int(item), columns) for columns in protocol.exclude)
        ]


cases = st.builds(
    Case,
    seed=st.integers(0, 10_000),
    samples=st.integers(2, 24),
    name=st.sampled_from(DISTANCES),
    kind=st.sampled_from(["ties", "real", "same", "near ties"]),
)


@pytest.mark.parametrize("cells", ["", "camera"])
@pytest.mark.parametrize("unmatched", ["left_out", "missed"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases, exclude=st.sampled_from(EXCLUSIONS), chunk=st.sampled_from([1, 3, 1000]))
def test_every_metric_of_every_probe_is_that_of_a_sorted_list(
    way: str, cells: str, unmatched: str, case: Case, exclude: tuple[tuple[str, ...], ...], chunk: int
) -> None:
    protocol = RetrievalProtocol("p", case.role, exclude, cells=cells, unmatched=unmatched)  # type: ignore[arg-type]
    expected: dict[tuple[int, int], reference.Outcome | None] = {}
    chances: dict[tuple[int, int], float] = {}
    values = sorted({int(case.table.column(cells)[row]) if cells else 0 for row in protocol.gallery})
    for probe in map(int, protocol.probes):
        for value in values:
            everybody = case.candidates(protocol, probe)
            those = [item for item in everybody if not cells or case.table.column(cells)[item] == value]
            if those or not cells:
                ranked = reference.ranked(probe, those, case.distance, case.is_match)
                expected[probe, value] = reference.outcome(ranked, RANKS)
                chances[probe, value] = sum(ranked) / max(len(ranked), 1)
    pairing = Pairing.of(case.table, protocol)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distance_module.EmbeddingDistances, "chunk", chunk)
        distances = case.space.between(pairing.probe, pairing.gallery)
        if not any(expected.values()):
            with pytest.raises(ValueError, match="no probe that the gallery has a match for"):
                trials_of(case.table, protocol, pairing, distances)
            return
        trials = trials_of(case.table, protocol, pairing, distances)
    assert trials.unmatched == sum(outcome is None for outcome in expected.values())
    counted = {key: o for key, o in expected.items() if o is not None or unmatched == "missed"}
    assert list(zip(trials.probe.tolist(), trials.cell.tolist(), strict=True)) == list(counted)
    for t, (key, outcome) in enumerate(counted.items()):
        got = [trials.values[name][t] / 100 for name in METRICS]
        want = [0.0] * len(METRICS)
        if outcome is not None:
            want = [*outcome.rank.values(), outcome.average_precision, outcome.inverse_negative_penalty]
        np.testing.assert_allclose(got, want, rtol=1e-12)
        assert trials.chance[t] == pytest.approx(100 * chances[key])


@settings(max_examples=60, deadline=None)
@given(case=cases, exclude=st.sampled_from(EXCLUSIONS), count=st.integers(1, 30))
def test_the_nearest_are_those_of_a_sorted_list(case: Case, exclude: tuple[tuple[str, ...], ...], count: int) -> None:
    protocol = RetrievalProtocol("p", case.role, exclude)
    pairing = Pairing.of(case.table, protocol)
    distances = case.space.between(pairing.probe, pairing.gallery)
    excluded = pairing.excluded(case.table, protocol)
    found, number = nearest(distances, len(pairing.probe), pairing.gallery, count, excluded)
    for row, probe in enumerate(map(int, protocol.probes)):
        ranked = sorted(case.candidates(protocol, probe), key=lambda item: (case.distance(probe, item), item))
        some = [item for item in found[row].tolist() if item >= 0]
        assert some == ranked[:count]
        expected = [case.distance(probe, item) for item in some]
        np.testing.assert_allclose(case.space.distance(number[row, : len(some)]), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", DISTANCES)
def test_products_stay_within_their_error_bound(name: DistanceName) -> None:
    draw = np.random.default_rng(0)
    embedding = (draw.normal(size=(60, 2, 64)) * draw.uniform(0.01, 100, (60, 1, 1))).astype(np.float32)
    space = EmbeddingSpace.of(embedding, draw.random((60, 2)) < (0.8 if "parts" in name else 2), name)
    rows = np.arange(60)
    distances = space.between(rows, rows)
    number, error = distances.rows(10, 30)
    probe, item = np.repeat(np.arange(10, 30), 60), np.tile(rows, 20)
    exact = distances.exact(probe, item).reshape(20, 60)
    is_finite = np.isfinite(exact)
    np.testing.assert_array_equal(np.isinf(number), ~is_finite)
    assert (np.abs(np.where(is_finite, number, 0) - np.where(is_finite, exact, 0)) <= error[:, None]).all()
    assert error.max() < 1e-2 * exact[is_finite].max()


def test_equal_vectors_are_equally_far_wherever_they_stand() -> None:
    draw = np.random.default_rng(0)
    embedding = np.tile(draw.normal(size=(1, 3, 77)), (500, 1, 1)).astype(np.float32)
    embedding[0] += 1
    for name in DISTANCES:
        space = EmbeddingSpace.of(embedding, np.ones((500, 3), dtype=bool), name)
        exact = space.between(np.array([0]), np.arange(1, 500)).exact(np.zeros(499, dtype=int), np.arange(499))
        assert len(set(exact.tolist())) == 1


def test_a_gallery_in_which_everybody_is_alike_finds_nobody(way: str) -> None:
    identity = np.array([0, 0, 0, 1, 2, 3, 4])
    table = SampleTable(tuple("abcdefg"), identity)
    protocol = RetrievalProtocol("p", roles(np.arange(7) == 0, np.arange(7) > 0))
    pairing = Pairing.of(table, protocol)
    space = EmbeddingSpace.of(np.full((7, 2, 9), 0.1, np.float32), np.ones((7, 2), dtype=bool), "parts/euclidean")
    ranking = rank_matches(table, protocol, pairing, space.between(pairing.probe, pairing.gallery))
    assert ranking.ahead.tolist() == [4, 4]


def test_a_matrix_of_distances_ranks_as_the_embeddings_it_is_of() -> None:
    case = Case(3, 40, "parts/euclidean", "ties")
    protocol = RetrievalProtocol("p", case.role, (("camera",),), cells="condition")
    pairing = Pairing.of(case.table, protocol)
    matrix = np.array([[case.distance(p, g) for g in pairing.gallery] for p in pairing.probe])
    of_space = rank_matches(case.table, protocol, pairing, case.space.between(pairing.probe, pairing.gallery))
    of_matrix = rank_matches(case.table, protocol, pairing, GivenDistances(matrix))
    np.testing.assert_array_equal(of_space.ahead, of_matrix.ahead)
    np.testing.assert_array_equal(of_space.bounds, of_matrix.bounds)


def test_one_block_of_a_cosine_is_what_one_minus_cos_says() -> None:
    draw = np.random.default_rng(0)
    embedding = draw.normal(size=(2, 1, 8)).astype(np.float32)
    space = EmbeddingSpace.of(embedding, np.ones((2, 1), dtype=bool), "vector/cosine")
    number = space.between(np.array([0]), np.array([1])).exact(np.array([0]), np.array([0]))
    assert space.distance(number)[0] == pytest.approx(reference.cosine(*embedding[:, 0].tolist()), abs=1e-6)


def test_streams_fuse_by_their_weighted_mean_distance() -> None:
    first, second = Case(1, 12, "parts/euclidean", "real"), Case(2, 12, "vector/euclidean", "real")
    first.present[:] = True
    fused = EmbeddingSpace.fused(
        [EmbeddingSpace.of(first.embedding, first.present, "parts/euclidean"), second.space], np.array([0.25, 0.75])
    )
    number = fused.between(np.arange(12), np.arange(12)).exact(np.zeros(12, dtype=int), np.arange(12))
    expected = [0.25 * first.distance(0, n) + 0.75 * second.distance(0, n) for n in range(12)]
    np.testing.assert_allclose(fused.distance(number), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: EmbeddingSpace.of(np.ones((2, 2, 3), np.float32), np.eye(2, dtype=bool), "vector/euclidean"),
            "parts/",
        ),
        (lambda: EmbeddingSpace.of(np.zeros((2, 1, 3), np.float32), np.ones((2, 1), bool), "parts/cosine"), "length 0"),
        (lambda: SampleTable(("a", "b"), np.array([0, -2])), "from -1"),
        (lambda: SampleTable(("a", "b"), np.array([0, 1]), identity_names=("x",)), "below 1"),
        (lambda: SampleTable(("a",), np.array([0]), {"sample": np.array([0])}), "another name"),
        (lambda: SampleTable(("a",), np.array([0]), {}, (), {"camera": ("x",)}), "names for camera"),
        (lambda: SampleTable(("a",), np.array([0])).column("view"), "no column 'view'"),
        (lambda: RetrievalProtocol("p", np.array([3], np.int8)), "int8"),
        (lambda: RetrievalProtocol("a/b", np.array([0], np.int8)), "without a slash"),
        (
            lambda: Pairing.of(SampleTable(("a",), np.array([0])), RetrievalProtocol("p", np.array([0], np.int8))),
            "1 probes and 0 in the gallery",
        ),
        (
            lambda: Pairing.of(SampleTable(("a",), np.array([0])), RetrievalProtocol("p", np.zeros(2, np.int8))),
            "2 roles",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
