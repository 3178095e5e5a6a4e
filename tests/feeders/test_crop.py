from dataclasses import replace

import numpy as np
import pytest
import torch

from feeders.batch import SkeletonBatch
from feeders.crop import CropConfig, TimeGrid, resample, resampled, time_grid

WHOLE = CropConfig(training=(1.0, 1.0), evaluation=1.0)


def naive_resize(clip: np.ndarray, frames: int) -> np.ndarray:
    """(L, ...) -> (frames, ...), half-pixel centres, one output frame at a time."""
    out = []
    for i in range(frames):
        at = min(max((i + 0.5) * len(clip) / frames - 0.5, 0.0), len(clip) - 1.0)
        low = int(np.floor(at))
        high = min(low + 1, len(clip) - 1)
        out.append(clip[low] * (1 - (at - low)) + clip[high] * (at - low))
    return np.stack(out)


def padded(clips: list[np.ndarray]) -> SkeletonBatch:
    longest = max(map(len, clips))
    pose = torch.zeros(len(clips), 3, longest, 4, 1)
    weight = torch.zeros(len(clips), longest, 4, 1)
    for n, clip in enumerate(clips):
        pose[n, :, : len(clip), :, 0] = torch.from_numpy(clip).permute(2, 0, 1)
        weight[n, : len(clip)] = 1.0
    names = tuple(map(str, range(len(clips))))
    return SkeletonBatch(pose, weight, weight.amax((1, 2)) > 0, weight[:, :, 0, 0] > 0, torch.zeros(len(clips)), names)


@pytest.mark.parametrize("frames", [1, 5, 16, 40])
def test_resampling_equals_a_loop_over_samples_and_torch(frames: int) -> None:
    draw = np.random.default_rng(0)
    clips = [draw.normal(size=(length, 4, 3)).astype(np.float32) for length in (1, 2, 7, 16, 23)]
    lengths = np.array([len(clip) for clip in clips])
    grid = resampled(np.zeros_like(lengths), lengths, frames)
    result = resample(padded(clips), grid).pose[..., 0].permute(0, 2, 3, 1).numpy()
    for n, clip in enumerate(clips):
        np.testing.assert_allclose(result[n], naive_resize(clip, frames), atol=1e-5)
        flat = torch.from_numpy(clip.reshape(len(clip), -1).T)[None]
        torch_way = torch.nn.functional.interpolate(flat, size=frames, mode="linear", align_corners=False)
        np.testing.assert_allclose(result[n].reshape(frames, -1), torch_way[0].T.numpy(), atol=1e-5)


def test_reading_only_the_needed_frames_changes_nothing(batch: SkeletonBatch) -> None:
    grid = resampled(np.array([0, 2, 1]), np.array([9, 5, 8]), 13)
    frames, packed = grid.packed()
    place = torch.from_numpy(frames)[:, None, :, None, None]
    read = replace(
        batch,
        pose=batch.pose.take_along_dim(place, 2),
        joint_weight=batch.joint_weight.take_along_dim(place[:, 0], 1),
    )
    assert torch.equal(resample(read, packed).pose, resample(batch, grid).pose)


def test_a_body_is_never_blended_with_its_absence() -> None:
    seen = [True, True, False, False, True]
    pose = torch.full((1, 3, 5, 4, 1), 8.0)
    weight = torch.ones(1, 5, 4, 1)
    pose[:, :, 2:4] = 0.0
    weight[:, 2:4] = 0.0
    clip = SkeletonBatch(pose, weight, torch.ones(1, 1) > 0, torch.ones(1, 5) > 0, torch.zeros(1), ("a",))
    result = resample(clip, resampled(np.array([0]), np.array([5]), 37))
    is_seen = result.joint_weight[0, :, 0, 0] > 0
    assert set(result.pose[0, 0, is_seen, 0, 0].tolist()) == {8.0}
    assert (result.pose[0, :, ~is_seen] == 0).all()
    nearest = np.clip(np.ceil((np.arange(37) + 0.5) * 5 / 37 - 1.0), 0, 4).astype(int)
    assert is_seen.tolist() == [seen[frame] for frame in nearest]


def test_crops_stay_inside_their_clip_and_reach_both_ends() -> None:
    lengths = np.repeat([1, 5, 30, 200], 500)
    grid = time_grid(lengths, 64, "linear", CropConfig(training=(0.5, 1.0), shortest=16), np.arange(2000))
    assert (grid.low >= 0).all()
    assert (grid.high < lengths[:, None]).all()
    kept = grid.high.max(1) - grid.low.min(1) + 1
    assert (kept[lengths <= 5] == lengths[lengths <= 5]).all()
    assert kept[lengths == 30].min() >= 16
    assert 100 <= kept[lengths == 200].min() < 110
    assert kept[lengths == 200].max() > 190
    assert grid.low[lengths == 200].min() == 0
    assert grid.high[lengths == 200].max() == 199


@pytest.mark.parametrize(("length", "cut"), [(1, 0), (39, 0), (40, 1), (100, 2), (300, 7)])
def test_the_evaluation_crop_cuts_what_the_published_feeder_cuts(length: int, cut: int) -> None:
    grid = time_grid(np.array([length]), 640, "linear", CropConfig(), None)
    assert grid.low.min() == cut
    assert grid.high.max() == length - 1 - cut


def test_published_ucla_frames_are_sorted_in_range_and_nearly_uniform() -> None:
    lengths = np.repeat([1, 3, 60], 2000)
    grid = time_grid(lengths, 52, "published_ucla", WHOLE, np.arange(6000))
    assert (np.diff(grid.low, axis=1) >= 0).all()
    assert (grid.low >= 0).all()
    assert (grid.low < lengths[:, None]).all()
    assert np.array_equal(grid.low, grid.high)
    share = np.bincount(grid.low[lengths == 60].ravel(), minlength=60) / (2000 * 52)
    np.testing.assert_allclose(share, 1 / 60, rtol=0.1)
    # Without replacement from 100 copies: no frame of a one-frame clip more than 100 times.
    assert time_grid(np.array([1]), 100, "published_ucla", WHOLE, np.array([0])).low.shape == (1, 100)
    with pytest.raises(ValueError, match="at most 100 times"):
        time_grid(np.array([1]), 101, "published_ucla", WHOLE, np.array([0]))


def test_published_ucla_evaluation_spreads_whole_frames() -> None:
    # Of many lengths at once, one of them 1, numpy's linspace rounds those of 52, 103 and 154 otherwise.
    lengths = np.arange(1, 300)
    grid = time_grid(lengths, 52, "published_ucla", WHOLE, None)
    for row, length in zip(grid.low, lengths, strict=True):
        assert row.tolist() == [int(at) for at in np.linspace(0, length - 1, 52)]


def test_a_grid_depends_on_its_own_seed_only() -> None:
    lengths, seeds = np.array([50, 60, 70]), np.array([7, 8, 9])
    together = time_grid(lengths, 20, "linear", CropConfig(), seeds)
    for n in range(3):
        alone: TimeGrid = time_grid(lengths[n : n + 1], 20, "linear", CropConfig(), seeds[n : n + 1])
        assert np.array_equal(alone.low[0], together.low[n])
        assert np.array_equal(alone.fraction[0], together.fraction[n])
