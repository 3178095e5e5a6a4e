"""Every gait config is a run: it loads, and its network embeds walks of its data set's skeleton."""

from pathlib import Path

import pytest
import torch

from feeders.batch import SkeletonBatch
from feeders.gait_loading import gait_data_set
from model.gait_net import GaitNet
from recipes.gait_retrieval import GaitRun, seen_skeleton
from torchlight.config import load_config
from torchlight.yaml_tree import read_tree

ROOT = Path(__file__).parent.parent / "config"
FOLDERS = ("gait", "kinect_gait", "gait3d", "casia_b")
RUNS = [
    file
    for folder in FOLDERS
    for file in sorted((ROOT / folder).glob("*.yaml"))
    if {"work_dir", "data", "train"} <= read_tree(file).keys()
]


def test_the_rows_of_the_issue_are_there() -> None:
    names = {file.relative_to(ROOT).as_posix() for file in RUNS}
    encoders = ("ctrgcn", "tlca", "bpmt", "iip")
    assert {f"{folder}/{encoder}.yaml" for folder in FOLDERS[1:] for encoder in encoders} <= names
    assert {"gait/demo.yaml", *(f"gait3d/thesis_{people}.yaml" for people in (50, 300, 3000))} <= names


@pytest.mark.parametrize("file", RUNS, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_config_makes_a_network_that_embeds_walks(file: Path) -> None:
    run = load_config(GaitRun, [file], [])
    assert run.train.batch_size % run.walks_each == 0
    skeleton = seen_skeleton(run.data, gait_data_set(run.data).skeleton)
    network = GaitNet(run.model, skeleton, identities=3).eval()
    joints = len(skeleton.joints)
    walks = SkeletonBatch(
        pose=torch.randn(2, skeleton.coordinates, 8, joints, 1),
        joint_weight=torch.ones(2, 8, joints, 1),
        body_mask=torch.ones(2, 1, dtype=torch.bool),
        frame_mask=torch.ones(2, 8, dtype=torch.bool),
        label=torch.tensor([0, 1]),
        sample_id=("one", "other"),
    )
    with torch.no_grad():
        parts = network.retrieval_embedding(walks)
    assert parts.embedding.shape == (2, len(network.slot_names), run.model.width)
    assert parts.present.all()
    assert torch.isfinite(parts.embedding).all()
