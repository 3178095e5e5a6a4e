"""The official protocols of NTU RGB+D as data: who learns, who tests, what is never seen."""

import itertools
from collections.abc import Mapping

import numpy as np
import pytest

from feeders.dataset import DataSet, Protocol, canonical_split, split_index, usual_validation
from feeders.loading import ActionDataConfig
from feeders.ntu import CLASS_NAMES, NTU60, NTU120
from feeders.store import StoreIndex

PROTOCOLS = [(facts, name) for facts in (NTU60, NTU120) for name in facts.protocols]
LAST = {"ntu60": {"subject": 40, "camera": 3, "setup": 17}, "ntu120": {"subject": 106, "camera": 3, "setup": 32}}


def every_clip(facts: DataSet, drop: Mapping[str, set[int]] | None = None) -> StoreIndex:
    """One clip for each combination of subject, camera and setup, of a class that follows from them."""
    last = LAST[facts.name]
    fields = {name: range(1, last[name] + 1) for name in ("subject", "camera", "setup")}
    kept = [[value for value in values if value not in (drop or {}).get(name, ())] for name, values in fields.items()]
    subject, camera, setup = np.array(list(itertools.product(*kept))).T
    count = len(subject)
    ones, ids = np.ones(count, dtype=np.int64), np.array([f"{n:06}" for n in range(count)])
    return StoreIndex(
        sample_id=ids,
        label=np.arange(count) % len(facts.class_names),
        subject=subject,
        camera=camera,
        setup=setup,
        replication=ones,
        width=-ones,
        height=-ones,
        frames=ones,
        bodies=ones,
        digest=ids.astype("S6"),
        segment_end=np.arange(1, count + 1),
        segments=np.zeros((count, 3), dtype=np.int64),
    )


@pytest.mark.parametrize(("facts", "name"), PROTOCOLS)
def test_every_clip_is_on_exactly_one_side(facts: DataSet, name: str) -> None:
    index = every_clip(facts)
    splits = split_index(index, facts.protocol(name), ())
    assert not len(splits["val"])
    together = np.concatenate([splits["train"], splits["test"]])
    np.testing.assert_array_equal(np.sort(together), np.arange(len(index)))


def test_the_sides_are_the_published_ones() -> None:
    def train(facts: DataSet, name: str) -> tuple[str, set[int]]:
        ((field, values),) = facts.protocol(name).train.items()
        return field, set(values)

    first = {1, 2, 4, 5, 8, 9, *range(13, 20), 25, 27, 28, 31, 34, 35, 38}
    more = {45, 46, 47, 49, 50, *range(52, 60), 70, 74, 78, *range(80, 87), 89, *range(91, 96), 97, 98, 100, 103}
    assert train(NTU60, "cross_subject") == ("subject", first)
    assert train(NTU60, "cross_view") == ("camera", {2, 3})
    assert train(NTU120, "cross_subject") == ("subject", first | more)
    assert train(NTU120, "cross_setup") == ("setup", {number for number in range(1, 33) if number % 2 == 0})
    assert (len(first), len(first | more)) == (20, 53)
    assert [next(iter(facts.protocols)) for facts in (NTU60, NTU120)] == ["cross_subject"] * 2


@pytest.mark.parametrize(("facts", "name"), PROTOCOLS)
def test_validation_people_are_learned_from_in_every_protocol_and_tested_in_none_across_subjects(
    facts: DataSet, name: str
) -> None:
    index, protocol = every_clip(facts), facts.protocol(name)
    held_out = usual_validation(index, protocol, facts)
    assert held_out == facts.validation_subjects
    splits = split_index(index, protocol, held_out)
    subjects = {split: set(index.subject[clips].tolist()) for split, clips in splits.items()}
    assert subjects["val"] == set(held_out)
    assert not subjects["val"] & subjects["train"]
    if name == "cross_subject":
        assert not subjects["val"] & subjects["test"]
        assert len(held_out) == len(protocol.train["subject"]) // 10


