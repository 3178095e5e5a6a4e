import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeders.sampler import IdentitySampler
from recipes.gait_retrieval import GaitRun


def drawn(sampler: IdentitySampler, epoch: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    return [sampler.batch(epoch, number) for number in range(len(sampler))]


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 7), min_size=3, max_size=12),
    people=st.integers(1, 3),
    clips=st.integers(1, 5),
    passes=st.integers(1, 4),
    epoch=st.integers(0, 5),
)
def test_a_batch_is_p_people_with_k_walks_that_differ_where_there_are_k(
    counts: list[int], people: int, clips: int, passes: int, epoch: int
) -> None:
    label = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    sampler = IdentitySampler(label, people, clips, passes, seed=3)
    assert len(sampler) == passes * (len(counts) // people)
    for walks, _ in drawn(sampler, epoch):
        of_person = label[walks].reshape(people, clips)
        assert (of_person == of_person[:, :1]).all()
        assert len(set(of_person[:, 0])) == people
        for row, person in zip(walks.reshape(people, clips), of_person[:, 0], strict=True):
            assert len(set(row.tolist())) == min(clips, counts[person])


def test_an_epoch_gives_everybody_one_turn_a_pass_and_shows_their_walks_equally_often() -> None:
    label = np.repeat(np.arange(8), 6)
    shown = np.concatenate([walks for walks, _ in drawn(IdentitySampler(label, 4, 3, passes=4, seed=0))])
    assert np.bincount(shown, minlength=48).tolist() == [2] * 48


def test_who_waits_in_one_pass_is_another_in_the_next() -> None:
    label = np.repeat(np.arange(7), 2)
    shown = np.concatenate([walks for walks, _ in drawn(IdentitySampler(label, 3, 2, passes=30, seed=0))])
    turns = np.bincount(label[shown]) // 2
    assert turns.sum() == 30 * 6
    assert turns.min() > 15


def test_every_walk_has_a_number_of_its_own_in_the_epoch() -> None:
    sampler = IdentitySampler(np.repeat(np.arange(7), 2), 3, 4, passes=5, seed=0)
    numbers = np.concatenate([places for _, places in drawn(sampler)])
    assert len(set(numbers.tolist())) == len(numbers)


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_batches_of_an_epoch(world: int) -> None:
    label = np.repeat(np.arange(9), 4)
    alone = drawn(IdentitySampler(label, 2, 2, passes=3, seed=1), epoch=4)
    parts = [drawn(IdentitySampler(label, 2, 2, 3, 1, rank, world), epoch=4) for rank in range(world)]
    assert {len(part) for part in parts} == {len(alone) // world}
    for number, (walks, places) in enumerate(alone[: len(alone) // world * world]):
        got_walks, got_places = parts[number % world][number // world]
        assert got_walks.tolist() == walks.tolist()
        assert got_places.tolist() == places.tolist()


def test_epochs_and_seeds_differ_and_the_same_ones_do_not() -> None:
    label = np.repeat(np.arange(9), 4)

    def walks(seed: int, epoch: int) -> list[int]:
        return np.concatenate([w for w, _ in drawn(IdentitySampler(label, 2, 2, 1, seed), epoch)]).tolist()

    assert walks(0, 0) == walks(0, 0)
    assert walks(0, 0) != walks(0, 1)
    assert walks(0, 0) != walks(1, 0)


def test_too_few_people_end_in_one_line() -> None:
    with pytest.raises(ValueError, match="got 4 for each of 1 processes and 3 people"):
        IdentitySampler(np.arange(3), 4, 2, 1, seed=0)
    with pytest.raises(ValueError, match="for each of 5 processes"):
        IdentitySampler(np.arange(8), 2, 2, 1, seed=0, rank=0, world=5)
    with pytest.raises(ValueError, match="expected at least 1"):
        IdentitySampler(np.arange(8), 2, 0, 1, seed=0)


def test_what_to_change_where_people_are_few_is_named_by_keys_that_exist() -> None:
    with pytest.raises(ValueError, match=r"lower train\.batch_size or raise walks_each") as caught:
        IdentitySampler(np.arange(3), 4, 2, 1, seed=0)
    keys = set(re.findall(r"\w+(?:[._]\w+)+", str(caught.value)))
    assert keys == {"train.batch_size", "walks_each"}
    for key in keys:
        schema: Any = GaitRun
        for name in key.split("."):
            schema = schema.model_fields[name].annotation
