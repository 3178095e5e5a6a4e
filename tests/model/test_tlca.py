import pickle
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor
from torch.testing import assert_close

from feeders.modality import to_modality
from feeders.skeleton import KINECT20, NTU25, Skeleton
from model.class_texts import FrozenTexts, text_table
from model.encoders.build import EncoderConfig, build_encoder
from model.encoders.cascade import BoneInput, Tlca, TlcaConfig
from model.encoders.rows import BodyRows
from model.part_clip import PartClip, PartClipConfig
from tests.model.encoder_laws import (
    assert_absent_bodies_do_not_matter,
    assert_batch_mates_do_not_matter,
    assert_bfloat16_is_close,
    assert_every_gradient_arrives,
    assert_hidden_values_do_not_matter,
    assert_shapes_and_weights,
    assert_unseen_tokens_do_not_matter,
    chosen,
    difficult_clips,
    embeddings,
    encode,
    flat,
    reconstruct,
)
from text_prompts.bank import load_bank

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "post-norm": {"norm": "post"},
    "flow": {"attention": "flow"},
    "conv": {"embedding": "conv"},
    "spatial": {"spatial": "transformer"},
    "spatial flow conv": {"spatial": "transformer", "attention": "flow", "embedding": "conv"},
    "bone subtract": {"bone": "subtract"},
    "bone concat": {"bone": "concat"},
    "bone parameterise": {"bone": "parameterise"},
}
each_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def tlca(skeleton: Skeleton = KINECT20, **options: Any) -> Tlca:
    torch.manual_seed(0)
    return Tlca(TlcaConfig(width=16, **options), skeleton)


@pytest.mark.parametrize("skeleton", [NTU25, flat(KINECT20)], ids=["NTU25", "KINECT20 in an image"])
@pytest.mark.parametrize("modality", ["joint", "bone", "joint_motion"])
def test_one_token_a_frame_for_every_layout_and_modality(skeleton: Skeleton, modality: Any) -> None:
    batch = to_modality(difficult_clips(skeleton, bodies=3), skeleton, modality)
    assert_shapes_and_weights(tlca(skeleton), batch)


@each_option
def test_batch_mates_do_not_matter(options: dict[str, Any]) -> None:
    assert_batch_mates_do_not_matter(tlca(**options), difficult_clips(KINECT20))


@each_option
def test_unseen_tokens_do_not_matter(options: dict[str, Any]) -> None:
    encoder = tlca(**options)
    first = encoder.frame_encoder
    assert_unseen_tokens_do_not_matter(encoder, first.embedding, first.seen, difficult_clips(KINECT20))


@each_option
def test_absent_bodies_and_hidden_values_do_not_matter(options: dict[str, Any]) -> None:
    assert_absent_bodies_do_not_matter(tlca(**options), difficult_clips(KINECT20))
    assert_hidden_values_do_not_matter(tlca(**options), difficult_clips(KINECT20))


@each_option
@pytest.mark.parametrize("stage", ["frames", None])
def test_gradients_reach_what_is_trained_and_nothing_else(options: dict[str, Any], stage: str | None) -> None:
    encoder, batch = tlca(**options), difficult_clips(KINECT20)
    encoder.begin(stage)
    output = encode(encoder, batch).features if stage is None else reconstruct(encoder, stage, batch)
    assert_every_gradient_arrives(encoder, iter([output]))


@each_option
def test_bfloat16_is_close(options: dict[str, Any]) -> None:
    assert_bfloat16_is_close(tlca(**options), difficult_clips(KINECT20))


def trained(encoder: Tlca) -> set[str]:
    """The parts, two names deep, that have a trained parameter."""
    return {".".join(name.split(".")[:2]) for name, p in encoder.named_parameters() if p.requires_grad}


def test_each_stage_trains_its_own() -> None:
    encoder = tlca()
    first = {"frame_encoder.embedding", "frame_encoder.encoder"}
    head, second = {"frame_head.weight", "frame_head.bias"}, {"second_encoder.layers", "second_encoder.norm"}
    cross = {"cross.attention", "cross.norm"}
    encoder.begin("frames")
    assert trained(encoder) == first | head
    encoder.begin(None)
    assert trained(encoder) == first | second | cross
    assert trained(tlca(t1="frozen")) == second | cross


def test_the_last_layer_alone_can_be_tuned() -> None:
    encoder = tlca(t1="last_layer", layers=3)
    of_first = [name for name, p in encoder.frame_encoder.named_parameters() if p.requires_grad]
    assert of_first
    assert all(name.startswith(("encoder.layers.2.", "encoder.norm.")) for name in of_first)


def test_what_is_frozen_stays_in_eval_mode() -> None:
    encoder = tlca(t1="frozen", dropout=0.5).train()
    assert not any(module.training for module in encoder.frame_encoder.modules())
    assert encoder.second_encoder.training
    encoder.begin("frames")
    assert all(module.training for module in encoder.frame_encoder.modules())
    assert not any(module.training for module in encoder.second_encoder.modules())
    encoder.eval().begin("frames")
    assert not any(module.training for module in encoder.modules())


def test_reconstruction_has_one_prediction_of_every_joint() -> None:
    batch = difficult_clips(KINECT20)
    predicted = reconstruct(tlca(), "frames", batch)
    assert predicted.shape == (1, *batch.pose.shape)
    assert not predicted[0].movedim(-1, 1)[~batch.body_mask].any()


