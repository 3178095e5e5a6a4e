from pathlib import Path

import numpy as np
import pytest
import torch

import feeders.gait.loading
from feeders.batch import SkeletonBatch
from feeders.gait.loading import GaitDataConfig, build_gait_loaders
from feeders.gait.splits import ViewFilter, gait_splits
from feeders.kinect_gait import KINECT_GAIT
from feeders.prepare import prepare
from feeders.store import Recording, Store, StoreWriter, Track
from feeders.synthetic.walkers import WalkersConfig
from feeders.transforms import AugmentConfig
from tests.feeders.gait_files import write_casia_rows, write_gait3d, write_kinect
from torchlight.task import Loaders

AUGMENT = AugmentConfig(rotation=(5, 20, 5), mirror=0.5, noise=0.01, joint_mask=0.1)
PEOPLE = {person: 4 for person in (1, 2, 3, 4, 5, 86, 90, 101, 103, 110)}


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten people of KinectGait's, with walks of 5 to 60 frames."""
    folder = tmp_path_factory.mktemp("data")
    draw = np.random.default_rng(0)
    for person, walks in PEOPLE.items():
        for walk in range(1, walks + 1):
            write_kinect(
                folder / "raw", f"Person{person:03d}/{walk}", int(draw.integers(5, 60)), seed=100 * person + walk
            )
    prepare("kinect_gait", folder / "raw", folder / "kinect_gait")
    return folder