def test_people_whose_recordings_are_not_there_are_not_held_out() -> None:
    index = every_clip(NTU60, drop={"subject": {16}})
    assert usual_validation(index, NTU60.protocol(None), NTU60) == (38,)


def test_the_fields_abbreviations_are_the_same_protocols() -> None:
    meant = {
        "cross_subject": ("xsub", "CS", "CSub", "X-Sub".replace("-", ""), "cross-subject", "cross_subject"),
        "cross_view": ("xview", "CV", "cross-view"),
        "cross_setup": ("xset", "CSet", "cross-set", "cross_setup"),
    }
    for ours, others in meant.items():
        assert {canonical_split(other) for other in others} == {ours}
    assert canonical_split("published") == "published"
    assert ActionDataConfig(dataset="ntu120", split="xset").split == "cross_setup"


def test_a_protocol_of_the_other_data_set_is_refused_by_our_names() -> None:
    with pytest.raises(ValueError, match=r"got 'cross_setup', expected one of \['cross_subject', 'cross_view'\] for"):
        NTU60.protocol(canonical_split("xset"))


def test_unseen_classes_are_the_published_lists() -> None:
    sizes = {
        name: (len(facts.class_names) - len(unseen), len(unseen))
        for facts in (NTU60, NTU120)
        for name, unseen in facts.zero_shot.items()
    }
    assert sizes == {
        "ntu60_55_5": (55, 5),
        "ntu60_48_12": (48, 12),
        "ntu120_110_10": (110, 10),
        "ntu120_96_24": (96, 24),
    }
    # As published, counted from 1.
    lists = {
        "ntu60_55_5": "11 12 20 27 57",
        "ntu60_48_12": "4 6 10 13 16 41 43 48 52 57 59 60",
        "ntu120_110_10": "5 14 38 44 50 66 89 96 100 107",
        "ntu120_96_24": "6 10 12 17 19 21 23 30 36 40 46 50 60 69 71 82 85 88 94 95 105 114 115 120",
    }
    for facts in (NTU60, NTU120):
        for name, unseen in facts.zero_shot.items():
            assert " ".join(str(number + 1) for number in sorted(unseen)) == lists[name]
    named = {CLASS_NAMES[number] for number in NTU60.unseen_classes("ntu60_55_5")}
    assert named == {"reading", "writing", "put on a hat/cap", "jump up", "touch other person's pocket"}
    assert CLASS_NAMES[106] in {CLASS_NAMES[number] for number in NTU120.unseen_classes("ntu120_110_10")}
    assert all(max(unseen) < 60 for unseen in NTU60.zero_shot.values())
    assert NTU60.unseen_classes(None) == frozenset()
    with pytest.raises(ValueError, match=r"data\.zero_shot: got 'ntu120_96_24', expected one of \['ntu60_55_5'"):
        NTU60.unseen_classes("ntu120_96_24")


def test_unseen_classes_are_in_the_test_alone() -> None:
    index, protocol = every_clip(NTU60), NTU60.protocol(None)
    unseen = NTU60.unseen_classes("ntu60_48_12")
    plain, kept = (split_index(index, protocol, (16,), classes) for classes in ((), unseen))
    np.testing.assert_array_equal(kept["test"], plain["test"])
    for split in ("train", "val"):
        classes = set(index.label[plain[split]].tolist())
        assert classes & unseen
        assert set(index.label[kept[split]].tolist()) == classes - unseen


def test_copies_of_a_test_clip_stay_out_where_a_protocol_says_so() -> None:
    index = every_clip(NTU60)
    strict = Protocol({"camera": frozenset({2, 3})}, {"camera": frozenset({1})}, without_copies=True)
    index.digest[index.camera == 2] = index.digest[index.camera == 1]
    assert set(index.camera[split_index(index, strict, ())["train"]].tolist()) == {3}