def test_pretraining_learns_a_moving_pose_behind_a_mask() -> None:
    torch.set_default_dtype(torch.float32)
    batch = chosen(difficult_clips(KINECT20), [0])
    batch = replace(batch, pose=torch.randn(1, 3, 1, 20, 2) + torch.linspace(0, 1, 9)[:, None, None])
    batch = replace(batch, joint_weight=torch.ones(1, 9, 20, 2))
    encoder = tlca(dropout=0.0).train()
    encoder.begin("frames")
    optimiser = torch.optim.Adam([p for p in encoder.parameters() if p.requires_grad], 1e-2)
    shown = batch.joint_weight.clone()
    shown[:, 4] = 0
    losses = []
    for _ in range(60):
        predicted = reconstruct(encoder, "frames", replace(batch, joint_weight=shown))[0]
        loss = (predicted - batch.pose)[:, :, 4].square().mean()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]


def test_bones_are_joints_without_their_parents() -> None:
    batch = difficult_clips(KINECT20)
    pose = batch.pose[..., 0].permute(0, 2, 3, 1) * (batch.joint_weight[..., :1] > 0)
    weight = batch.joint_weight[..., 0]
    bone = to_modality(replace(batch, pose=batch.pose * (batch.joint_weight > 0).unsqueeze(1)), KINECT20, "bone")
    expected = torch.cat([bone.pose[..., 0].permute(0, 2, 3, 1), bone.joint_weight[..., :1]], dim=-1)
    joint = torch.cat([pose, weight.unsqueeze(-1)], dim=-1)
    expected[:, :, KINECT20.root] = joint[:, :, KINECT20.root]
    assert_close(BoneInput(KINECT20, "subtract")(pose, weight), expected)
    assert_close(BoneInput(KINECT20, "concat")(pose, weight), torch.cat([joint, expected], dim=-1))
    parameterised = BoneInput(KINECT20, "parameterise")
    assert_close(parameterised(pose, weight), joint)
    torch.nn.init.ones_(parameterised.share)
    whole = torch.ones_like(weight)
    assert_close(parameterised(pose, whole), BoneInput(KINECT20, "subtract")(pose, whole))


def test_convolution_looks_at_neighbours_and_no_further() -> None:
    encoder = tlca(embedding="conv").frame_encoder.embedding
    batch = chosen(difficult_clips(KINECT20), [0], bodies=1)
    batch = replace(batch, joint_weight=torch.ones(1, 9, 20, 1))

    def tokens(pose: Tensor) -> Tensor:
        return encoder(BodyRows.of(pose, batch.joint_weight, batch.body_mask, batch.frame_mask, (20, 3)))[0, 0]

    moved = batch.pose.clone()
    moved[:, :, 4] += 1
    difference = (tokens(batch.pose) - tokens(moved)).abs().amax(dim=-1)
    assert torch.equal(difference > 1e-9, torch.tensor([False, False, True, True, True, True, True, False, False]))


def test_a_frame_is_known_by_its_place_in_the_clip() -> None:
    batch, encoder = difficult_clips(KINECT20), tlca().eval()
    ahead = torch.zeros_like(batch.pose[:, :, :3])
    late = replace(
        batch,
        pose=torch.cat([ahead, batch.pose], dim=2),
        joint_weight=torch.cat([torch.zeros_like(batch.joint_weight[:, :3]), batch.joint_weight], dim=1),
        frame_mask=torch.cat([torch.zeros(4, 3, dtype=torch.bool), batch.frame_mask], dim=1),
    )
    assert_close(embeddings(encoder, late), embeddings(encoder, batch))


def test_it_is_text_aligned_without_parts() -> None:
    config = PartClipConfig(encoder=TlcaConfig(width=16), parts="whole")
    network = PartClip(config, KINECT20, classes=3, bodies=2, text_width=12)
    output = network(difficult_clips(KINECT20), with_attention=True)
    assert network.slot_names == ("whole",)
    assert output.text is not None
    assert output.text.embedding.shape == (4, 1, 12)
    assert output.text.present.all()
    assert output.logits.shape == (4, 3)


def test_texts_of_a_scheme_without_parts_are_those_of_the_whole() -> None:
    bank = load_bank("demo")
    table = text_table(bank, KINECT20, "whole", include_name=True)
    assert table.parts == ((),) * len(bank.classes)
    rows = torch.nn.functional.normalize(torch.randn(len(table.texts), 6), dim=1)
    pools = torch.tensor([[pool[0]] for pool in table.pools])
    texts = FrozenTexts(pools, torch.ones(len(pools)), torch.tensor(table.parts, dtype=torch.long), rows)
    assert_close(texts.per_class()[:, 0], rows[pools[:, 0]])
    assert_close(texts.draw(torch.tensor([1, 0])), rows[pools[[1, 0]]])


def test_a_config_names_its_encoder() -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(EncoderConfig)
    for name in ("ctrgcn", "tlca", "bpmt", "iip"):
        config = adapter.validate_python({"name": name})
        assert config.name == name
        assert build_encoder(config, KINECT20, 2).slots
    assert PartClipConfig().encoder.name == "ctrgcn"
    with pytest.raises(ValueError, match="width"):
        adapter.validate_python({"name": "tlca", "width": 13})


def test_it_pickles() -> None:
    encoder = tlca(t1="frozen")
    copy = pickle.loads(pickle.dumps(encoder)).train()
    assert copy.state_dict().keys() == encoder.state_dict().keys()
    assert not copy.frame_encoder.training


def test_wrong_stages_and_layouts_are_refused() -> None:
    batch = difficult_clips(NTU25)
    with pytest.raises(ValueError, match=r"stage: got 'pairs', expected one of \['frames'\]"):
        tlca().begin("pairs")
    with pytest.raises(ValueError, match=r"stage: got 'pairs'"):
        reconstruct(tlca(), "pairs", batch)
    with pytest.raises(ValueError, match="got 25 joints of 3 coordinates, expected 20 of 3"):
        encode(tlca(), batch)
