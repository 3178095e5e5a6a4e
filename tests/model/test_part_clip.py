from dataclasses import replace
from math import log, sqrt

import pytest
import torch
from torch.testing import assert_close

import model.part_clip
from feeders.batch import SkeletonBatch
from feeders.skeleton import KINECT20, Skeleton
from model.encoders.contract import Encoder
from model.encoders.ctrgcn import CtrGcnConfig
from model.part_clip import PartClip, PartClipConfig, PartClipOutput
from tests.model.stand_in import PartEncoder, PointEncoder, clips


@pytest.fixture(params=["joints", "parts", "ctrgcn"])
def network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> PartClip:
    def stand_in(config: object, skeleton: Skeleton, bodies: int) -> Encoder:
        return PointEncoder(skeleton) if request.param == "joints" else PartEncoder(skeleton, "torso_arms_legs")

    if request.param != "ctrgcn":
        monkeypatch.setattr(model.part_clip, "build_encoder", stand_in)
    torch.manual_seed(0)
    config = PartClipConfig(encoder=CtrGcnConfig(width=8), heads=4)
    return PartClip(config, KINECT20, classes=3, bodies=2, text_width=12)


def _batch() -> SkeletonBatch:
    return clips(frames=8)


def _same(first: PartClipOutput, second: PartClipOutput) -> None:
    assert first.text is not None
    assert second.text is not None
    assert_close(first.logits, second.logits, rtol=1e-5, atol=1e-5)
    assert_close(first.text.embedding, second.text.embedding, rtol=1e-5, atol=1e-5)


def test_it_says_logits_and_one_embedding_per_slot(network: PartClip) -> None:
    output = network(_batch(), with_attention=True)
    assert output.logits.shape == (6, 3)
    assert output.text.embedding.shape == (6, 4, 12)
    assert output.text.present.all()
    assert_close(output.text.scale, torch.full((4,), 1 / 0.07))
    assert list(output.text.attention) == ["torso", "arms", "legs"]
    assert network(_batch()).text.attention is None


def test_an_embedding_does_not_depend_on_its_batch_mates(network: PartClip) -> None:
    network.eval()
    everybody, first = _batch(), _batch()
    pick = slice(1, 2)
    alone = SkeletonBatch(
        *(value[pick] for value in (first.pose, first.joint_weight, first.body_mask, first.frame_mask, first.label)),
        sample_id=first.sample_id[pick],
    )
    together, single = network(everybody), network(alone)
    _same(
        PartClipOutput(together.logits[pick], replace(together.text, embedding=together.text.embedding[pick])), single
    )


def test_an_absent_body_changes_nothing(network: PartClip) -> None:
    network.eval()
    batch = _batch()
    absent = ~batch.body_mask[:, None, None, None, :]
    _same(network(batch), network(replace(batch, pose=torch.where(absent, 5.0, batch.pose))))


def test_gradients_reach_every_parameter(network: PartClip) -> None:
    output = network(_batch())
    (
        output.logits.square().sum() + (output.text.embedding.square().sum(dim=(0, 2)) * output.text.scale).sum()
    ).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_a_temperature_past_its_limit_is_brought_back_and_can_leave_again(network: PartClip) -> None:
    with torch.no_grad():
        network.logit_scale.fill_(9.0)
    scale = network.train().scale()
    assert_close(scale, torch.full((4,), 100.0))
    scale.sum().backward()
    assert_close(network.logit_scale.detach(), torch.full((4,), log(100)))
    assert (network.logit_scale.grad > 0).all()


def test_names_are_those_that_published_weights_are_imported_under(network: PartClip) -> None:
    names = {name.removesuffix(".weight") for name in network.state_dict() if not name.startswith("encoder.")}
    heads = {
        f"part_interaction.{part}.{m}" for part in ("torso", "arms", "legs") for m in ("query", "norm", "projection")
    }
    assert heads | {"classifier", "whole_projection", "logit_scale"} <= names


def test_without_text_there_are_only_logits() -> None:
    network = PartClip(PartClipConfig(encoder=CtrGcnConfig(width=8)), KINECT20, 3, bodies=2, text_width=None)
    assert network(_batch()).text is None
    assert {name.partition(".")[0] for name in network.state_dict()} == {"encoder", "classifier"}


def test_a_head_of_two_layers_is_a_choice_and_the_plain_one_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model.part_clip, "build_encoder", lambda *_: PointEncoder(KINECT20))
    networks = {}
    for head in ("linear", "mlp"):
        torch.manual_seed(0)
        networks[head] = PartClip(PartClipConfig(head=head), KINECT20, 3, 2, None)
    torch.manual_seed(0)
    PointEncoder(KINECT20)
    plain = torch.nn.Linear(16, 3)
    torch.nn.init.normal_(plain.weight, 0, sqrt(2 / 3))
    assert torch.equal(networks["linear"].classifier.weight, plain.weight)
    assert torch.equal(networks["linear"].classifier.bias, plain.bias)
    networks["mlp"](clips()).logits.sum().backward()
    assert [tuple(p.shape) for p in networks["mlp"].classifier.parameters()] == [(16, 16), (16,), (3, 16), (3,)]
    assert all(p.grad is not None for p in networks["mlp"].parameters())


@pytest.mark.parametrize("scheme", ["torso_arms_legs", "five_parts", "head_arms_hip_legs", "forearms"])
def test_a_skeleton_without_legs_has_the_parts_that_it_has(scheme: str) -> None:
    joints = ("pelvis", *(f"{side}_{joint}" for side in ("left", "right") for joint in ("shoulder", "elbow", "head")))
    own = {side: ((f"{side}_elbow",), (f"{side}_arms",)) for side in ("left", "right")}
    upper = Skeleton.from_tree("UPPER", dict.fromkeys(joints, "pelvis"), 3, schemes={"forearms": own})
    network = PartClip(
        PartClipConfig(encoder=CtrGcnConfig(width=8), parts=scheme, heads=4), upper, classes=3, bodies=2, text_width=12
    )
    batch = _batch()
    seven = replace(batch, pose=batch.pose[:, :, :, :7], joint_weight=batch.joint_weight[:, :, :7])
    output = network(seven)
    assert output.text is not None
    assert network.slot_names == ("whole", *upper.parts(scheme))
    assert output.text.embedding.isfinite().all()
    assert output.text.present.all()
