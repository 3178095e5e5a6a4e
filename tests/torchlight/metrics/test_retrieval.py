"""Retrieval metrics as the engine and a reader see them: names, means over cells, intervals over identities."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from torchlight.metrics.distance import EmbeddingSpace
from torchlight.metrics.protocol import RetrievalProtocol, SampleTable, roles
from torchlight.metrics.ranking import Pairing
from torchlight.metrics.reranking import KReciprocal
from torchlight.metrics.retrieval import METRICS, RetrievalMetrics, Trials, comparison, difference, trials_of
from torchlight.task import Prediction

PEOPLE, WALKS = 12, 6


def table() -> SampleTable:
    number = np.arange(PEOPLE * WALKS)
    columns = {"camera": number // PEOPLE % 3, "condition": number // PEOPLE % 2}
    names = tuple(f"person {n}" for n in range(PEOPLE))
    return SampleTable(
        tuple(f"{n:03d}" for n in number), number % PEOPLE, columns, names, {"condition": ("plain", "loaded")}
    )


def protocol(**rules: object) -> RetrievalProtocol:
    number = np.arange(PEOPLE * WALKS)
    return RetrievalProtocol("some", roles(number >= PEOPLE, number < 3 * PEOPLE), **rules)  # type: ignore[arg-type]


def space(noise: float, seed: int = 0) -> EmbeddingSpace:
    draw = np.random.default_rng(seed)
    people = draw.normal(size=(PEOPLE, 2, 4))[np.arange(PEOPLE * WALKS) % PEOPLE]
    embedding = people + noise * draw.normal(size=people.shape)
    return EmbeddingSpace.of(embedding.astype(np.float32), np.ones(people.shape[:2], dtype=bool), "parts/euclidean")


def trials(noise: float, rules: RetrievalProtocol) -> Trials:
    pairing = Pairing.of(table(), rules)
    return trials_of(table(), rules, pairing, space(noise).between(pairing.probe, pairing.gallery))


def test_a_prediction_is_joined_to_what_is_known_of_its_samples() -> None:
    made, known = space(0.8), table()
    metrics = RetrievalMetrics(known, (protocol(groups="condition"), replace(protocol(), name="other")), draws=50)
    straight = metrics.of_space(made)
    order = np.random.default_rng(1).permutation(len(known))
    outputs = {
        "embedding": torch.from_numpy(made.vectors.reshape(-1, 2, 4)[order]),
        "present": torch.ones(len(known), 2, dtype=torch.bool),
    }
    ids = tuple(known.sample_id[row] for row in order)
    assert dict(metrics(Prediction(ids, torch.zeros(len(ids)), outputs))) == straight
    for name in ("rank1", "plain/mAP", "loaded/rank5_low", "other/mINP_high", "eer", "tpr@fpr=0.01", "chance_rank1"):
        assert 0 <= straight[name] <= 100
    assert (straight["probes"], straight["gallery"], straight["unmatched"]) == (60, 36, 0)
    assert 0 <= straight["rank1_low"] <= straight["rank1"] <= straight["rank1_high"] <= 100
    assert straight["other/rank1"] == pytest.approx(straight["rank1"], abs=10)


def test_reranked_numbers_say_so() -> None:
    values = RetrievalMetrics(table(), (protocol(),), reranking=KReciprocal(5, 2), draws=10).of_space(space(0.8))
    assert "reranked/rank1" in values
    assert all(name.startswith("reranked/") for name in values)


def test_the_mean_over_cells_counts_every_pair_of_views_alike() -> None:
    found = trials(1.5, protocol(cells="camera", exclude=(("camera",),)))
    _, _, cells = found.cell_table("rank1")
    assert np.isnan(cells.diagonal()).all()
    assert found.interval("rank1", draws=10).estimate == pytest.approx(np.nanmean(cells))
    assert found.unmatched == 0


def test_a_blind_guess_is_right_as_often_as_matches_are_among_the_candidates() -> None:
    values = RetrievalMetrics(table(), (protocol(),), draws=1).of_space(space(0.8))
    # Walks 1 and 2 of the gallery ask too, and are not compared with themselves: 2 of 35 for them, 3 of 36 for others.
    assert values["chance_rank1"] == pytest.approx(100 * (2 * 2 / 35 + 3 * 3 / 36) / 5)


def test_the_interval_is_over_people_not_walks() -> None:
    found = trials(0.0, protocol())
    right = (found.identity < PEOPLE // 2) * 100.0
    found = replace(found, values={name: right for name in METRICS})
    interval = found.interval("rank1", draws=4000)
    spread = 100 * np.sqrt(0.25 / PEOPLE)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * spread, rel=0.15)


def test_a_paired_difference_joins_trials_and_is_none_to_oneself() -> None:
    better, worse = trials(0.5, protocol()), trials(1.5, protocol())
    none = difference(better, better, draws=50)["mAP"]
    assert (none.estimate, none.low, none.high) == (0, 0, 0)
    found = difference(better, worse, draws=200)["mAP"]
    assert found.low > 0
    assert found.estimate == pytest.approx((better.values["mAP"] - worse.values["mAP"]).mean())
    with pytest.raises(ValueError, match="only in first"):
        difference(better, trials(1.5, protocol(cells="camera")), draws=10)


def test_a_comparison_shows_every_system_every_group_and_the_differences() -> None:
    shown = comparison(
        table(), protocol(groups="condition"), {"joint": space(1.0), "fused": space(0.5)}, {"joint": 1.0}
    )
    assert "60 probes, 36 in the gallery; trials without a match: 0, left out" in shown
    for start in ("joint", "fused", "plain", "loaded", "fused - joint"):
        assert any(line.startswith(start) for line in shown.splitlines())


def test_embeddings_that_are_not_finite_are_refused_where_they_are_seen() -> None:
    embedding, present = np.ones((4, 2, 3), np.float32), np.ones((4, 2), np.bool_)
    embedding[1, 1, 0], embedding[3] = np.nan, np.inf
    with pytest.raises(ValueError, match="parts/cosine: got 2 of 4 embeddings that are not finite"):
        EmbeddingSpace.of(embedding, present, "parts/cosine")
    present[1, 1], present[3], embedding[~np.isfinite(embedding)] = False, False, 0
    EmbeddingSpace.of(embedding, present, "parts/cosine")


def test_a_protocol_that_nobody_can_answer_is_refused() -> None:
    with pytest.raises(ValueError, match="some: got no probe that the gallery has a match for"):
        trials(0.5, protocol(exclude=(("identity",),)))
