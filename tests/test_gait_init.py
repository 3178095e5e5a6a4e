"""A gait run begins with what an action run has learned of the same joints."""

from pathlib import Path

import pytest
import torch

from feeders.gait.loading import GaitDataConfig
from feeders.kinect_gait import KINECT_GAIT
from feeders.skeleton import COCO17, KINECT20, Skeleton
from feeders.ucla import UCLA
from model.encoders.ctrgcn import CtrGcnConfig
from model.gait_net import GaitNetConfig
from model.losses import ClipLossConfig
from model.part_clip import PartClipConfig
from model.tasks.clip_action import ClipActionTask, InferenceConfig
from model.text_tower import TextConfig
from recipes.gait_retrieval import GaitRun, gait_task
from torchlight.checkpoint import Checkpoint, Progress, save_checkpoint
from torchlight.config import AdamConfig, TrainConfig
from torchlight.task import Loaders

NARROW = CtrGcnConfig(width=8)


def action_run(path: Path, skeleton: Skeleton) -> ClipActionTask:
    task = ClipActionTask.build(
        model=PartClipConfig(encoder=NARROW),
        text=TextConfig(tower="none"),
        loss=ClipLossConfig(),
        inference=InferenceConfig(),
        skeleton=skeleton,
        class_names=("wave", "sit"),
        bodies=UCLA.bodies,
    )
    checkpoint = Checkpoint(
        task=task.state_dict(),
        average=None,
        training=None,
        progress=Progress(),
        best=(),
        seed=0,
        processes=1,
        chosen_by="",
        calibrated=False,
        config={},
        dataset="ucla",
        class_names=("wave", "sit"),
        skeleton=skeleton.name,
        modality="joint",
    )
    save_checkpoint(path, checkpoint)
    return task


def gait_run(tmp_path: Path, freeze: bool = False) -> GaitRun:
    return GaitRun(
        work_dir=str(tmp_path),
        train=TrainConfig(epochs=1, batch_size=4, optimiser=AdamConfig(name="adam", lr=0.1)),
        data=GaitDataConfig(dataset="kinect_gait"),
        model=GaitNetConfig(encoder=NARROW, width=8, freeze_encoder=freeze),
        init_from=tmp_path / "action.pt",
    )


LOADERS = Loaders(None, {}, "kinect_gait/people_101_to_164", ("ann", "bob"), KINECT_GAIT.skeleton.name, "joint")


@pytest.mark.parametrize("freeze", [True, False])
def test_the_encoder_is_the_action_runs_and_stands_still_where_it_is_frozen(tmp_path: Path, freeze: bool) -> None:
    assert KINECT_GAIT.skeleton.joints == UCLA.skeleton.joints
    torch.manual_seed(1)
    learned = action_run(tmp_path / "action.pt", KINECT20).network.encoder.state_dict()
    task = gait_task(gait_run(tmp_path, freeze), LOADERS, None).train()
    begun = task.network.encoder.state_dict()
    assert begun.keys() == learned.keys()
    assert all(torch.equal(begun[name], learned[name]) for name in learned)
    assert {p.requires_grad for p in task.network.encoder.parameters()} == {not freeze}
    assert task.network.encoder.training != freeze


def test_other_joints_are_refused(tmp_path: Path) -> None:
    action_run(tmp_path / "action.pt", COCO17)
    with pytest.raises(ValueError, match="expected the joints of KINECT20"):
        gait_task(gait_run(tmp_path), LOADERS, None)
