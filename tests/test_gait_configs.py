"""Every gait config is a run: it loads, and its network embeds walks of its data set's skeleton."""

from pathlib import Path

import pytest
import torch

from feeders.batch import SkeletonBatch
from feeders.casia_b import CASIA_B
from feeders.dataset import DataSet
from feeders.gait.loading import gait_data_set
from feeders.gait3d import GAIT3D
from feeders.grew import GREW
from feeders.kinect_gait import KINECT_GAIT
from feeders.oumvlp_pose import OUMVLP_POSE
from model.gait_net import GaitNet
from recipes.gait_retrieval import GaitRun, seen_skeleton
from torchlight.config import load_config
from torchlight.yaml_tree import read_tree

ROOT = Path(__file__).parent.parent / "config"
BY_ALL_ENCODERS = ("kinect_gait", "gait3d", "casia_b")
FOLDERS = ("gait", *BY_ALL_ENCODERS, "oumvlp_pose", "grew")
RUNS = [
    file
    for folder in FOLDERS
    for file in sorted((ROOT / folder).glob("*.yaml"))
    if {"work_dir", "data", "train"} <= read_tree(file).keys()
]


def test_the_rows_of_the_issue_are_there() -> None:
    names = {file.relative_to(ROOT).as_posix() for file in RUNS}
    encoders = ("ctrgcn", "tlca", "bpmt", "iip")
    assert {f"{folder}/{encoder}.yaml" for folder in BY_ALL_ENCODERS for encoder in encoders} <= names
    assert {f"{folder}/ctrgcn.yaml" for folder in FOLDERS[1:]} <= names
    assert {"gait/demo.yaml", "gait3d/thesis.yaml"} <= names


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


@pytest.mark.parametrize("facts", [GAIT3D, CASIA_B, OUMVLP_POSE, GREW, KINECT_GAIT], ids=lambda facts: facts.name)
def test_the_readme_puts_data_where_the_code_looks(facts: DataSet) -> None:
    config = f"config/{facts.name}/ctrgcn.yaml"
    rows = [line for line in (ROOT.parent / "README.md").read_text().splitlines() if line.startswith("|")]
    (row,) = [row for row in rows if config in row]
    assert f"`{facts.root}" in row.split("|")[2]
    assert gait_data_set(load_config(GaitRun, [ROOT.parent / config], []).data) is facts
