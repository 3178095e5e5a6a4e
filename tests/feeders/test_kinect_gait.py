"""Facts of the real KinectGait recordings."""

import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.gait_baselines import embeddings, ranks, statistics
from feeders.gait.loading import GaitDataConfig, build_gait_loaders
from feeders.kinect_gait import GALLERY_WALK, KINECT_GAIT
from feeders.prepare import Report, prepare
from feeders.store import Store

RAW = Path(os.environ.get("PARTCLIP_DATA", "data")) / "kinect_gait" / "Data"
pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not RAW.is_dir(), reason=f"no KinectGait recordings at {RAW}; set PARTCLIP_DATA"),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return prepare("kinect_gait", RAW, tmp_path_factory.mktemp("stores") / "kinect_gait")


def test_every_walk_is_read(report: Report) -> None:
    assert (report.clips, report.frames, report.body_frames) == (821, 245800, 245800)
    assert not report.broken
    assert not report.left_out
    assert not any(report.copies.values())


def test_joints_stand_where_their_names_say(report: Report) -> None:
    pose = Store(Path(report.store)).clip(0).pose[..., 0]
    height = dict(zip(KINECT_GAIT.skeleton.joints, pose[..., 1].mean(axis=0), strict=True))
    assert height["head"] > height["shoulder_centre"] > height["spine"] > height["hip_centre"]
    for side in ("left", "right"):
        assert height[f"{side}_shoulder"] > height[f"{side}_elbow"] > height[f"{side}_wrist"]
        assert height[f"{side}_hip"] > height[f"{side}_knee"] > height[f"{side}_ankle"]
    raw = (RAW / "Person001/1.txt").read_text().split()
    first = {line.split(";")[0]: [float(cell) for cell in line.split(";")[1:]] for line in raw[:20]}
    at = KINECT_GAIT.skeleton.joints.index
    np.testing.assert_allclose(pose[0, at("left_foot")], first["Foot-Left"], atol=1e-6)
    np.testing.assert_allclose(pose[0, at("right_hand")], first["Hand-Right"], atol=1e-6)


def test_the_protocol_has_its_walks(report: Report) -> None:
    data = GaitDataConfig(dataset="kinect_gait", root=Path(report.store).resolve())
    loaders = build_gait_loaders(data, 16, 4, 64, seed=0, want=("val", "test"))
    assert loaders.extra["clips"] == {"train": 427, "val": 76, "test": 318}
    assert len(loaders.class_names) == 85
    index = Store(Path(report.store)).index
    is_test = index.subject > 100
    assert (is_test & (index.replication == GALLERY_WALK)).sum() == 64
    assert (is_test & (index.replication != GALLERY_WALK)).sum() == 254
    final = build_gait_loaders(data.model_copy(update={"validation_subjects": ()}), 16, 4, 64, seed=0, want=("test",))
    assert final.extra["clips"] == {"train": 503, "val": 0, "test": 318}
    assert len(final.class_names) == 100


@pytest.mark.slow
def test_the_baselines_are_the_published_ones(report: Report) -> None:
    store = Store(Path(report.store))
    person, is_first = store.index.subject, store.index.replication == GALLERY_WALK
    walks = [store.clip(number).pose[..., 0].astype(np.float64) for number in range(len(store))]
    pairs = [statistics(walk, divide_by_size=False) for walk in walks]
    bones, features = (np.stack(column) for column in zip(*pairs, strict=True))
    found = {
        name: ranks(vector, person, (person > 100) & ~is_first, (person > 100) & is_first)["rank1"]
        for name, vector in embeddings(bones, features, person, person <= 100).items()
    }
    assert found == {"bone lengths": pytest.approx(62.2, abs=0.05), "LDA": pytest.approx(91.3, abs=0.05)}