@pytest.fixture(autouse=True)
def _paths(data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTCLIP_DATA", str(data_folder))
    monkeypatch.setenv("PARTCLIP_CACHE", str(tmp_path / "cache"))


def config(**change: object) -> GaitDataConfig:
    return GaitDataConfig(dataset="kinect_gait", **{"frames": 16, "augment": AUGMENT, "speed": (0.8, 1.2), **change})


def build(seed: int = 0, **change: object) -> Loaders:
    return build_gait_loaders(config(**change), 2, 3, 4, seed)


def same(first: SkeletonBatch, second: SkeletonBatch) -> bool:
    tensors = ("pose", "joint_weight", "body_mask", "frame_mask", "label")
    equal = all(torch.equal(getattr(first, name), getattr(second, name)) for name in tensors)
    return equal and first.sample_id == second.sample_id


def test_training_shows_p_people_with_k_walks_labelled_among_the_training_people() -> None:
    loaders = build()
    assert loaders.class_names == ("Person001", "Person002", "Person003", "Person004", "Person005")
    assert loaders.extra["identities"] == KINECT_GAIT.class_names
    for batch in loaders.train.epoch(0):
        assert batch.pose.shape == (6, 3, 16, 20, 1)
        assert torch.equal(batch.label.reshape(2, 3), batch.label[::3, None].expand(2, 3))
        assert len(set(batch.sample_id)) == 6
        for label, identity, subject in zip(
            batch.label.tolist(), batch.meta["identity"].tolist(), batch.meta["subject"].tolist(), strict=True
        ):
            assert loaders.class_names[label] == KINECT_GAIT.class_names[identity] == f"Person{subject:03d}"


@pytest.mark.parametrize("whole", ["all", 16])
def test_evaluation_shows_every_walk_once_and_nobody_of_training(whole: object) -> None:
    loaders = build(evaluation_frames=whole)
    seen = {
        split: [name for batch in loader.epoch(0) for name in batch.sample_id]
        for split, loader in loaders.evaluation.items()
    }
    assert {name: sorted(names) for name, names in seen.items()} == {
        "val": sorted(f"Person{person:03d}/{walk}" for person in (86, 90) for walk in range(1, 5)),
        "test": sorted(f"Person{person:03d}/{walk}" for person in (101, 103, 110) for walk in range(1, 5)),
    }
    for batch in loaders.evaluation["test"].epoch(0):
        assert torch.equal(batch.label, batch.meta["identity"])
        assert {"camera", "setup", "replication", "frames"} <= set(batch.meta)
        assert batch.pose.shape[2] % 16 == 0
        # Whole walks: as many moments as frames; the rest is masked and empty.
        if whole == "all":
            assert torch.equal(batch.frame_mask.sum(dim=1), batch.meta["frames"])
        assert not batch.joint_weight[~batch.frame_mask].any()
        assert not batch.pose.transpose(1, 2)[~batch.frame_mask].any()


def test_a_walk_looks_the_same_whatever_shares_its_batch() -> None:
    one, many = build(evaluation_frames="all"), build_gait_loaders(config(evaluation_frames="all"), 2, 3, 64, 9)
    alone = {
        batch.sample_id[row]: batch.pose[row]
        for batch in build_gait_loaders(config(evaluation_frames="all"), 2, 3, 1, 0).evaluation["test"].epoch(0)
        for row in range(len(batch))
    }
    for loaders in (one, many):
        for batch in loaders.evaluation["test"].epoch(5):
            for name, pose in zip(batch.sample_id, batch.pose, strict=True):
                torch.testing.assert_close(pose, alone[name], atol=1e-6, rtol=0)


def test_workers_change_nothing_nor_does_starting_in_the_middle() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    alone, helped = build(repeat=3), build(repeat=3, workers=2)
    whole = list(alone.train.epoch(1))
    assert len(whole) == len(alone.train) == 6
    assert all(same(a, b) for a, b in zip(whole, helped.train.epoch(1), strict=True))
    assert all(same(a, b) for a, b in zip(whole[4:], alone.train.epoch(1, first_batch=4), strict=True))
    tests = zip(alone.evaluation["test"].epoch(0), helped.evaluation["test"].epoch(0), strict=True)
    assert all(same(a, b) for a, b in tests)
    assert torch.equal(torch.get_rng_state(), state)
    assert not same(whole[0], next(iter(alone.train.epoch(2))))
    assert not same(whole[0], next(iter(build(seed=1, repeat=3).train.epoch(1))))


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_training_and_tests_without_repeats(world: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeders.gait.loading, "world_size", lambda: world)
    trained, tested, lengths = [], [], set()
    for number in range(world):
        monkeypatch.setattr(feeders.gait.loading, "rank", lambda number=number: number)
        loaders = build(repeat=6)
        batches = [batch.sample_id for batch in loaders.train.epoch(0)]
        lengths.add(len(batches))
        trained += batches
        tested += [name for batch in loaders.evaluation["test"].epoch(0) for name in batch.sample_id]
    assert lengths == {12 // world}
    alone = build_alone(monkeypatch)
    assert sorted(trained) == sorted(alone)
    assert len(tested) == len(set(tested)) == 12


def build_alone(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    monkeypatch.setattr(feeders.gait.loading, "world_size", lambda: 1)
    monkeypatch.setattr(feeders.gait.loading, "rank", lambda: 0)
    return [batch.sample_id for batch in build(repeat=6).train.epoch(0)]


def test_a_person_with_fewer_walks_shows_another_moment_of_one() -> None:
    data = config(augment=AugmentConfig())
    batch = next(iter(build_gait_loaders(data, 1, 6, 4, 0).train.epoch(0)))
    assert len(set(batch.sample_id)) == 4
    longest = [row for row in range(6) if batch.sample_id.count(batch.sample_id[row]) == 2]
    assert longest
    twins = [row for row in longest if batch.sample_id[row] == batch.sample_id[longest[0]]]
    assert not torch.equal(batch.pose[twins[0]], batch.pose[twins[1]])


def test_size_and_place_and_inputs_follow_the_config() -> None:
    plain = next(iter(build(inputs=("joint", "bone", "bone_angle")).evaluation["test"].epoch(0)))
    assert plain.pose.shape[1] == 9
    hips = plain.pose[:, :3][:, :, :, list(KINECT_GAIT.skeleton.index("left_hip", "right_hip"))].mean(dim=3)
    torch.testing.assert_close(hips, torch.zeros_like(hips), atol=1e-5, rtol=0)


def test_a_heading_is_of_an_odd_number_of_frames() -> None:
    with pytest.raises(ValueError, match="heading_window.*\n.*got 14, expected an odd number"):
        config(heading_window=14)


def test_pixels_are_brought_to_size_and_gaps_can_be_closed(tmp_path: Path, data_folder: Path) -> None:
    walks = [(f"{person:03d}-nm-0{walk}-090", walk) for person in (1, 2, 3, 75, 76) for walk in (1, 2)]
    rows = [(walk, frame) for walk, _ in walks for frame in (1, 2, 3, 40, 41)]
    write_casia_rows(data_folder / "casia_raw/poses.csv", rows)
    prepare("casia_b", data_folder / "casia_raw", tmp_path / "casia_b")
    data = GaitDataConfig(
        dataset="casia_b", root=tmp_path / "casia_b", frames=10, augment=AugmentConfig(mirror=1, noise=0.1)
    )
    kept = build_gait_loaders(data, 2, 2, 4, 0)
    assert next(iter(kept.train.epoch(0))).pose.shape == (4, 2, 10, 17, 1)
    (batch, *_) = kept.evaluation["test"].epoch(0)
    assert batch.pose.shape[2] == 50
    assert (batch.joint_weight.amax(dim=(2, 3)) > 0).sum(dim=1).tolist() == [5] * len(batch)
    closed = build_gait_loaders(data.model_copy(update={"gaps": "close"}), 2, 2, 4, 0)
    (batch, *_) = closed.evaluation["test"].epoch(0)
    assert batch.pose.shape[2] == 10
    assert (batch.joint_weight[:, :5].amax(dim=(2, 3)) > 0).all()
    for wrong in ({"normalise_walk": "keep_size"}, {"heading": "walk"}):
        with pytest.raises(ValueError, match=f"data.{next(iter(wrong))}"):
            next(iter(build_gait_loaders(data.model_copy(update=wrong), 2, 2, 4, 0).train.epoch(0)))


def test_raw_gait3d_is_prepared_on_first_use_and_not_without_its_partition(tmp_path: Path) -> None:
    raw = write_gait3d(tmp_path / "raw", frames=range(1, 9))
    data = GaitDataConfig(dataset="gait3d", root=raw, frames=4, validation_subjects=())
    loaders = build_gait_loaders(data, 2, 2, 4, 0)
    assert loaders.extra["clips"] == {"train": 2, "val": 0, "test": 2}
    (batch,) = loaders.evaluation["test"].epoch(0)
    assert sorted(batch.meta["setup"].tolist()) == [1, 2]
    (raw / "Gait3D.json").unlink()
    with pytest.raises(ValueError, match="got no Gait3D.json in it or beside it"):
        build_gait_loaders(data, 2, 2, 4, 0)


# The filter by camera views


def write_views(folder: Path, cameras: dict[int, list[int]], test: tuple[int, ...] = (8, 9)) -> Store:
    """Two walks of a person before each camera."""
    facts = {"dataset": "own", "skeleton": "KINECT20", "class_names": tuple(f"p{person}" for person in sorted(cameras))}
    track = Track(np.arange(6), np.random.default_rng(0).normal(size=(6, 20, 3)))
    with StoreWriter(folder, joints=20, coordinates=3, **facts) as writer:
        for label, (person, views) in enumerate(sorted(cameras.items())):
            for camera in views:
                for walk in (1, 2):
                    name = f"p{person}/{camera}/{walk}"
                    writer.add(Recording(name, label, 6, (track,), subject=person, camera=camera, replication=walk))
    return Store(folder)


VIEWS = {1: [0], 2: [0, 1, 2, 3], 3: [1, 2], 4: [0, 1, 2, 3, 4, 5, 6, 7], 8: [0, 1], 9: [0]}


def splits_of(tmp_path: Path, views: ViewFilter, validation: tuple[int, ...] = ()) -> tuple[Store, dict, dict]:
    store = write_views(tmp_path / "views", VIEWS)
    facts = GaitDataConfig(dataset="store", root=tmp_path / "views", test_people=("p8", "p9"))
    protocol = feeders.gait.loading.gait_data_set(facts).protocol(None)
    splits = gait_splits(store.index, protocol, validation, views)
    return store, dict(splits.clips), dict(splits.left_out)


def test_people_with_few_cameras_are_not_learned_from_but_still_tested_on(tmp_path: Path) -> None:
    store, clips, left_out = splits_of(tmp_path, ViewFilter(least_cameras=3))
    assert set(store.index.subject[clips["train"]].tolist()) == {2, 4}
    assert set(store.index.subject[clips["test"]].tolist()) == {8, 9}
    assert left_out == {"too few cameras": 2}


def test_views_held_out_are_of_the_same_people_and_of_no_camera_they_were_learned_from(tmp_path: Path) -> None:
    store, clips, _ = splits_of(tmp_path, ViewFilter(least_cameras=2, held_out=0.25))
    learned, chosen = (
        {*zip(store.index.subject[clips[name]], store.index.camera[clips[name]], strict=True)}
        for name in ("train", "val")
    )
    assert not learned & chosen
    assert {person for person, _ in learned} == {person for person, _ in chosen} == {2, 3, 4}
    count = {person: sum(other == person for other, _ in learned) for person in (2, 3, 4)}
    # BPMT: the integer part of three quarters learns, at least one is held out.
    assert count == {2: 3, 3: 1, 4: 6}
    assert not {8, 9} & {person for person, _ in learned | chosen}


def test_the_first_people_are_the_first_by_number(tmp_path: Path) -> None:
    store, clips, left_out = splits_of(tmp_path, ViewFilter(first_people=2))
    assert set(store.index.subject[clips["train"]].tolist()) == {1, 2}
    assert left_out == {"beyond the first people": 2}


def test_a_store_of_test_people_alone_is_tested(tmp_path: Path) -> None:
    for walk in (1, 2):
        write_kinect(tmp_path / "raw", f"Person120/{walk}", seed=walk)
    prepare("kinect_gait", tmp_path / "raw", tmp_path / "tests")
    data = config(root=tmp_path / "tests")
    loaders = build_gait_loaders(data, 2, 2, 4, 0, want=("test",))
    assert loaders.train is None
    assert sum(len(batch) for batch in loaders.evaluation["test"].epoch(0)) == 2
    with pytest.raises(ValueError, match="data.split: got no train clips in .*tests, expected some to learn from"):
        build_gait_loaders(data, 2, 2, 4, 0)


def test_contradicting_filters_say_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="beside validation people"):
        splits_of(tmp_path / "a", ViewFilter(least_cameras=2, held_out=0.5), validation=(2,))
    with pytest.raises(ValueError, match="data.views.least_cameras: got 1"):
        splits_of(tmp_path / "b", ViewFilter(held_out=0.5))
    with pytest.raises(ValueError, match="got nobody with 9 cameras"):
        splits_of(tmp_path / "c", ViewFilter(least_cameras=9))


# One's own, and the simulator's


def test_own_people_are_split_by_name(tmp_path: Path) -> None:
    write_views(tmp_path / "own", VIEWS)
    data = GaitDataConfig(
        dataset="store", root=tmp_path / "own", test_people=("p8", "p9"), validation_people=("p3",), frames=4
    )
    loaders = build_gait_loaders(data, 2, 2, 4, 0)
    assert loaders.class_names == ("p1", "p2", "p4")
    names = {
        split: {batch.sample_id[row][:2] for batch in loader.epoch(0) for row in range(len(batch))}
        for split, loader in loaders.evaluation.items()
    }
    assert names == {"val": {"p3"}, "test": {"p8", "p9"}}
    with pytest.raises(ValueError, match=r"data.test_people: got \['zoe'\], expected some of p1, p2"):
        build_gait_loaders(data.model_copy(update={"test_people": ("zoe",)}), 2, 2, 4, 0)
    with pytest.raises(ValueError, match=r"data.validation_people: got \['p8'\], who are tested on"):
        build_gait_loaders(data.model_copy(update={"validation_people": ("p8",)}), 2, 2, 4, 0)
    with pytest.raises(ValueError, match=r"data.test_people: got nobody"):
        build_gait_loaders(data.model_copy(update={"test_people": ()}), 2, 2, 4, 0)
    with pytest.raises(ValueError, match=r"data.root: got none with data.dataset=store"):
        build_gait_loaders(data.model_copy(update={"root": None}), 2, 2, 4, 0)
    with pytest.raises(ValueError, match=r"data.test_people: got it with data.dataset=kinect_gait"):
        build(test_people=("p1",))


def test_missing_recordings_say_where_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTCLIP_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError) as caught:
        build()
    for hint in ("PersonNNN/K.txt", "data.root", "PARTCLIP_DATA", "config/gait/demo.yaml"):
        assert hint in str(caught.value)


def test_simulated_walkers_are_made_once_and_differ_by_person_more_than_by_day() -> None:
    small = GaitDataConfig(dataset="demo_gait", frames=16, synthetic=WalkersConfig(people=8, walks=3))
    loaders = build_gait_loaders(small, 2, 2, 8, 0)
    assert loaders.extra["clips"] == {"train": 30, "val": 6, "test": 12}
    again = build_gait_loaders(small, 2, 2, 8, 0)
    assert all(same(a, b) for a, b in zip(loaders.train.epoch(0), again.train.epoch(0), strict=True))
    store = loaders.train._pipeline.store
    index = store.index
    assert set(index.setup.tolist()) == {1, 2}
    assert set(index.camera.tolist()) == {1, 2}
    assert (index.label == index.subject - 1).all()
    pelvis = [store.clip(row).pose[:, 0, :, 0] for row in range(len(index))]
    speed = np.array([np.linalg.norm(np.diff(path, axis=0), axis=1).mean() for path in pelvis])
    of_person = np.array([speed[index.subject == person].mean() for person in range(1, 9)])
    within = np.mean([speed[index.subject == person].std() for person in range(1, 9)])
    assert of_person.std() > within
