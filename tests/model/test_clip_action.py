from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

import model.class_texts
import model.part_clip
from feeders.batch import SkeletonBatch, mirrored
from feeders.skeleton import KINECT20
from model.encoders.contract import Encoder
from model.losses import ClipLossConfig
from model.part_clip import PartClipConfig
from model.tasks.clip_action import ClipActionTask, InferenceConfig, fuse
from model.text_tower import TextConfig
from tests.model.stand_in import PointEncoder, clips
from torchlight.distributed import average_gradients, join_processes, leave_processes
from torchlight.optim import WeightAverage
from torchlight.task import Prediction

PROMPTS = str(Path(__file__).parent / "prompts.yaml")
NAMES = ("wave", "jump", "sit down")


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*_: object) -> Encoder:
        return PointEncoder(KINECT20)

    monkeypatch.setattr(model.part_clip, "build_encoder", build)


def _task(
    text: dict[str, Any] | None = None,
    loss: dict[str, Any] | None = None,
    weight: object = 0.0,
    mirror: bool = False,
    **more: Any,
) -> ClipActionTask:
    torch.manual_seed(0)
    return ClipActionTask.build(
        model=PartClipConfig(heads=4),
        text=TextConfig(**{"tower": "toy", "prompts": PROMPTS, **(text or {})}),
        loss=ClipLossConfig(**(loss or {})),
        inference=InferenceConfig(text_weight=weight, mirror=mirror),
        skeleton=KINECT20,
        class_names=NAMES,
        bodies=2,
        **more,
    )


def _reordered(batch: SkeletonBatch, order: list[int]) -> SkeletonBatch:
    tensors = (batch.pose, batch.joint_weight, batch.body_mask, batch.frame_mask, batch.label)
    return SkeletonBatch(*(value[order] for value in tensors), sample_id=tuple(batch.sample_id[i] for i in order))


@pytest.mark.parametrize("form", ["multi_positive", "kl", "prototype", "sigmoid"])
@pytest.mark.parametrize("freeze", [True, False])
def test_a_step_trains_every_parameter_and_names_every_loss(form: str, freeze: bool) -> None:
    task = _task({"freeze": freeze}, {"form": form}).train()
    output = task.training_step(clips())
    assert list(output.losses) == ["classification", *(f"contrast/{s}" for s in ("whole", "torso", "arms", "legs"))]
    torch.stack(list(output.losses.values())).sum().backward()
    assert [name for name, p in task.named_parameters() if p.grad is None] == []
    assert set(task.parameter_groups()) == (set() if freeze else {"text"})
    assert ("texts.embedding" in task.state_dict()) == freeze


def test_the_loss_does_not_depend_on_the_order_of_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    task, batch = _task().train(), clips()
    monkeypatch.setattr(torch, "rand", lambda count, dtype: torch.full((count,), 0.3, dtype=dtype))
    here, there = task.training_step(batch), task.training_step(_reordered(batch, [3, 0, 5, 1, 4, 2]))
    for name, loss in here.losses.items():
        assert_close(loss, there.losses[name])


def test_contrast_is_weighted_and_shared_by_the_slots() -> None:
    losses = []
    for weight in (0.8, 1.6):
        task = _task(loss={"contrast_weight": weight}).train()
        torch.manual_seed(1)
        losses.append(task.training_step(clips()).losses)
    assert_close(losses[1]["contrast/arms"], 2 * losses[0]["contrast/arms"])
    assert_close(losses[1]["classification"], losses[0]["classification"])


def test_a_part_nobody_sees_costs_nothing() -> None:
    batch = clips()
    weight = batch.joint_weight.clone()
    weight[:, :, list(KINECT20.parts("torso_arms_legs")["arms"].joints)] = 0
    losses = _task().train().training_step(replace(batch, joint_weight=weight)).losses
    assert losses["contrast/arms"].item() == 0
    assert losses["contrast/legs"].item() > 0


