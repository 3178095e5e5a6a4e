import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import feeders.batch_loader
import feeders.loading
from feeders.batch import SkeletonBatch
from feeders.dataset import Protocol, split_index
from feeders.demo import demo_data
from feeders.loading import ActionDataConfig, build_loaders
from feeders.ntu import CLASS_NAMES, NTU60, NTU120
from feeders.prepare import prepare
from feeders.skeleton import COCO17, Skeleton, skeleton_named
from feeders.store import Recording, StoreWriter, Track
from feeders.synthetic import SyntheticConfig
from feeders.transforms import AugmentConfig
from feeders.ucla import ACTIONS

AUGMENT = AugmentConfig(rotation=(10, 180, 10), scale=(0.9, 1.1), mirror=0.5, noise=0.01, joint_mask=0.1)


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """36 made-up NW-UCLA files, the second view of one of them copied to the third."""
    monkeypatch.setenv("PARTCLIP_DATA", str(tmp_path))
    monkeypatch.setenv("PARTCLIP_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "NW-UCLA" / "all_sqe"
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for action in (1, 2, 3):
        for subject in (1, 2, 9, 10):
            for view in (1, 2, 3):
                if (action, subject, view) != (2, 2, 3):
                    pose = draw.normal(size=(int(draw.integers(1, 40)), 20, 3))
                name = f"a{action:02}_s{subject:02}_e00_v{view:02}"
                record = {"file_name": name, "skeletons": pose.tolist(), "label": ACTIONS.index(action) + 1}
                (folder / f"{name}.json").write_text(json.dumps(record))
    return folder


def same(first: SkeletonBatch, second: SkeletonBatch) -> bool:
    tensors = ("pose", "joint_weight", "body_mask", "frame_mask", "label")
    equal = all(torch.equal(getattr(first, name), getattr(second, name)) for name in tensors)
    return equal and first.sample_id == second.sample_id


def config(**change: object) -> ActionDataConfig:
    return ActionDataConfig(dataset="ucla", frames=16, augment=AUGMENT, repeat=2, **change)


def test_raw_recordings_are_prepared_once_and_a_store_reads_the_same(raw: Path, tmp_path: Path) -> None:
    first = build_loaders(config(), 8, 8, 0)
    stores = sorted((tmp_path / "cache/stores").glob("ucla-*/header.json"))
    again = build_loaders(config(), 8, 8, 0)
    assert sorted((tmp_path / "cache/stores").glob("ucla-*/header.json")) == stores
    assert len(stores) == 1
    prepare("ucla", raw, tmp_path / "mine")
    mine = build_loaders(config(root="mine"), 8, 8, 0)
    for other in (again, mine):
        assert all(same(a, b) for a, b in zip(first.train.epoch(3), other.train.epoch(3), strict=True))
    (raw / "a01_s01_e00_v01.json").unlink()
    build_loaders(config(), 8, 8, 0)
    assert len(list((tmp_path / "cache/stores").glob("ucla-*/header.json"))) == 2


@pytest.mark.parametrize("change", [{}, {"sampling": "published_ucla", "normalise": "min_max", "modality": "bone"}])
def test_workers_change_nothing_nor_does_starting_in_the_middle(raw: Path, change: dict) -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    alone = build_loaders(config(**change), 8, 8, 0)
    helped = build_loaders(config(workers=2, **change), 8, 8, 0)
    whole = list(alone.train.epoch(1))
    assert len(whole) == len(alone.train) == 6
    assert all(same(a, b) for a, b in zip(whole, helped.train.epoch(1), strict=True))
    abandoned = helped.train.epoch(2)
    next(abandoned)
    assert all(same(a, b) for a, b in zip(whole[4:], helped.train.epoch(1, first_batch=4), strict=True))
    assert all(same(a, b) for a, b in zip(whole[4:], alone.train.epoch(1, first_batch=4), strict=True))
    tests = zip(alone.evaluation["test"].epoch(0), helped.evaluation["test"].epoch(0), strict=True)
    assert all(same(a, b) for a, b in tests)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_sample_looks_the_same_in_any_batch(raw: Path) -> None:
    pipeline = build_loaders(config(align="clip", modality="bone_motion"), 8, 8, 0).train._pipeline
    samples, seeds = np.arange(12), np.arange(12) + 5
    together = pipeline.batch(samples, seeds)
    for n in (0, 7, 11):
        alone = pipeline.batch(samples[[n]], seeds[[n]])
        torch.testing.assert_close(alone.pose[0], together.pose[n], atol=1e-6, rtol=0)


def test_a_sample_is_the_same_beside_longer_ones_that_it_is_padded_to(raw: Path) -> None:
    """Min-max normalisation moves, and so adds noise, to whole clips."""
    pipeline = build_loaders(config(normalise="min_max"), 8, 8, 0).train._pipeline
    samples, seeds = np.arange(12), np.arange(12) + 5
    assert len(np.unique(pipeline.store.index.frames[samples])) > 2
    together = pipeline.batch(samples, seeds)
    for n in range(12):
        alone = pipeline.batch(samples[[n]], seeds[[n]])
        torch.testing.assert_close(alone.pose[0], together.pose[n], atol=1e-5, rtol=0)


def test_workers_that_inherit_nothing_fetch_the_same(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS and Windows, or where torch.multiprocessing is set to it."""
    spawning = partial(DataLoader, multiprocessing_context="spawn")
    monkeypatch.setattr(feeders.batch_loader, "DataLoader", spawning)
    alone, helped = (build_loaders(config(workers=workers), 8, 8, 0).train for workers in (0, 1))
    for epoch in (1, 2):
        assert all(same(a, b) for a, b in zip(alone.epoch(epoch), helped.epoch(epoch), strict=True))


def test_training_clips_carry_the_seed_that_they_were_drawn_with_and_others_none(raw: Path) -> None:
    loaders = build_loaders(config(), 4, 4, 0)
    batches = [list(loaders.train.epoch(epoch)) for epoch in (1, 1, 2)]
    once, again, later = ([batch.meta["seed"] for batch in epoch] for epoch in batches)
    assert all(torch.equal(one, other) for one, other in zip(once, again, strict=True))
    seeds = torch.cat([*once, *later]).tolist()
    assert len(set(seeds)) == len(seeds)
    assert all("seed" not in batch.meta for batch in loaders.evaluation["test"].epoch(1))


def test_epochs_differ_repeats_differ_and_runs_with_another_seed_differ(raw: Path) -> None:
    loaders = build_loaders(config(), 48, 8, 0)
    (first,), (second,) = (list(loaders.train.epoch(epoch)) for epoch in (0, 1))
    assert sorted(first.sample_id) == sorted(second.sample_id)
    assert first.sample_id != second.sample_id
    for name in set(first.sample_id):
        twins = [row for row, other in enumerate(first.sample_id) if other == name]
        assert len(twins) == 2
        assert not torch.allclose(first.pose[twins[0]], first.pose[twins[1]])
    (other,) = build_loaders(config(), 48, 8, 1).train.epoch(0)
    assert other.sample_id != first.sample_id


def test_evaluation_shows_every_clip_once_undisturbed_and_in_order(raw: Path) -> None:
    loaders = build_loaders(config(), 8, 5, 0)
    batches = list(loaders.evaluation["test"].epoch(0))
    assert [len(batch) for batch in batches] == [5, 5, 2]
    names = [name for batch in batches for name in batch.sample_id]
    assert names == sorted(names)
    assert all(name.endswith("v03") for name in names)
    plain = build_loaders(ActionDataConfig(dataset="ucla", frames=16), 8, 5, 9).evaluation["test"]
    assert all(same(a, b) for a, b in zip(batches, plain.epoch(7), strict=True))
    assert {"subject", "camera"} <= set(batches[0].meta)


@pytest.mark.parametrize("world", [2, 3, 5])
def test_processes_share_an_epoch_evenly_and_a_test_without_repeats(
    raw: Path, world: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeders.loading, "world_size", lambda: world)
    trained, tested, lengths = [], [], set()
    for number in range(world):
        monkeypatch.setattr(feeders.loading, "rank", lambda number=number: number)
        loaders = build_loaders(ActionDataConfig(dataset="ucla", frames=4), 2, 4, 0)
        lengths.add((len(loaders.train), tuple(len(batch) for batch in loaders.train.epoch(0))))
        trained += [name for batch in loaders.train.epoch(0) for name in batch.sample_id]
        tested += [name for batch in loaders.evaluation["test"].epoch(0) for name in batch.sample_id]
    assert len(lengths) == 1
    assert len(trained) == len(set(trained))
    assert len(trained) > 24 - 2 * world
    assert sorted(tested) == sorted(set(tested))
    assert len(tested) == 12


def test_splits_follow_the_protocol(raw: Path) -> None:
    published = build_loaders(config(validation_subjects=()), 4, 4, 0)
    clean = build_loaders(config(validation_subjects=(), split="without_copies"), 4, 4, 0)
    assert published.extra["clips"] == {"train": 24, "val": 0, "test": 12}
    assert clean.extra["clips"] == {"train": 23, "val": 0, "test": 12}
    assert list(published.evaluation) == ["test"]
    carved = build_loaders(config(validation_subjects=(9, 10)), 4, 4, 0)
    assert carved.extra["clips"] == {"train": 12, "val": 12, "test": 12}
    held = [name for batch in carved.evaluation["val"].epoch(0) for name in batch.sample_id]
    assert {name[5:7] for name in held} == {"09", "10"}
    assert not any(name.endswith("v03") for name in held)
    assert build_loaders(config(), 4, 4, 0, want=("test",)).train is None


def test_wrong_configs_say_what_would_be_right(raw: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.split: got 'cross_view', expected one of \['published'"):
        build_loaders(config(split="cross_view"), 4, 4, 0)
    with pytest.raises(ValueError, match=r"data\.validation_subjects: got \[77\]"):
        build_loaders(config(validation_subjects=(77,)), 4, 4, 0)
    prepare("ucla", raw, raw.parent / "mine")
    with pytest.raises(ValueError, match="a store of ucla"):
        build_loaders(ActionDataConfig(dataset="ntu60", root=raw.parent / "mine"), 4, 4, 0)


def test_a_store_of_another_skeleton_is_refused(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare("ucla", raw, raw.parent / "mine")
    header = raw.parent / "mine/header.json"
    header.write_text(header.read_text().replace("KINECT20", "SOMETHING"))
    with pytest.raises(ValueError, match=r"data\.root: got .*mine, a store of SOMETHING, expected KINECT20"):
        build_loaders(config(root="NW-UCLA/mine"), 4, 4, 0)
    header.write_text(header.read_text().replace("SOMETHING", "NTU25"))
    with pytest.raises(ValueError, match=r"data\.root: got none with data\.dataset=store"):
        build_loaders(ActionDataConfig(dataset="store", test_on={"camera": (3,)}), 4, 4, 0)
    mine = ActionDataConfig(dataset="store", root="NW-UCLA/mine", test_on={"camera": (3,)})
    with pytest.raises(ValueError, match=r"poses\.npy: got poses of shape \(20, 3\), expected \(25, 3\) for NTU25"):
        build_loaders(mine, 4, 4, 0)


def test_a_link_to_nothing_among_whole_recordings_is_named(raw: Path) -> None:
    (raw / "a01_s03_e00_v01.json").symlink_to(raw / "gone.json")
    with pytest.raises(FileNotFoundError, match=r"a01_s03_e00_v01\.json") as refusal:
        build_loaders(config(), 4, 4, 0)
    assert "nothing to read" not in str(refusal.value)


def test_missing_recordings_say_where_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTCLIP_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError) as caught:
        build_loaders(config(), 4, 4, 0)
    for hint in ("NW-UCLA/all_sqe", "data.root", "PARTCLIP_DATA", "Northwestern-UCLA", "demo"):
        assert hint in str(caught.value)


def test_official_splits_have_the_published_sizes() -> None:
    assert len(CLASS_NAMES) == 120
    for facts, field, learn in (
        (NTU60, "cross_subject", 20),
        (NTU120, "cross_subject", 53),
        (NTU120, "cross_setup", 16),
    ):
        protocol = facts.protocols[field]
        (train,), (test,) = protocol.train.values(), protocol.test.values()
        assert len(train) == learn
        assert len(test) == learn
        assert not train & test


def test_a_clip_on_neither_side_is_not_used(raw: Path) -> None:
    index = build_loaders(config(), 4, 4, 0).train._pipeline.store.index
    strict = Protocol(
        train={"subject": frozenset({1, 2}), "camera": frozenset({1, 2})},
        test={"subject": frozenset({9}), "camera": frozenset({3})},
    )
    splits = split_index(index, strict, ())
    assert [len(splits[name]) for name in ("train", "val", "test")] == [12, 0, 3]


def test_the_usual_validation_people_are_held_out_unless_the_config_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARTCLIP_CACHE", str(tmp_path))
    simulation = SyntheticConfig(people=3, cameras=2, repetitions=1)
    asked = {
        None: {"train": 16, "val": 16, "test": 16},
        (): {"train": 32, "val": 0, "test": 16},
        (1,): {"train": 16, "val": 16, "test": 16},
    }
    for subjects, clips in asked.items():
        data = ActionDataConfig(dataset="demo", frames=4, synthetic=simulation, validation_subjects=subjects)
        loaders = build_loaders(data, 4, 4, 0)
        assert loaders.extra["clips"] == clips
        assert loaders.dataset == "demo/unseen_people_and_cameras"


def test_a_zero_shot_split_keeps_its_classes_for_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTCLIP_CACHE", str(tmp_path))
    simulation = SyntheticConfig(people=3, cameras=2, repetitions=1)
    data = ActionDataConfig(dataset="demo", frames=4, synthetic=simulation, zero_shot="demo_12_4")
    loaders = build_loaders(data, 4, 4, 0)
    unseen = demo_data(simulation).unseen_classes("demo_12_4")
    shown = {
        "train": {label for batch in loaders.train.epoch(0) for label in batch.label.tolist()},
        **{
            split: {label for batch in loader.epoch(0) for label in batch.label.tolist()}
            for split, loader in loaders.evaluation.items()
        },
    }
    assert shown == {"train": set(range(16)) - unseen, "val": set(range(16)) - unseen, "test": set(range(16))}
    monkeypatch.setattr(feeders.loading, "split_index", lambda index, *_: {"test": np.flatnonzero(index.label == 0)})
    assert 0 not in unseen
    with pytest.raises(
        ValueError, match=r"data\.zero_shot: got no test clips of the classes that demo_12_4 keeps unseen"
    ):
        build_loaders(data, 4, 4, 0, ["test"])


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ActionDataConfig]:
    """A config with a store of its own: four people, one clip each, of a skeleton."""
    monkeypatch.setenv("PARTCLIP_DATA", str(tmp_path))

    def write(skeleton: Skeleton, units: str = "metres", **config: object) -> ActionDataConfig:
        shape, draw = (6, len(skeleton.joints), skeleton.coordinates), np.random.default_rng(0)
        facts = {"dataset": "mine", "skeleton": skeleton, "class_names": ("a", "b"), "units": units}
        with StoreWriter(tmp_path / "mine", **facts) as writer:
            for subject in range(4):
                track = Track(np.arange(6), draw.normal(size=shape))
                writer.add(Recording(f"clip{subject}", subject % 2, 6, (track,), subject=subject, width=64, height=48))
        return ActionDataConfig(**{"dataset": "store", "root": "mine", "test_on": {"subject": (3,)}} | config)

    return write


@pytest.mark.parametrize("modality", ["joint", "bone", "bone_motion"])
def test_a_skeleton_that_nobody_knows_is_read_moved_and_carried_on(
    own: Callable[..., ActionDataConfig], upper: Skeleton, modality: str
) -> None:
    disturbed = AugmentConfig(**AUGMENT.model_dump() | {"part_mask": 0.5, "part_scheme": "forearms", "bones": 0.1})
    loaders = build_loaders(own(upper, modality=modality, augment=disturbed, workers=1), 3, 2, 0)
    (batch,) = loaders.train.epoch(1)
    assert batch.pose.shape == (3, 3, 64, 9, 1)
    assert batch.pose.isfinite().all()
    assert skeleton_named(loaders.skeleton) == upper


def test_pixels_as_they_are_are_warned_of_and_only_these(
    own: Callable[..., ActionDataConfig], caplog: pytest.LogCaptureFixture
) -> None:
    plain = own(COCO17, units="pixels")
    build_loaders(plain, 3, 2, 0)
    (said,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert all(word in said for word in ("data.normalise: got none", "pixels", "image", "body"))
    caplog.clear()
    for way in ("image", "body", "min_max"):
        build_loaders(plain.model_copy(update={"normalise": way}), 3, 2, 0)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"test_on": {"setup": (0,)}},
            r"data\.test_on: got setup \[0\], expected another field: .* says the setup of no clip",
        ),
        ({"test_on": {"subject": (3, 7)}}, r"data\.test_on: got subject \[7\], expected some of \[0, 1, 2, 3\]"),
        (
            {"test_on": {"subject": (0, 1, 2, 3)}, "validation_subjects": (2,)},
            r"data\.test_on: got no train clips in .*mine, expected some to learn from",
        ),
        ({"validation_subjects": (0, 1, 2)}, r"data\.validation_subjects: got no train clips"),
        (
            {"validation_subjects": (3,)},
            r"data\.validation_subjects: got \[3\], expected subjects of the training side",
        ),
    ],
)
def test_a_split_of_ones_own_that_cannot_be_says_what_is_wrong_with_it(
    own: Callable[..., ActionDataConfig], upper: Skeleton, change: dict, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        build_loaders(own(upper, **change), 3, 2, 0)


def test_testing_on_everybody_needs_nobody_to_learn_from(own: Callable[..., ActionDataConfig], upper: Skeleton) -> None:
    everyone = own(upper, test_on={"subject": (0, 1, 2, 3)}, validation_subjects=(2,))
    assert list(build_loaders(everyone, 3, 2, 0, want=("test",)).evaluation) == ["test"]


def test_a_store_of_ones_own_that_is_nowhere_says_who_makes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARTCLIP_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"data\.root: got .*nowhere, expected a store; .*StoreWriter"):
        build_loaders(ActionDataConfig(dataset="store", root="nowhere", test_on={"subject": (1,)}), 3, 2, 0)
