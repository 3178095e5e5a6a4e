import builtins
from collections.abc import Callable

import numpy as np
import pytest
import torch

from feeders import blended
from feeders.blended import read_blended
from feeders.crop import CropConfig, resample, time_grid
from feeders.loading import ActionDataConfig, Pipeline
from feeders.prepare import ntu_parse
from feeders.reading import read_frames
from feeders.skeleton import KINECT20, NTU25
from feeders.store import Recording, Store, Track


def ragged(count: int, weights: bool = False) -> list[Recording]:
    """Clips of 1 to 40 frames, whose one to three bodies come and go."""
    draw, clips = np.random.default_rng(0), []
    for number in range(count):
        frames = int(draw.integers(1, 41))
        seen = [np.flatnonzero(draw.random(frames) < chance) for chance in draw.choice([1.0, 0.7, 0.2], 3)]
        tracks = [
            Track(at, draw.normal(size=(len(at), 25, 3)), draw.random((len(at), 25)) if weights else None)
            for at in seen
            if len(at)
        ]
        if tracks:
            clips.append(Recording(str(number), 0, frames, tuple(tracks)))
    return clips


@pytest.mark.parametrize("sampling", ["linear", "published_ucla"])
@pytest.mark.parametrize("bodies", [1, 2, 4])
def test_one_compiled_pass_is_reading_and_resampling(
    write_store: Callable[..., Store], sampling: str, bodies: int
) -> None:
    pytest.importorskip("numba")
    store = write_store(ragged(60))
    samples = np.random.default_rng(1).permutation(len(store))[:40]
    for seeds in (None, np.arange(40, dtype=np.uint64)):
        grid = time_grid(store.index.frames[samples], 24, sampling, CropConfig(), seeds)
        frames, packed = grid.packed()
        steps = resample(read_frames(store, samples, frames, bodies), packed)
        blended = read_blended(store, NTU25, samples, grid, bodies, None)
        assert blended is not None
        pose, weight, body_mask = blended
        torch.testing.assert_close(pose, steps.pose, atol=1e-6, rtol=0)
        assert torch.equal(weight, steps.joint_weight)
        assert torch.equal(body_mask, steps.body_mask)


AUGMENT = {"rotation": (10, 90, 10), "mirror": 0.5, "scale": (0.8, 1.2), "shear": 0.2}


@pytest.mark.parametrize("modality", ["joint", "bone", "joint_motion", "bone_motion", "relative"])
@pytest.mark.parametrize("centre", ["none", "first_frame", "clip", "every_frame"])
@pytest.mark.parametrize(
    ("bodies", "frames", "sampling", "bone_root"),
    [
        (3, 20, "linear", "zero"),
        (3, 20, "linear", "absolute"),
        (1, 1, "linear", "zero"),
        (2, 9, "published_ucla", "zero"),
    ],
)
def test_one_compiled_pass_is_every_step_one_after_another(
    write_store: Callable[..., Store],
    monkeypatch: pytest.MonkeyPatch,
    modality: str,
    centre: str,
    bodies: int,
    frames: int,
    sampling: str,
    bone_root: str,
) -> None:
    pytest.importorskip("numba")
    store = write_store(ragged(40))
    steps = {"modality": modality, "centre": centre, "bone_root": bone_root, "hops": 3, "augment": AUGMENT}
    data = ActionDataConfig(dataset="ntu60", frames=frames, sampling=sampling, **steps)
    pipeline = Pipeline(store, NTU25, data, bodies)
    samples = np.random.default_rng(1).permutation(len(store))
    for seeds in (None, np.arange(len(store), dtype=np.uint64)):
        at_once = pipeline.batch(samples, seeds)
        with monkeypatch.context() as without:
            without.setattr("feeders.blended._compiled", lambda: None)
            one_by_one = pipeline.batch(samples, seeds)
        torch.testing.assert_close(at_once.pose, one_by_one.pose, atol=1e-5, rtol=0)
        for name in ("joint_weight", "body_mask", "frame_mask", "label"):
            assert torch.equal(getattr(at_once, name), getattr(one_by_one, name)), name


@pytest.mark.parametrize("more", [{"align": "clip"}, {"augment": {"noise": 0.1}}, {"augment": {"joint_mask": 0.3}}])
def test_steps_that_are_not_compiled_are_done_after_it(
    write_store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch, more: dict[str, object]
) -> None:
    pytest.importorskip("numba")
    store = write_store(ragged(10))
    pipeline = Pipeline(store, NTU25, ActionDataConfig(dataset="ntu60", modality="bone", frames=20, **more), 2)
    samples = np.arange(len(store))
    batch = pipeline.batch(samples, samples.astype(np.uint64))
    monkeypatch.setattr("feeders.blended._compiled", lambda: None)
    plain = pipeline.batch(samples, samples.astype(np.uint64))
    torch.testing.assert_close(batch.pose, plain.pose, atol=1e-5, rtol=0)
    assert torch.equal(batch.joint_weight, plain.joint_weight)


def test_stores_with_joint_weights_are_read_the_plain_way(write_store: Callable[..., Store]) -> None:
    store = write_store(ragged(10, weights=True))
    grid = time_grid(store.index.frames[:4], 8, "linear", CropConfig(), None)
    assert read_blended(store, NTU25, np.arange(4), grid, 2, None) is None
    assert Pipeline(store, NTU25, ActionDataConfig(dataset="ntu60", frames=8), 2).batch(np.arange(4), None).pose.any()


def test_a_pipeline_of_another_skeleton_is_refused_once_and_at_once(write_store: Callable[..., Store]) -> None:
    store = write_store(ragged(2))
    with pytest.raises(ValueError, match=r"got poses of shape \(25, 3\), expected \(20, 3\) for KINECT20"):
        Pipeline(store, KINECT20, ActionDataConfig(dataset="ucla"), 1)


@pytest.mark.parametrize("error", [ImportError, RuntimeError])
@pytest.mark.parametrize("module", [blended, ntu_parse], ids=lambda module: module.__name__)
def test_without_a_compiler_or_a_folder_for_it_there_is_no_compiled_way(
    module: object, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def fails(name: str, *rest: object) -> object:
        if name.endswith("_scan"):
            raise error("cannot cache function: no locator available")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", fails)
    assert module._compiled.__wrapped__() is None