def test_training_lowers_every_loss() -> None:
    task, batch = _task().train(), clips(count=9)
    optimiser = torch.optim.Adam(task.parameters(), lr=0.01)
    history = []
    for _ in range(60):
        losses = task.training_step(batch).losses
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
        history.append({name: loss.item() for name, loss in losses.items()})
    assert all(history[-1][name] < 0.8 * history[0][name] for name in history[0])


def test_predictions_carry_the_pieces_their_logits_are_made_of() -> None:
    task = _task(weight=0.7).eval()
    with torch.no_grad():
        prediction = task.predict(clips())
    outputs = prediction.outputs
    assert outputs["similarity"].shape == (6, 4, 3)
    assert outputs["similarity"].abs().max() <= 1
    expected = outputs["classifier"].log_softmax(1) + 0.7 * (outputs["similarity"] / 0.07).mean(dim=1)
    assert_close(outputs["logits"], expected)


def test_a_part_that_is_not_seen_counts_for_nothing_in_the_texts_say() -> None:
    task, batch = _task(weight=0.7).eval(), clips()
    weight = batch.joint_weight.clone()
    weight[0, :, list(KINECT20.parts("torso_arms_legs")["arms"].joints)] = 0
    hidden = replace(batch, joint_weight=weight, pose=batch.pose * (weight > 0).unsqueeze(1))
    with torch.no_grad():
        outputs = task.predict(hidden).outputs
    similarity, slot = outputs["similarity"], task.network.slot_names.index("arms")
    assert similarity[0, slot].isnan().all()
    assert similarity.isnan().any(dim=2).sum() == 1
    seen = [row for row in range(4) if row != slot]
    expected = outputs["classifier"][0].log_softmax(0) + 0.7 * (similarity[0, seen] / 0.07).mean(dim=0)
    assert_close(outputs["logits"][0], expected)


def test_a_text_weight_of_zero_is_the_classifier_alone() -> None:
    with torch.no_grad():
        outputs = _task().eval().predict(clips()).outputs
    assert torch.equal(outputs["logits"], outputs["classifier"])


def test_without_text_there_are_only_logits() -> None:
    task = _task({"tower": "none"}).train()
    assert list(task.training_step(clips()).losses) == ["classification"]
    assert list(task.eval().predict(clips()).outputs) == ["logits"]
    with pytest.raises(ValueError, match=r"inference\.text_weight: got 0\.5 with text\.tower=none"):
        _task({"tower": "none"}, weight=0.5)


def _validation(text_knows: bool) -> Prediction:
    label = torch.arange(90) % 3
    truth = torch.nn.functional.one_hot(label, 3).float()
    noise = torch.randn(90, 3, generator=torch.Generator().manual_seed(0))
    classifier = noise if text_knows else 9 * truth
    text = truth if text_knows else noise.softmax(dim=1)
    similarity = text.unsqueeze(1).expand(-1, 4, -1)
    outputs = {"logits": classifier, "classifier": classifier, "similarity": similarity}
    return Prediction(tuple(map(str, range(90))), label, outputs)


def test_calibration_picks_the_weight_that_is_right_more_often() -> None:
    task = _task(weight="validation")
    assert task.text_weight == 0
    validation = _validation(text_knows=True)
    task.calibrate(validation)
    assert task.text_weight > 0
    scores = fuse(
        validation.outputs["classifier"], validation.outputs["similarity"], task.network.scale(), task.text_weight
    )
    assert (scores.argmax(dim=1) == validation.labels).all()
    task.calibrate(_validation(text_knows=False))
    assert task.text_weight == 0


def test_a_calibrated_weight_is_saved_and_one_from_the_config_is_not_overruled() -> None:
    task = _task(weight="validation")
    task.calibrate(_validation(text_knows=True))
    twin, fixed = _task(weight="validation"), _task(weight=0.25)
    for other in (twin, fixed):
        other.load_state_dict(task.state_dict())
    assert twin.text_weight == task.text_weight
    assert fixed.text_weight == 0.25
    fixed.calibrate(_validation(text_knows=True))
    assert fixed.text_weight == 0.25


