from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

import model.gait_net
from feeders.batch import SkeletonBatch
from feeders.skeleton import KINECT20
from model.gait_net import GaitNetConfig
from model.metric_losses import GaitLossConfig, MetricLoss
from model.tasks.gait_retrieval import GaitRetrievalTask
from tests.model.stand_in import PointEncoder, clips
from torchlight.distributed import average_gradients, join_processes, leave_processes

SLOTS = ("whole", *KINECT20.parts("five_parts"))
FORMS = ("batch_hard", "all_valid", "supcon")


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model.gait_net, "build_encoder", lambda *_: PointEncoder(KINECT20))


def task_of(**loss: object) -> GaitRetrievalTask:
    torch.manual_seed(0)
    return GaitRetrievalTask.build(
        model=GaitNetConfig(width=8),
        loss=GaitLossConfig(**loss),
        is_cosine=True,
        skeleton=KINECT20,
        learned=("ann", "bob", "cid"),
        bodies=1,
        calibration=lambda validation: {"probes": len(validation)},
    )


def walks(count: int = 9) -> SkeletonBatch:
    return clips(count, bodies=1)


def reordered(batch: SkeletonBatch, order: list[int]) -> SkeletonBatch:
    tensors = (batch.pose, batch.joint_weight, batch.body_mask, batch.frame_mask, batch.label)
    return SkeletonBatch(*(value[order] for value in tensors), sample_id=tuple(batch.sample_id[i] for i in order))


@pytest.mark.parametrize("form", FORMS)
def test_a_step_trains_every_parameter_and_names_every_loss(form: str) -> None:
    task = task_of(form=form, margin=2.0).train()
    output = task.training_step(walks())
    assert set(output.losses) == {f"{kind}/{slot}" for kind in ("metric", "identity") for slot in SLOTS}
    torch.stack(list(output.losses.values())).sum().backward()
    assert [name for name, p in task.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("form", FORMS)
def test_the_loss_does_not_depend_on_the_order_of_the_batch(form: str) -> None:
    here = task_of(form=form).training_step(walks()).losses
    there = task_of(form=form).training_step(reordered(walks(), [3, 0, 5, 1, 8, 7, 6, 4, 2])).losses
    for name, loss in here.items():
        assert_close(loss, there[name])


def test_losses_are_what_they_say_of_each_slot() -> None:
    task, batch = task_of(metric_weight=0.5, identity_weight=2.0, label_smoothing=0.2).train(), walks()
    losses = task.training_step(batch).losses
    output = task_of().train().network(batch)
    for row, slot in enumerate(SLOTS):
        unit = F.normalize(output.embedding[:, row], dim=-1)
        assert_close(losses[f"metric/{slot}"], 0.5 / 6 * MetricLoss(task.loss)(unit, batch.label))
        smooth = 0.8 * F.one_hot(batch.label, 3) + 0.2 / 3
        surprise = -(smooth * output.logits[:, row].log_softmax(dim=-1)).sum(dim=-1).mean()
        assert_close(losses[f"identity/{slot}"], 2 / 6 * surprise)


@pytest.mark.parametrize("off", ["metric", "identity"])
def test_a_loss_without_weight_is_left_out(off: str) -> None:
    losses = task_of(**{f"{off}_weight": 0}).training_step(walks()).losses
    assert losses
    assert not any(name.startswith(off) for name in losses)


def test_a_part_nobody_sees_costs_nothing() -> None:
    batch = walks()
    weight = batch.joint_weight.clone()
    weight[:, :, list(KINECT20.parts("five_parts")["left_arm"].joints)] = 0
    losses = task_of().train().training_step(replace(batch, joint_weight=weight)).losses
    assert losses["metric/left_arm"].item() == losses["identity/left_arm"].item() == 0
    assert losses["identity/right_arm"].item() > 0


def test_training_lowers_every_loss() -> None:
    task, batch = task_of(label_smoothing=0.0).train(), walks()
    optimiser = torch.optim.Adam(task.parameters(), lr=0.02)
    history = []
    for _ in range(60):
        losses = task.training_step(batch).losses
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
        history.append({name: loss.item() for name, loss in losses.items()})
    for name, before in history[0].items():
        assert history[-1][name] < (0.8 if name.startswith("identity") else 1.0) * before


def test_predictions_are_the_embeddings_that_walkers_are_found_by() -> None:
    task = task_of().eval()
    with torch.no_grad():
        prediction = task.predict(walks())
        parts = task.network.retrieval_embedding(walks())
    assert_close(prediction.outputs["embedding"], parts.embedding)
    assert prediction.outputs["present"].all()
    assert prediction.sample_ids == walks().sample_id


def test_what_was_fixed_on_validation_is_one_of_the_facts() -> None:
    task = task_of().eval()
    before, weights = dict(task.extra_state()), list(task.state_dict())
    assert before["learned_classes"] == ["ann", "bob", "cid"]
    with torch.no_grad():
        task.calibrate(task.predict(walks()))
    assert task.extra_state() == {**before, "probes": 9}
    assert list(task.state_dict()) == weights == [f"network.{name}" for name in task.network.state_dict()]


def share_of_gradients(rank: int, folder: str) -> None:
    """One of two processes: its share of the batch, with the engine's averaging."""
    join_processes(torch.device("cpu"), f"file://{folder}/meet", rank, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.gait_net, "build_encoder", lambda *_: PointEncoder(KINECT20))
        torch.save(gradients_of(reordered(walks(), [[4, 1, 7], [0, 5, 2, 3, 8, 6]][rank])), Path(folder) / f"{rank}.pt")
    leave_processes()


def gradients_of(batch: SkeletonBatch) -> list[Tensor]:
    task = task_of().train()
    torch.stack(list(task.training_step(batch).losses.values())).sum().backward()
    parameters = list(task.parameters())
    average_gradients(parameters)
    return [*(p.grad for p in parameters if p.grad is not None), task.network.neck.running_var]


def test_two_processes_learn_what_one_does_from_the_whole_batch(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(share_of_gradients, (str(tmp_path),), nprocs=2)
    alone = gradients_of(walks())
    for rank in range(2):
        assert_close(torch.load(tmp_path / f"{rank}.pt", weights_only=True), alone)
