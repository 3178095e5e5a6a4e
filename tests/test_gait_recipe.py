"""What the gait recipe refuses before it trains, fixes after, and writes beside the embeddings."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from feeders.gait.loading import GaitDataConfig
from feeders.gait.splits import ViewFilter
from feeders.prepare import prepare
from model.encoders.ctrgcn import CtrGcnConfig
from model.gait_net import GaitNetConfig
from model.tasks.gait_retrieval import GaitRetrievalTask
from recipes.gait_asked import asked
from recipes.gait_gallery import _told
from recipes.gait_retrieval import (
    EnrolConfig,
    GaitRun,
    gait_loaders,
    gait_metrics,
    gait_report,
    gait_task,
    save_gait,
    walk_loaders,
)
from tests.feeders.gait_files import write_casia_rows, write_crops, write_gait3d, write_kinect
from torchlight.checkpoint import Checkpoint, Progress, save_checkpoint
from torchlight.config import AdamConfig, TrainConfig, plain_config
from torchlight.gallery import Threshold
from torchlight.outcome import Origin
from torchlight.run_dir import RunDir
from torchlight.task import Loaders, Prediction


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


def test_gait3d_without_its_probes_is_refused_before_training(tmp_path: Path) -> None:
    raw = write_gait3d(tmp_path / "raw")
    (raw / "0002/camid1_videoid0").rename(raw / "0002/camid1_videoid5")
    prepare("gait3d", raw, tmp_path / "store")
    run = run_of(GaitDataConfig(dataset="gait3d", root=tmp_path / "store", frames=2), tmp_path)
    for phases in (("test",), ("train", "test")):
        with pytest.raises(ValueError, match="got none of the listed probes among 2 walks"):
            gait_metrics(run, gait_loaders(run, phases))
    assert gait_loaders(run, ("train",)).train is not None


def test_one_person_a_batch_is_refused_where_people_are_to_be_told_apart(tmp_path: Path) -> None:
    nowhere = run_of(GaitDataConfig(dataset="kinect_gait", root=tmp_path / "nowhere"), tmp_path)
    alone = {"train": nowhere.train.model_copy(update={"batch_size": 2})}
    with pytest.raises(ValueError, match=r"^train.batch_size: got 2 with walks_each=2, one person a batch"):
        gait_loaders(nowhere.model_copy(update=alone), ("train", "test"))
    run = run_of(kinect(tmp_path), tmp_path).model_copy(update=alone)
    # Testing, pretraining by reconstruction, and telling identities alone compare nobody within a batch.
    assert gait_loaders(run, ("test",)).evaluation
    assert walk_loaders(run, ("train",)).train is not None
    without = run.loss.model_copy(update={"metric_weight": 0.0})
    assert gait_loaders(run.model_copy(update={"loss": without}), ("train",)).train is not None


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
    # For two walks enrolled there is none: nobody has a walk left to ask with.
    fixed = task.extra_state()["thresholds"]
    assert [threshold["walks"] for threshold in fixed] == ([] if is_learned else [1])
    assert [Threshold(**threshold).people for threshold in fixed] == ([] if is_learned else [2])


def kept(run: GaitRun, loaders: Loaders, task: GaitRetrievalTask, people: tuple[str, ...]) -> Checkpoint:
    about = {"config": plain_config(run), "dataset": loaders.dataset, "skeleton": loaders.skeleton}
    how = {"training": None, "average": None, "best": (), "seed": 0, "processes": 1, "calibrated": True}
    return Checkpoint(
        **about,
        **how,
        task=task.state_dict(),
        progress=Progress(),
        chosen_by="",
        class_names=people,
        modality="joint",
        extra=task.extra_state(),
    )


def test_whom_to_leave_out_of_the_gallery_is_looked_up_before_training(tmp_path: Path) -> None:
    run = run_of(kinect(tmp_path), tmp_path)
    run = run.model_copy(update={"enrol": EnrolConfig(leave_out=("Person103",))})
    with pytest.raises(ValueError, match="^enrol.leave_out: got 'Person103', expected some of Person101, Person102$"):
        gait_loaders(run, ("train", "enrol"))
    assert gait_loaders(run, ("train", "test")).train is not None
    known = run.model_copy(update={"enrol": EnrolConfig(leave_out=("Person102",))})
    assert gait_loaders(known, ("train", "enrol")).train is not None


def test_weights_of_former_versions_are_refused_in_one_line_and_lend_their_encoder(tmp_path: Path) -> None:
    run = run_of(kinect(tmp_path), tmp_path)
    loaders = gait_loaders(run, ("test",))
    task = gait_task(run, loaders, None)
    former = kept(run, loaders, task, loaders.class_names)
    former = replace(former, task={**former.task, "calibrated": torch.full((8, 6), torch.nan)})
    with pytest.raises(ValueError, match="keeps thresholds among them, as former versions did.*init_from=FILE"):
        gait_task(run, loaders, former)
    save_checkpoint(tmp_path / "former.pt", former)
    begun = gait_task(run.model_copy(update={"init_from": tmp_path / "former.pt"}), loaders, None)
    lent = task.network.encoder.state_dict()
    assert all(torch.equal(value, lent[name]) for name, value in begun.network.encoder.state_dict().items())


def test_casia_bs_test_prints_each_view_against_each(tmp_path: Path) -> None:
    names = [
        f"{person:03d}-{walk}-{view:03d}"
        for person in (75, 76)
        for walk in ("nm-01", "nm-05", "cl-01")
        for view in (0, 90)
    ]
    write_casia_rows(tmp_path / "raw/rows.csv", [(name, frame) for name in names for frame in (1, 2)])
    prepare("casia_b", tmp_path / "raw", tmp_path / "store")
    data = GaitDataConfig(dataset="casia_b", root=tmp_path / "store", frames=2)
    run = run_of(data, tmp_path)
    loaders = gait_loaders(run, ("test",))
    walks = asked(loaders, "test")
    prediction = embeddings_of(walks.table.sample_id, [0] * len(walks.table))
    (metrics,) = gait_metrics(run, loaders)
    values = metrics(prediction)
    tables = gait_report(run, prediction, loaders).splitlines()
    assert [line for line in tables if ":" in line or "by camera" in line] == [
        "rank1 of casia_b, nm, by camera",
        "rank1 of casia_b, cl, by camera",
    ]
    for name, table in (("nm", tables[:5]), ("cl", tables[5:])):
        assert table[1].split() == ["probe", "0", "90", "mean"]
        assert [line.split()[0] for line in table[2:]] == ["0", "90", "mean"]
        assert [line.split()[1 + view] for view, line in enumerate(table[2:4])] == ["-", "-"]
        assert float(table[4].split()[-1]) == pytest.approx(values[f"{name}/rank1"], abs=0.05)


def test_where_views_are_not_held_apart_nothing_is_added_to_a_test(tmp_path: Path) -> None:
    run = run_of(kinect(tmp_path), tmp_path)
    loaders = gait_loaders(run, ("test",))
    table = asked(loaders, "test").table
    assert gait_report(run, embeddings_of(table.sample_id, [0] * len(table)), loaders) == ""


def test_distances_keep_their_digits_however_near_people_are() -> None:
    told = _told(Threshold(0.000012345, false_alarms=0.05, detected=0.5, probes=20, people=10, walks=1))
    assert told.startswith("beyond 1.234e-05 nobody is known: ")


def test_people_whom_a_run_before_has_met_are_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = run_of(kinect(tmp_path), tmp_path)
    loaders = gait_loaders(run, ("test",))
    people = ("Person001", "Person101")
    first = kept(run, loaders, gait_task(run, replace(loaders, class_names=people), None), people)
    assert "a closed set" not in caplog.text
    save_checkpoint(tmp_path / "first.pt", first)
    second = gait_task(run.model_copy(update={"init_from": tmp_path / "first.pt"}), loaders, None)
    # As after going on from a checkpoint of its own.
    assert (
        second.extra_state() == gait_task(run, loaders, kept(run, loaders, second, loaders.class_names)).extra_state()
    )
    assert gait_task(run, loaders, None).extra_state()["people_met"] == []
    says = "a closed set: 1 of the 2 people of split test were learned from, such as Person101"
    assert says in caplog.text
    caplog.clear()
    # Its own people are others, but it has not forgotten whom it began with.
    gait_task(run, loaders, kept(run, loaders, second, ("Person001", "Person002")))
    assert says in caplog.text


def test_a_further_protocol_that_nobody_can_answer_is_left_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for person, camera in {"ann": "left", "bob": "left", "cid": "right", "dan": "right"}.items():
        for walk in (1, 2):
            file = tmp_path / f"raw/{person}/{camera}/{walk}.csv"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("frame,nose_x,nose_y\n" + "".join(f"{t},{t + walk},{len(person)}\n" for t in range(4)))
    prepare("walkers", tmp_path / "raw", tmp_path / "store")
    data = GaitDataConfig(
        dataset="store", root=tmp_path / "store", test_people=("bob", "cid"), normalise_walk="none", frames=2
    )
    loaders = gait_loaders(run_of(data, tmp_path), ("test",))
    assert "6 clips are bit-identical to another, such as" in caplog.text
    assert {protocol.name for protocol in asked(loaders, "test").protocols} == {"first_walk", "leave_one_out"}
    gait_metrics(run_of(data, tmp_path), loaders)
    assert "test: no probe has a match under protocol cross_camera" in caplog.text


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
    path = save_gait(run, result, loaders, Origin("abc", "last"), RunDir(tmp_path / "run"))
    lines = path.with_name("test-submission.csv").read_text().splitlines()
    assert [line.partition(",")[0] for line in lines] == ["videoId", "aa", "bb"]
    assert lines[2].startswith("bb,7,")
    assert np.bincount(np.array(lines[2].split(",")[1:], dtype=int))[1:].tolist() == [2] * 10