def test_a_checkpoint_brings_its_texts_so_that_neither_tower_nor_prompts_are_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = _task().eval()

    def no_model(*_: object) -> None:
        raise AssertionError("a text tower was built")

    monkeypatch.setattr(model.class_texts, "build_tower", no_model)
    again = _task({"tower": "open_clip", "prompts": "gone.yaml"}, state=task.state_dict()).eval()
    again.load_state_dict(task.state_dict())
    with torch.no_grad():
        first, second = task.predict(clips()).outputs, again.predict(clips()).outputs
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_tuned_tower_comes_back_from_its_checkpoint() -> None:
    task = _task({"freeze": False}).eval()
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    again = _task({"freeze": False}, state=task.state_dict()).eval()
    again.load_state_dict(task.state_dict())
    with torch.no_grad():
        assert torch.equal(task.predict(clips()).outputs["similarity"], again.predict(clips()).outputs["similarity"])


def test_a_checkpoint_of_other_classes_or_without_texts_is_refused() -> None:
    state = _task().state_dict()
    with pytest.raises(ValueError, match="got texts of 2 classes, expected 3"):
        _task(state={**state, "texts.pool": state["texts.pool"][:2]})
    with pytest.raises(ValueError, match=r"without text embeddings.*text\.tower=none"):
        _task(state=_task({"tower": "none"}).state_dict())


def test_a_task_has_a_moving_average() -> None:
    task = _task(loss={"depict": {}, "dtcr": {}})
    average = WeightAverage(task, 0.9)
    average.update(task, 0)
    assert_close(average.task.state_dict(), task.state_dict())


def test_facts_describe_the_checkpoint() -> None:
    facts = _task().extra_state()
    assert facts["class_names"] == list(NAMES)
    assert facts["slots"] == ["whole", "torso", "arms", "legs"]
    assert (facts["skeleton"], facts["text_tower"], facts["text_weight"]) == ("KINECT20", "toy", 0.0)


def test_scalars_say_where_the_temperatures_stand() -> None:
    scalars = _task().train().training_step(clips()).scalars
    assert scalars["scale/whole"].log().item() == pytest.approx(log(1 / 0.07), rel=1e-5)


def _share_of_gradients(rank: int, folder: str) -> None:
    """One of two processes: its half of the batch, with the engine's averaging."""
    join_processes(torch.device("cpu"), f"file://{folder}/meet", rank, 2)
    with pytest.MonkeyPatch.context() as patch:
        gradients = _gradients(_reordered(clips(), [[4, 1], [0, 5, 2, 3]][rank]), patch)
    torch.save(gradients, Path(folder) / f"{rank}.pt")
    leave_processes()


def _gradients(batch: SkeletonBatch, patch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Of the contrastive losses alone: the classifier's mean is over each process's own clips."""
    patch.setattr(model.part_clip, "build_encoder", lambda *_: PointEncoder(KINECT20))
    patch.setattr(torch, "rand", lambda count, dtype: torch.full((count,), 0.3, dtype=dtype))
    task = _task({"freeze": False}).train()
    losses = task.training_step(batch).losses
    sum(loss for name, loss in losses.items() if name != "classification").backward()
    parameters = list(task.parameters())
    average_gradients(parameters)
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]


def test_two_processes_contrast_as_one_does_with_the_whole_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.multiprocessing.spawn(_share_of_gradients, (str(tmp_path),), nprocs=2)
    alone = _gradients(clips(), monkeypatch)
    for rank in range(2):
        assert_close(torch.load(tmp_path / f"{rank}.pt", weights_only=True), alone)


def test_with_mirror_averaging_a_clip_and_its_image_are_one() -> None:
    batch, plain, averaged = clips(), _task(weight=0.5).eval(), _task(weight=0.5, mirror=True).eval()
    image = mirrored(batch, KINECT20)
    for name, value in averaged.predict(batch).outputs.items():
        assert_close(value, averaged.predict(image).outputs[name])
        if name != "logits":
            assert_close(value, (plain.predict(batch).outputs[name] + plain.predict(image).outputs[name]) / 2)
