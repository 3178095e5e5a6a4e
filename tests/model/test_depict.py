import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

import model.part_clip
from feeders.skeleton import KINECT20
from model.depict import Depict, DepictConfig, balanced
from model.part_clip import PartClip, PartClipConfig
from tests.model.staged import TwoStages, seeded
from tests.model.stand_in import clips
from tests.model.test_clip_action import _task

TARGET = torch.arange(6) % 3


def network(monkeypatch: pytest.MonkeyPatch) -> PartClip:
    torch.manual_seed(0)
    monkeypatch.setattr(model.part_clip, "build_encoder", lambda *_: TwoStages())
    return PartClip(PartClipConfig(dropout=0.2), KINECT20, 3, 2, None).train()


def test_the_balanced_target_by_hand() -> None:
    probability = torch.tensor([[0.5, 0.5], [0.9, 0.1]])
    frequency = torch.tensor([0.64, 0.04])
    weighed = [[0.5 / 0.8, 0.5 / 0.2], [0.9 / 0.8, 0.1 / 0.2]]
    expected = torch.tensor([[value / sum(row) for value in row] for row in weighed])
    assert_close(balanced(probability, frequency), expected)
    assert_close(balanced(probability, torch.full((2,), 0.5)), probability)


def test_the_loss_is_the_disturbed_clips_cross_entropy_against_the_clean_ones_prediction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, batch = network(monkeypatch), seeded(clips())
    auxiliary = Depict(DepictConfig(weight=2.0, joint_mask=0, trust=1), 3)
    whole.dropout.p, whole.encoder.second[2].p = 0.0, 0.0
    (loss,) = auxiliary(whole, batch, TARGET).values()
    noisy = whole.classify(batch).log_softmax(dim=1)
    whole.eval()
    # The statistics have moved by the noisy pass; undo it for the clean one that came before.
    whole.encoder.second[0].reset_running_stats()
    clean = whole.classify(batch).softmax(dim=1)
    frequency = 0.9 * torch.full((3,), 1 / 3) + 0.1 * clean.mean(dim=0)
    assert_close(auxiliary.frequency, frequency.detach())
    assert_close(loss, -2.0 * (balanced(clean, frequency) * noisy).sum(dim=1).mean())


def test_without_trust_it_is_the_label_that_is_asked_of_the_disturbed_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, batch = network(monkeypatch), seeded(clips())
    auxiliary = Depict(DepictConfig(weight=1, joint_mask=0, trust=0), 3)
    torch.manual_seed(3)
    (loss,) = auxiliary(whole, batch, TARGET).values()
    torch.manual_seed(3)
    assert_close(loss, F.cross_entropy(whole.classify(batch), TARGET))


def test_no_gradient_goes_through_the_clean_path(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, batch = network(monkeypatch), seeded(clips())
    graphs = []
    classify = whole.classify

    def watched(shown: object) -> torch.Tensor:
        logits = classify(shown)  # type: ignore[arg-type]
        graphs.append((whole.training, logits.requires_grad))
        return logits

    monkeypatch.setattr(whole, "classify", watched)
    Depict(DepictConfig(), 3)(whole, batch, TARGET)
    assert graphs == [(False, False), (True, True)]


def test_the_disturbance_is_the_samples_own_and_takes_joints_away(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = network(monkeypatch)
    seen = []
    classify = whole.classify
    monkeypatch.setattr(whole, "classify", lambda shown: seen.append(shown) or classify(shown))
    for batch in (seeded(clips()), seeded(clips()), seeded(clips(), 30)):
        Depict(DepictConfig(joint_mask=0.25), 3)(whole, batch, TARGET)
    clean, first, _, second, _, third = (shown.joint_weight for shown in seen)
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    assert (first[:, 0, :, 0] == 0).sum(dim=1).tolist() == [5] * 6
    assert torch.equal(clean, clips().joint_weight)


def test_it_comes_beside_the_other_losses_and_changes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = []
    for depict in (None, {}):
        task = _task(loss={"depict": depict}).train()
        torch.manual_seed(1)
        losses.append(task.training_step(seeded(clips())).losses)
    assert set(losses[1]) - set(losses[0]) == {"depict"}
    assert_close({name: losses[1][name] for name in losses[0]}, losses[0], rtol=0, atol=0)
