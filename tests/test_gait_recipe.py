"""What the gait recipe refuses before it trains, fixes after, and writes beside the embeddings."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from feeders.gait_loading import GaitDataConfig
from feeders.gait_splits import ViewFilter
from feeders.prepare import prepare
from model.encoders.ctrgcn import CtrGcnConfig
from model.gait_net import GaitNetConfig
from recipes.gait_retrieval import GaitRun, gait_loaders, gait_task, save_gait
from tests.feeders.gait_files import write_crops, write_kinect
from torchlight.config import AdamConfig, TrainConfig
from torchlight.run_dir import RunDir
from torchlight.task import Prediction


def run_of(data: GaitDataConfig, tmp_path: Path) -> GaitRun:
    return GaitRun(
        work_dir=str(tmp_path / "run"),
        train=TrainConfig(epochs=1, batch_size=4, optimiser=AdamConfig(name="adam", lr=0.1)),
        model=GaitNetConfig(encoder=CtrGcnConfig(width=8), width=8),
        data=data,
        walks_each=2,
    )


def kinect(tmp_path: Path, **change: object) -> GaitDataConfig:
    for person in (1, 2, 3, 86, 87, 101, 102):
        for walk in (1, 2) if person != 87 else (1,):
            write_kinect(tmp_path / "raw", f"Person{person:03d}/{walk}", seed=10 * person + walk)
    prepare("kinect_gait", tmp_path / "raw", tmp_path / "store")
    return GaitDataConfig(dataset="kinect_gait", root=tmp_path / "store", frames=4, **change)


@pytest.mark.parametrize(("people", "says"), [((86,), "got 1 people"), ((87, 3), ""), ((87,), "and 0 pairs of walks")])
def test_people_who_cannot_be_ranked_are_refused_before_training(
    tmp_path: Path, people: tuple[int, ...], says: str
) -> None:
    run = run_of(kinect(tmp_path, validation_subjects=people), tmp_path)
    assert gait_loaders(run, ("test",)).evaluation.keys() == {"val", "test"}
    if not says:
        assert "val" in gait_loaders(run, ("train",)).evaluation
        return
    with pytest.raises(ValueError, match=f"{says}.*expected two people and a pair"):
        gait_loaders(run, ("train",))


def embeddings_of(names: tuple[str, ...], labels: list[int]) -> Prediction:
    drawn = torch.randn(len(names), 6, 8, generator=torch.Generator().manual_seed(0))
    present = torch.ones(len(names), 6, dtype=torch.bool)
    return Prediction(names, torch.tensor(labels), {"embedding": drawn, "present": present})


@pytest.mark.parametrize("is_learned", [False, True])
def test_a_threshold_is_fixed_on_people_nobody_learned_from_alone(tmp_path: Path, is_learned: bool) -> None:
    run = run_of(kinect(tmp_path, validation_subjects=(3, 86)), tmp_path)
    loaders = gait_loaders(run, ("train",))
    if is_learned:
        views = ViewFilter(least_cameras=2, held_out=0.5)
        run = run.model_copy(update={"data": run.data.model_copy(update={"views": views})})
    task = gait_task(run, loaders, None)
    task.calibrate(embeddings_of(("Person003/1", "Person003/2", "Person086/1", "Person086/2"), [2, 2, 85, 85]))
    assert task.calibrated.isnan().tolist() == [is_learned] * 5


def test_grews_test_writes_what_its_server_asks_for(tmp_path: Path) -> None:
    walks = [f"{person:05d}/0{walk}/w{walk}" for person in range(1, 11) for walk in (1, 2)]
    for name in (*walks, "probe/03/aa", "probe/03/bb"):
        write_crops(tmp_path / "raw" / name, [1, 2], prefix="", suffix="_2d_pose.txt")
    prepare("grew", tmp_path / "raw", tmp_path / "store")
    run = run_of(GaitDataConfig(dataset="grew", root=tmp_path / "store", frames=2), tmp_path)
    loaders = gait_loaders(run, ("test",))
    names = (*walks, "probe/03/aa", "probe/03/bb")
    prediction = embeddings_of(names, [0] * len(names))
    # The probe bb stands where walk 2 of person 7 does.
    prediction.outputs["embedding"][-1] = prediction.outputs["embedding"][names.index("00007/02/w2")]
    result = SimpleNamespace(split="test", prediction=prediction)
    path = save_gait(run, result, loaders, "abc", RunDir(tmp_path / "run"))
    lines = path.with_name("test-submission.csv").read_text().splitlines()
    assert [line.partition(",")[0] for line in lines] == ["videoId", "aa", "bb"]
    assert lines[2].startswith("bb,7,")
    assert np.bincount(np.array(lines[2].split(",")[1:], dtype=int))[1:].tolist() == [2] * 10
