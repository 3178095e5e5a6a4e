from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feeders.batch import hide
from model.masking import MaskConfig, draw_seeds, hidden, shuffled, some_of
from tests.model.staged import gappy_clips, seeded, taken


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 2**40), st.floats(0.01, 0.99), st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=1)
)
def test_a_share_of_the_candidates_is_taken_never_all_and_never_none(
    seed: int, share: float, rows: list[list[bool]]
) -> None:
    candidates = torch.tensor(rows)
    taken_rows = some_of(candidates, share, np.arange(seed, seed + len(rows)), "test")
    assert not (taken_rows & ~candidates).any()
    for there, took in zip(candidates.sum(dim=1).tolist(), taken_rows.sum(dim=1).tolist(), strict=True):
        assert took == (0 if there < 2 else min(max(round(share * there), 1), there - 1))


def test_every_candidate_is_taken_equally_often() -> None:
    candidates = torch.tensor([[True, False, True, True, True]]).expand(8000, -1)
    often = some_of(candidates, 0.5, np.arange(8000), "test").float().mean(dim=0)
    torch.testing.assert_close(often, torch.tensor([0.5, 0.0, 0.5, 0.5, 0.5]), atol=0.02, rtol=0)


def test_the_candidates_come_first_in_a_shuffle() -> None:
    candidates = torch.tensor([[False, True, False, True]])
    order = shuffled(candidates, np.array([3]), "test")[0].tolist()
    assert sorted(order[:2]) == [1, 3]
    assert order[2:] == [0, 2]


@pytest.mark.parametrize("what", ["frames", "joints", "cells"])
def test_a_mask_is_a_function_of_the_sample_and_its_seed_alone(what: str) -> None:
    mask, batch = MaskConfig(what=what, share=0.3), seeded(gappy_clips())
    whole = hidden(batch, mask, draw_seeds(batch))
    torch.rand(5)
    rows = [4, 0, 3]
    some = taken(batch, rows)
    assert torch.equal(hidden(some, mask, draw_seeds(some)), whole[rows])
    later = seeded(batch, first=100)
    assert not torch.equal(hidden(later, mask, draw_seeds(later)), whole)


def test_frames_are_hidden_whole_and_joints_throughout() -> None:
    batch = gappy_clips()
    seeds = draw_seeds(batch)
    frames = hidden(batch, MaskConfig(what="frames", share=0.4), seeds)
    assert torch.equal(frames.any(dim=2), frames.all(dim=2))
    assert not frames[:, 3].any(), "a frame that shows nothing is not worth hiding"
    assert frames.any(dim=2).sum(dim=1).tolist() == [4, 3, 4, 3, 4, 3]  # 0.4 of 11 frames, and of 7
    joints = hidden(batch, MaskConfig(what="joints", share=0.4), seeds)
    assert torch.equal(joints.any(dim=1), joints.all(dim=1))
    assert joints[:, 0].sum(dim=1).tolist() == [8] * 6


def test_cells_are_hidden_one_by_one() -> None:
    batch = gappy_clips()
    is_seen = (batch.joint_weight > 0).any(dim=3)
    cells = hidden(batch, MaskConfig(what="cells", share=0.4), draw_seeds(batch))
    assert not (cells & ~is_seen).any()
    assert cells.flatten(1).sum(dim=1).tolist() == (0.4 * is_seen.flatten(1).sum(dim=1)).round().tolist()
    assert not torch.equal(cells.any(dim=2), cells.all(dim=2))
    assert not torch.equal(cells.any(dim=1), cells.all(dim=1))


@pytest.mark.parametrize("what", ["frames", "joints", "cells"])
def test_of_each_group_its_own_share_is_hidden(what: str) -> None:
    batch, groups = gappy_clips(), [[4, 0, 1], [2, 3, *range(6, 20)]]
    seeds, mask = draw_seeds(batch), MaskConfig(what=what, share=0.3)
    apart = hidden(batch, mask, seeds, groups)
    assert not apart[:, :, 5].any(), "of no group"
    is_seen = (batch.joint_weight > 0).any(dim=3)
    for joints in groups:
        of_group, there = apart[:, :, joints], is_seen[:, :, joints]
        assert (of_group & there).flatten(1).any(dim=1).all()
        assert (~of_group & there).flatten(1).any(dim=1).all()
    if what == "frames":
        assert not torch.equal(apart[:, :, 0], apart[:, :, 2])
    both = hidden(batch, mask, seeds, [range(20)])
    assert torch.equal(both, hidden(batch, mask, seeds))


@pytest.mark.parametrize("mask", [MaskConfig(what="none"), MaskConfig(share=0)])
def test_nothing_may_be_hidden(mask: MaskConfig) -> None:
    batch = gappy_clips()
    assert not hidden(batch, mask, draw_seeds(batch)).any()


def test_what_is_hidden_leaves_no_trace() -> None:
    batch = gappy_clips()
    mask = hidden(batch, MaskConfig(), draw_seeds(batch))
    other = replace(batch, pose=torch.where(mask[:, None, :, :, None], batch.pose + 7, batch.pose))
    assert torch.equal(hide(batch, mask).pose, hide(other, mask).pose)
    assert not hide(batch, mask).joint_weight[mask].any()
    assert torch.equal(hide(batch, mask).pose[:, :, 3:5], (batch.pose * ~mask[:, None, ..., None])[:, :, 3:5])


def test_without_a_loaders_seed_the_name_decides() -> None:
    batch = gappy_clips()
    assert np.array_equal(draw_seeds(batch), draw_seeds(batch))
    renamed = replace(batch, sample_id=tuple(f"other{i}" for i in range(6)))
    assert not np.array_equal(draw_seeds(batch), draw_seeds(renamed))
