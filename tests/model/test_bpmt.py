from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from benchmarks.reference.bpmt import ReferenceBpmt, gradients, grouped_state
from feeders.modality import to_modality
from feeders.skeleton import KINECT20, NTU25, Skeleton
from model.encoders.bpmt import Bpmt, BpmtConfig
from model.masking import MaskConfig
from model.part_clip import PartClip, PartClipConfig
from model.parts import pool_slots
from model.tasks.reconstruction import ReconstructionTask
from tests.model.encoder_laws import (
    assert_absent_bodies_do_not_matter,
    assert_batch_mates_do_not_matter,
    assert_bfloat16_is_close,
    assert_every_gradient_arrives,
    assert_hidden_values_do_not_matter,
    assert_shapes_and_weights,
    assert_unseen_tokens_do_not_matter,
    difficult_clips,
    encode,
    flat,
    reconstruct,
)
from tests.model.stand_in import clips

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "post-norm": {"norm": "post"},
    "flow": {"attention": "flow"},
    "conv spatial concat": {"embedding": "conv", "spatial": "transformer", "bone": "concat"},
    "three parts": {"parts": "torso_arms_legs_disjoint"},
}
each_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
PARTS = tuple(KINECT20.parts("five_parts_disjoint"))


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def bpmt(skeleton: Skeleton = KINECT20, **options: Any) -> Bpmt:
    torch.manual_seed(0)
    return Bpmt(BpmtConfig(width=16, **options), skeleton)


@pytest.mark.parametrize("stage", ["parts", "pairs", None])
def test_batched_equals_one_by_one_in_outputs_and_all_gradients(stage: str | None) -> None:
    torch.manual_seed(0)
    batched = bpmt(NTU25, dropout=0.0, heads=2)
    parts = {name: part.joints for name, part in NTU25.parts("five_parts_disjoint").items()}
    reference = ReferenceBpmt(parts, coordinates=3, width=16, heads=2, layers=2, ffn=4)
    for parameter in reference.parameters():
        nn.init.normal_(parameter, 0, 0.3)
    longest = max(len(joints) for joints in parts.values())
    batched.load_state_dict(grouped_state(reference, longest))
    batched.begin(stage)
    pose = torch.randn(3, 3, 6, 25, 1)
    everything = torch.ones(3, 6, 25, 1), torch.ones(3, 1, dtype=torch.bool), torch.ones(3, 6, dtype=torch.bool)
    plain = pose[..., 0].permute(0, 2, 3, 1)
    if stage is None:
        output = batched(pose, *everything).features[..., 0].permute(0, 2, 3, 1)
        expected = reference.tokens(plain)
    else:
        output = batched.reconstruct(stage, pose, *everything)[..., 0].permute(0, 1, 3, 4, 2)
        expected = reference.reconstruct_parts(plain) if stage == "parts" else reference.reconstruct_pairs(plain)
    assert_close(output, expected, rtol=1e-9, atol=1e-9)
    upstream = torch.randn_like(expected)
    (output * upstream).sum().backward()
    (expected * upstream).sum().backward()
    wanted = gradients(reference, longest)
    for name, parameter in batched.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert_close(parameter.grad, wanted[name], rtol=1e-8, atol=1e-8, msg=lambda m, n=name: f"{n}: {m}")
        else:
            assert not wanted[name].any(), name


@pytest.mark.parametrize("skeleton", [NTU25, flat(KINECT20)], ids=["NTU25", "KINECT20 in an image"])
@pytest.mark.parametrize("modality", ["joint", "bone", "joint_motion"])
def test_one_token_a_frame_and_part_for_every_layout_and_modality(skeleton: Skeleton, modality: Any) -> None:
    encoder = bpmt(skeleton)
    assert encoder.slots == PARTS
    batch = to_modality(difficult_clips(skeleton, bodies=3), skeleton, modality)
    assert_shapes_and_weights(encoder, batch)
    weight = encode(encoder, batch).weight
    for slot, part in enumerate(skeleton.parts("five_parts_disjoint").values()):
        assert torch.equal(weight[:, :, slot] > 0, batch.joint_weight[:, :, list(part.joints)].any(dim=2))


