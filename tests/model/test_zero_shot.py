from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

import model.part_clip
from feeders.batch import SkeletonBatch
from feeders.skeleton import KINECT20
from model.encoders.contract import Encoder
from model.losses import ClipLossConfig
from model.part_clip import PartClipConfig
from model.tasks.clip_action import InferenceConfig
from model.tasks.zero_shot import ZeroShotTask
from model.text_tower import TextConfig
from tests.model.stand_in import PointEncoder, clips
from torchlight.task import Prediction

PROMPTS = str(Path(__file__).parent / "prompts.yaml")
NAMES = ("wave", "jump", "sit down")
LEARNED = (0, 2)  # "jump" is unseen


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*_: object) -> Encoder:
        return PointEncoder(KINECT20)

    monkeypatch.setattr(model.part_clip, "build_encoder", build)


def _task(names: tuple[str, ...] = NAMES, learned: tuple[int, ...] = LEARNED, **loss: Any) -> ZeroShotTask:
    torch.manual_seed(0)
    return ZeroShotTask.build(
        model=PartClipConfig(heads=4),
        text=TextConfig(tower="toy", prompts=PROMPTS),
        loss=ClipLossConfig(**loss),
        inference=InferenceConfig(),
        skeleton=KINECT20,
        class_names=names,
        bodies=2,
        learned=learned,
    )


def _of_learned_classes() -> SkeletonBatch:
    batch = clips()
    return replace(batch, label=torch.tensor(LEARNED)[batch.label % 2])


@pytest.mark.parametrize("form", ["multi_positive", "kl", "prototype", "sigmoid"])
def test_learning_two_of_three_classes_is_learning_the_two(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "rand", lambda count, dtype: torch.full((count,), 0.3, dtype=dtype))
    batch = _of_learned_classes()
    among_three = _task(form=form).train().training_step(batch)
    alone = _task(("wave", "sit down"), (0, 1), form=form).train()
    only_two = alone.training_step(replace(batch, label=(batch.label == 2).long()))
    assert among_three.losses.keys() == only_two.losses.keys()
    for kind in ("losses", "scalars"):
        for name, value in getattr(among_three, kind).items():
            assert_close(value, getattr(only_two, kind)[name])


def test_a_clip_of_an_unseen_class_cannot_be_learned_from() -> None:
    with pytest.raises((IndexError, RuntimeError)):
        _task().train().training_step(clips())


def test_a_prediction_scores_every_class_by_its_texts() -> None:
    task, batch = _task().eval(), clips()
    with torch.no_grad():
        outputs = task.predict(batch).outputs
    assert outputs["logits"].shape == outputs["text"].shape == (6, 3)
    assert_close(outputs["text"], (outputs["similarity"] / 0.07).mean(dim=1))
    assert torch.equal(outputs["logits"], outputs["text"])
    task.seen_penalty.fill_(2.0)
    with torch.no_grad():
        paid = task.predict(batch).outputs
    assert_close(paid["logits"], outputs["text"] - torch.tensor([2.0, 0.0, 2.0]))
    assert torch.equal(paid["text"], outputs["text"])


def _validation(advantage: torch.Tensor) -> Prediction:
    """Clips of learned classes, told apart but for every fifth, ahead of the unseen class by an advantage."""
    label = torch.tensor(LEARNED)[torch.arange(len(advantage)) % 2]
    shown = torch.where(torch.arange(len(advantage)) % 5 == 0, 2 - label, label)
    text = torch.zeros(len(advantage), 3)
    text[torch.arange(len(advantage)), shown] = 50.0
    text[:, 1] = 50.0 - advantage
    return Prediction(tuple(map(str, range(len(advantage)))), label, {"text": text})


def test_learned_classes_pay_what_costs_a_quarter_of_the_clips_told_apart() -> None:
    task, advantage = _task(), torch.linspace(1.0, 3.0, 100)
    validation = _validation(advantage)
    task.calibrate(validation)
    text, label = validation.outputs["text"], validation.labels
    paid = text - task.seen_penalty * torch.tensor([1.0, 0.0, 1.0])
    told_apart = text[:, list(LEARNED)].argmax(dim=1) * 2 == label
    kept = (paid.argmax(dim=1) == label) & told_apart
    assert told_apart.sum() == 80
    assert kept.sum() == 60
    facts = task.extra_state()
    assert facts["learned_classes"] == ["wave", "sit down"]
    assert facts["seen_penalty"] == pytest.approx(float(task.seen_penalty))
    assert facts["class_names"] == list(NAMES)


def test_nothing_is_paid_where_learned_classes_have_no_advantage_or_are_not_told_apart() -> None:
    task = _task()
    task.calibrate(_validation(torch.linspace(-3.0, -1.0, 100)))
    assert task.seen_penalty == 0
    ahead = _validation(torch.linspace(1.0, 3.0, 100))
    mistaken = 2 - 2 * ahead.outputs["text"][:, list(LEARNED)].argmax(dim=1)
    task.calibrate(replace(ahead, labels=mistaken))
    assert task.seen_penalty == 0


def test_the_penalty_and_all_texts_are_in_the_checkpoint() -> None:
    task = _task()
    task.seen_penalty.fill_(1.5)
    state = task.state_dict()
    assert state["network.classifier.weight"].shape[0] == 2
    assert len(state["texts.pool"]) == 3
    again = _task()
    again.load_state_dict(state)
    assert again.seen_penalty == 1.5
