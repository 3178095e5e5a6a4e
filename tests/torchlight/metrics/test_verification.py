"""ROC, EER and open-set identification against plain lists of all pairs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.reference import retrieval as reference
from torchlight.metrics import verification as verification_module
from torchlight.metrics.distance import EmbeddingSpace
from torchlight.metrics.protocol import RetrievalProtocol, SampleTable, roles
from torchlight.metrics.ranking import Pairing
from torchlight.metrics.verification import Verification, verify


def made(
    seed: int, samples: int, whole: bool, camera: bool = False
) -> tuple[SampleTable, RetrievalProtocol, np.ndarray]:
    draw = np.random.default_rng(seed)
    embedding = draw.integers(-2, 3, (samples, 1, 2)) if whole else draw.normal(size=(samples, 1, 2))
    table = SampleTable(
        tuple(map(str, range(samples))), draw.integers(0, 4, samples), {"camera": draw.integers(0, 2, samples)}
    )
    role = roles(draw.random(samples) < 0.6, draw.random(samples) < 0.6)
    role[:2] = 0, 1
    return table, RetrievalProtocol("p", role, (("camera",),) if camera else ()), embedding.astype(np.float32)


def verified(table: SampleTable, protocol: RetrievalProtocol, embedding: np.ndarray) -> Verification:
    space = EmbeddingSpace.of(embedding, np.ones(embedding.shape[:2], dtype=bool), "parts/euclidean")
    return verify(table, protocol, Pairing.of(table, protocol), space)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10_000), samples=st.integers(2, 25), whole=st.booleans(), camera=st.booleans(),
    grid=st.sampled_from([1000, 3]), rate=st.floats(0, 1),
)  # fmt: skip
def test_error_rates_are_those_of_all_pairs(
    seed: int, samples: int, whole: bool, camera: bool, grid: int, rate: float
) -> None:
    table, protocol, embedding = made(seed, samples, whole, camera)
    genuine, others = [], []
    nearest = {int(p): [np.inf, np.inf] for p in protocol.probes}
    for probe in map(int, protocol.probes):
        for item in map(int, protocol.gallery):
            if probe == item or (camera and table.columns["camera"][probe] == table.columns["camera"][item]):
                continue
            distance = reference.euclidean(*embedding[[probe, item], 0].astype(float).tolist())
            is_match = table.identity[probe] == table.identity[item]
            (genuine if is_match else others).append(distance)
            kind = 0 if is_match else 1
            nearest[probe][kind] = min(nearest[probe][kind], distance)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verification_module, "_GRID", grid)
        if not genuine or not others:
            with pytest.raises(ValueError, match="expected at least one"):
                verified(table, protocol, embedding)
            return
        found = verified(table, protocol, embedding)
    points = reference.roc(genuine, others)
    assert found.equal_error == pytest.approx(reference.equal_error(points), abs=1e-12)
    assert found.true_positive_at(rate) == pytest.approx(reference.true_positive_at(points, rate), abs=1e-12)
    np.testing.assert_allclose(found.nearest_match, [pair[0] for pair in nearest.values()], atol=1e-6)
    np.testing.assert_allclose(found.nearest_other, [pair[1] for pair in nearest.values()], atol=1e-6)


def test_people_who_are_well_apart_are_told_apart_and_alike_ones_are_not() -> None:
    table = SampleTable(tuple(map(str, range(20))), np.arange(20) % 5)
    protocol = RetrievalProtocol("p", roles(np.arange(20) < 10, np.arange(20) >= 10))
    apart = 10.0 * np.eye(5, dtype=np.float32)[np.arange(20) % 5][:, None]
    values = verified(table, protocol, apart).intervals(draws=50)
    assert (values["eer"].estimate, values["eer"].high, values["tpr@fpr=0.001"].low) == (0, 0, 100)
    alike = verified(table, protocol, np.ones_like(apart))
    assert (alike.equal_error, alike.true_positive_at(0.1)) == (1, 0)


def test_an_interval_holds_its_estimate_and_the_difference_to_oneself_is_none() -> None:
    table, protocol, embedding = made(0, 120, whole=False)
    embedding[:, 0, 0] += table.identity
    found = verified(table, protocol, embedding)
    for name, interval in found.intervals(draws=400).items():
        assert interval.low <= interval.estimate + 1e-9 <= interval.high + 2e-9, name
    same = found.equal_error_difference(found, draws=50)
    assert (same.estimate, same.low, same.high) == (0, 0, 0)
    other = verified(table, protocol, np.random.default_rng(1).normal(size=embedding.shape).astype(np.float32))
    difference = found.equal_error_difference(other, draws=400)
    assert difference.high < 0
    assert difference.estimate == pytest.approx(100 * (found.equal_error - other.equal_error))


def test_a_threshold_keeps_to_the_false_alarms_it_was_chosen_for() -> None:
    table, protocol, embedding = made(5, 200, whole=False)
    embedding[:, 0, 0] += 2 * table.identity
    found = verified(table, protocol, embedding)
    for share in (0.0, 0.1, 0.5):
        threshold = found.unknown_threshold(share)
        values = found.identification(threshold, draws=20)
        assert values["false_alarms"].estimate <= 100 * share
        # No larger threshold would do: the next stranger is just beyond.
        assert np.mean(found.nearest_other <= np.nextafter(threshold, np.inf)) > share
    assert found.unknown_threshold(1.0) == np.inf
    known = np.isfinite(found.nearest_match)
    first = 100 * np.mean(found.nearest_match[known] < found.nearest_other[known])
    assert found.identification(np.inf, draws=20)["detected"].estimate == pytest.approx(first)