@each_option
def test_batch_mates_do_not_matter(options: dict[str, Any]) -> None:
    assert_batch_mates_do_not_matter(bpmt(**options), difficult_clips(KINECT20))


@each_option
def test_unseen_tokens_do_not_matter(options: dict[str, Any]) -> None:
    encoder = bpmt(**options)
    first = encoder.frame_encoder
    assert_unseen_tokens_do_not_matter(encoder, first.embedding, first.seen, difficult_clips(KINECT20))


@each_option
def test_absent_bodies_and_hidden_values_do_not_matter(options: dict[str, Any]) -> None:
    assert_absent_bodies_do_not_matter(bpmt(**options), difficult_clips(KINECT20))
    assert_hidden_values_do_not_matter(bpmt(**options), difficult_clips(KINECT20))


@each_option
@pytest.mark.parametrize("stage", ["parts", "pairs", None])
def test_gradients_reach_what_is_trained_and_nothing_else(options: dict[str, Any], stage: str | None) -> None:
    encoder, batch = bpmt(**options), difficult_clips(KINECT20)
    encoder.begin(stage)
    output = encode(encoder, batch).features if stage is None else reconstruct(encoder, stage, batch)
    assert_every_gradient_arrives(encoder, iter([output]))


def test_bfloat16_is_close() -> None:
    assert_bfloat16_is_close(bpmt(), difficult_clips(KINECT20))


def trained(encoder: Bpmt) -> set[str]:
    return {name.split(".")[0] for name, parameter in encoder.named_parameters() if parameter.requires_grad}


def test_each_stage_trains_its_own_and_the_rest_is_in_eval_mode() -> None:
    encoder = bpmt(dropout=0.5).train()
    encoder.begin("parts")
    assert trained(encoder) == {"frame_encoder", "frame_head"}
    encoder.begin("pairs")
    assert trained(encoder) == {"pair_cross", "pair_encoder", "pair_head"}
    assert not encoder.train().frame_encoder.training
    assert encoder.pair_encoder.training
    encoder.begin(None)
    assert trained(encoder) == {"frame_encoder", "pair_cross", "pair_encoder", "cross"}
    assert encoder.frame_encoder.training
    assert trained(bpmt(t1="frozen")) == {"pair_cross", "pair_encoder", "cross"}


def test_each_pair_predicts_the_joints_of_its_two_parts() -> None:
    batch, encoder = difficult_clips(KINECT20), bpmt().eval()
    assert reconstruct(encoder, "parts", batch).shape == (1, *batch.pose.shape)
    predicted = reconstruct(encoder, "pairs", batch)
    assert predicted.shape == (4, *batch.pose.shape)
    # A pair's head moves its two parts and no other, each in one of the four predictions.
    left_arm, right_leg = PARTS.index("left_arm"), PARTS.index("right_leg")
    pair = encoder.pair.T.tolist().index([left_arm, right_leg])
    with torch.no_grad():
        encoder.pair_head.bias.view(2, 10, -1)[:, pair] += 1
    moved = (reconstruct(encoder, "pairs", batch) - predicted)[:, 0, 0, 0, :, 0] > 0.5
    scheme = KINECT20.parts("five_parts_disjoint")
    own = {*scheme["left_arm"].joints, *scheme["right_leg"].joints}
    assert moved.sum(dim=0).tolist() == [int(joint in own) for joint in range(20)]


def loss_of(encoder: Bpmt, stage: str, joints: list[int]) -> Tensor:
    batch = difficult_clips(KINECT20)
    error = (reconstruct(encoder, stage, batch) - batch.pose) * (batch.joint_weight > 0).unsqueeze(1)
    return error[:, :, :, :, joints].square().sum()


def test_pretraining_parts_together_is_pretraining_them_one_at_a_time() -> None:
    encoder, members = bpmt(dropout=0.0), [list(p.joints) for p in KINECT20.parts("five_parts_disjoint").values()]
    encoder.begin("parts")
    parameters = {name: p for name, p in encoder.named_parameters() if p.requires_grad}
    together = torch.autograd.grad(loss_of(encoder, "parts", list(range(20))), list(parameters.values()))
    for part, joints in enumerate(members):
        alone = torch.autograd.grad(loss_of(encoder, "parts", joints), list(parameters.values()))
        for (name, parameter), both, one in zip(parameters.items(), together, alone, strict=True):
            by_part = (grad.view(len(members), -1) for grad in (both, one))
            both_P, one_P = by_part
            assert_close(one_P[part], both_P[part], msg=lambda m, n=name: f"{n}: {m}")
            assert not one_P[[p for p in range(5) if p != part]].any(), name
            assert parameter.numel() % 5 == 0


@pytest.mark.parametrize("what", ["frames", "joints"])
def test_every_part_is_asked_for_something_and_shows_something(what: str) -> None:
    task = ReconstructionTask(bpmt(), "parts", MaskConfig(what=what, share=0.3), {})
    batch = clips(count=200, frames=8)
    shown, asked = task._question(batch)
    for part in KINECT20.parts("five_parts_disjoint").values():
        joints = list(part.joints)
        assert asked[:, :, joints].flatten(1).any(dim=1).all()
        assert shown.joint_weight[:, :, joints].flatten(1).any(dim=1).all()


def test_the_classifier_reads_the_parts_side_by_side() -> None:
    config = PartClipConfig(encoder=BpmtConfig(width=16), parts="five_parts_disjoint", pooling="concat", head="mlp")
    network, batch = PartClip(config, KINECT20, classes=3, bodies=2, text_width=12).eval(), difficult_clips(KINECT20)
    means = pool_slots(encode(network.encoder, batch)).features
    expected = torch.cat([means[:, PARTS.index(part)] for part in PARTS], dim=1)
    assert_close(network.whole(batch), expected)
    assert not expected[2, 16 * PARTS.index("left_arm") :][:16].any(), "an arm that is not seen"
    assert network(batch).text is not None
    plain = PartClip(config.model_copy(update={"head": "linear"}), KINECT20, classes=3, bodies=2, text_width=None)
    assert plain.classifier.weight.shape == (3, 5 * 16)


def test_pairs_do_not_share_gradients() -> None:
    encoder = bpmt(dropout=0.0)
    encoder.begin("pairs")
    predicted = reconstruct(encoder, "pairs", difficult_clips(KINECT20))
    head = list(KINECT20.parts("five_parts_disjoint")["torso"].joints)
    predicted[0][:, :, :, head].square().sum().backward()
    grad = encoder.pair_encoder.layers[0].widen.weight.grad
    assert grad is not None
    assert grad.flatten(1).any(dim=1).tolist() == [True] + [False] * 9


def test_a_part_that_is_hidden_meets_no_text() -> None:
    config = PartClipConfig(encoder=BpmtConfig(width=16), parts="five_parts_disjoint")
    network = PartClip(config, KINECT20, classes=3, bodies=2, text_width=12)
    output = network(difficult_clips(KINECT20))
    assert network.slot_names == ("whole", *PARTS)
    assert output.text is not None
    assert output.text.embedding.shape == (4, 6, 12)
    hidden = ~output.text.present
    assert hidden.nonzero().tolist() == [[2, 1 + PARTS.index("left_arm")]]


@pytest.mark.parametrize("scheme", ["five_parts", "whole"])
def test_parts_that_overlap_or_are_none_are_refused(scheme: str) -> None:
    with pytest.raises(ValueError, match=f"encoder.parts: got '{scheme}', expected a scheme that gives each joint"):
        bpmt(parts=scheme)


def test_a_scheme_that_is_not_there_is_refused_by_its_own_key() -> None:
    with pytest.raises(ValueError, match=r"model\.encoder\.parts: got 'halves', expected one of \['five_parts'"):
        bpmt(parts="halves")
