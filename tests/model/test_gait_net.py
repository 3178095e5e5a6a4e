from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import model.gait_net
from feeders.batch import SkeletonBatch
from feeders.gait.transforms import normalise_walk
from feeders.skeleton import KINECT20, Skeleton
from model.encoders.bpmt import BpmtConfig
from model.encoders.build import EncoderConfig
from model.encoders.cascade import TlcaConfig
from model.encoders.contract import Encoder
from model.encoders.ctrgcn import CtrGcnConfig
from model.encoders.iip import IipConfig
from model.gait_net import GaitNet, GaitNetConfig, IdentityNeck, PartEmbeddings
from tests.model.encoder_laws import LENGTHS, chosen, difficult_clips, flat
from tests.model.stand_in import PartEncoder, PointEncoder, clips

PARTS = tuple(KINECT20.parts("five_parts"))


@pytest.fixture(params=["joints", "parts", "ctrgcn"])
def encoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    def stand_in(config: object, skeleton: Skeleton, bodies: int) -> Encoder:
        return PointEncoder(skeleton) if request.param == "joints" else PartEncoder(skeleton, "five_parts")

    if request.param != "ctrgcn":
        monkeypatch.setattr(model.gait_net, "build_encoder", stand_in)
    return request.param


def net(**config: object) -> GaitNet:
    torch.manual_seed(0)
    return GaitNet(GaitNetConfig(encoder=CtrGcnConfig(width=8), heads=4, width=12, **config), KINECT20, 3, bodies=1)


def walks(count: int = 6) -> SkeletonBatch:
    return clips(count, bodies=1, frames=8)


def one_of(batch: SkeletonBatch, row: int) -> SkeletonBatch:
    pick = slice(row, row + 1)
    tensors = (batch.pose, batch.joint_weight, batch.body_mask, batch.frame_mask, batch.label)
    return SkeletonBatch(*(value[pick] for value in tensors), sample_id=batch.sample_id[pick])


def without_arms(batch: SkeletonBatch, rows: slice) -> SkeletonBatch:
    weight = batch.joint_weight.clone()
    arms = [j for part in ("left_arm", "right_arm") for j in KINECT20.parts("five_parts")[part].joints]
    weight[rows, :, arms] = 0
    return replace(batch, joint_weight=weight)


@pytest.mark.parametrize("interaction", ["none", "cross_attention"])
def test_it_says_an_embedding_and_identities_for_the_whole_body_and_each_part(encoder: str, interaction: str) -> None:
    network = net(interaction=interaction)
    output = network(walks())
    assert network.slot_names == ("whole", *PARTS)
    assert output.embedding.shape == output.after_neck.shape == (6, 6, 12)
    assert output.logits.shape == (6, 6, 3)
    assert output.present.all()


@pytest.mark.parametrize("interaction", ["none", "cross_attention"])
@pytest.mark.parametrize("embedding", ["before_neck", "after_neck"])
@pytest.mark.parametrize("window", [None, 4])
def test_an_embedding_does_not_depend_on_its_batch_mates(
    encoder: str, interaction: str, embedding: str, window: int | None
) -> None:
    network = net(interaction=interaction, embedding=embedding, window=window)
    network(walks())
    network.eval()
    together = network.retrieval_embedding(walks())
    for row in range(6):
        alone = network.retrieval_embedding(one_of(walks(), row))
        assert_close(alone.embedding[0], together.embedding[row], rtol=1e-5, atol=1e-5)


ENCODERS: dict[str, EncoderConfig] = {
    "ctrgcn": GaitNetConfig().encoder.model_copy(update={"width": 8}),
    "tlca": TlcaConfig(width=16),
    "bpmt": BpmtConfig(width=16),
    "iip": IipConfig(width=16),
}


def real_net(name: str, skeleton: Skeleton) -> GaitNet:
    torch.manual_seed(0)
    parts = {"ctrgcn": "five_parts", "tlca": "whole"}.get(name, "five_parts_disjoint")
    return GaitNet(GaitNetConfig(encoder=ENCODERS[name], width=12, parts=parts), skeleton, 3, bodies=1).eval()


@pytest.fixture(params=ENCODERS)
def real(request: pytest.FixtureRequest) -> GaitNet:
    return real_net(request.param, KINECT20)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_walk_in_images_is_the_same_wherever_and_however_large_its_crops_are(name: str) -> None:
    skeleton = flat(KINECT20)
    network, walk = real_net(name, skeleton), difficult_clips(skeleton, bodies=1)
    clips, _, frames = walk.pose.shape[:3]
    scale, shift = 20 + 200 * torch.rand(clips, 1, frames, 1, 1), 500 * torch.randn(clips, 2, frames, 1, 1)
    one, other = (
        network.retrieval_embedding(normalise_walk(batch, skeleton, "unit_size"))
        for batch in (walk, replace(walk, pose=scale * walk.pose + shift))
    )
    assert_close(one.embedding, other.embedding, rtol=1e-3, atol=1e-4)
    assert one.embedding[0, 0].abs().max() > 0.01


def test_a_walk_is_the_same_alone_padded_and_among_others(real: GaitNet) -> None:
    together = difficult_clips(KINECT20, bodies=1)
    found = real.retrieval_embedding(together)
    assert found.embedding.isfinite().all()
    for row, length in enumerate(LENGTHS):
        for frames in (length, length + 1, max(LENGTHS)):
            alone = real.retrieval_embedding(chosen(together, [row], frames))
            assert torch.equal(alone.present[0], found.present[row])
            assert_close(alone.embedding[0], found.embedding[row], rtol=1e-4, atol=1e-5)


def test_a_part_that_is_never_seen_is_absent_whatever_the_encoder(real: GaitNet) -> None:
    present = real.retrieval_embedding(without_arms(walks(), slice(0, 2))).present
    hidden = [slot.endswith("arm") for slot in real.slot_names]
    assert torch.equal(~present[:2], torch.tensor([hidden, hidden]))
    assert present[2:].all()


def test_gradients_reach_every_parameter(encoder: str) -> None:
    network = net(interaction="cross_attention")
    output = network(walks())
    (output.logits.square().sum() + output.embedding.square().sum()).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_a_frozen_encoder_neither_learns_nor_counts(encoder: str) -> None:
    network = net(freeze_encoder=True).train()
    before = {name: value.clone() for name, value in network.encoder.state_dict().items()}
    output = network(walks())
    (output.logits.square().sum() + output.embedding.square().sum()).backward()
    assert all(p.grad is None for p in network.encoder.parameters())
    assert all(p.grad is not None for name, p in network.named_parameters() if not name.startswith("encoder."))
    assert all(torch.equal(value, before[name]) for name, value in network.encoder.state_dict().items())


def test_an_absent_part_is_nothing_and_leaves_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model.gait_net, "build_encoder", lambda *_: PointEncoder(KINECT20))
    network, batch = net().eval(), walks()
    whole, cut = network(batch), network(without_arms(batch, slice(0, 2)))
    absent = [row for row, slot in enumerate(network.slot_names) if slot.endswith("arm")]
    legs = [row for row, slot in enumerate(network.slot_names) if slot.endswith("leg")]
    assert not cut.present[:2, absent].any()
    assert cut.present[2:].all()
    for output in (cut.embedding, cut.after_neck, cut.logits):
        assert not output[:2, absent].any()
    assert_close(cut.embedding[:, legs], whole.embedding[:, legs])
    assert_close(cut.embedding[2:], whole.embedding[2:])


def neck_and_walks() -> tuple[IdentityNeck, Tensor, Tensor]:
    torch.manual_seed(0)
    neck = IdentityNeck(slots=2, width=4, identities=3)
    present = torch.tensor([[True, True], [True, False], [True, True], [True, False], [True, True]])
    return neck, torch.randn(5, 2, 4) * present.unsqueeze(-1), present


def test_the_neck_is_a_batch_norm_over_those_present() -> None:
    neck, embedding, present = neck_and_walks()
    after = neck(embedding, present)
    for slot in range(2):
        norm = torch.nn.BatchNorm1d(4, affine=False)
        assert_close(after[present[:, slot], slot], norm(embedding[present[:, slot], slot]))
        assert_close(neck.running_mean[slot], norm.running_mean)
        assert_close(neck.running_var[slot], norm.running_var)
    assert not after[~present].any()
    neck.eval()
    alone = (embedding[0] - neck.running_mean) / (neck.running_var + 1e-5).sqrt()
    assert_close(neck(embedding[:1], present[:1])[0], alone)


def test_a_slot_that_nobody_shows_keeps_its_statistics() -> None:
    neck, embedding, present = neck_and_walks()
    neck(embedding, present)
    before = neck.running_mean.clone(), neck.running_var.clone()
    present = present & torch.tensor([True, False])
    after = neck(embedding * present.unsqueeze(-1), present)
    assert torch.isfinite(after).all()
    assert_close(neck.running_mean[1], before[0][1])
    assert_close(neck.running_var[1], before[1][1])


def test_half_precision_does_not_reach_the_neck() -> None:
    network = net()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        parts = network.embed(walks())
        output = network.judge(PartEmbeddings(parts.embedding, parts.present))
        assert output.logits.dtype == output.after_neck.dtype == torch.float32


def of_frames(batch: SkeletonBatch, start: int, stop: int) -> SkeletonBatch:
    return replace(
        batch,
        pose=batch.pose[:, :, start:stop],
        joint_weight=batch.joint_weight[:, start:stop],
        frame_mask=batch.frame_mask[:, start:stop],
    )


@pytest.mark.parametrize("embedding", ["before_neck", "after_neck"])
def test_windows_are_meant_by_their_directions(encoder: str, embedding: str) -> None:
    whole, windowed = (net(embedding=embedding, window=window).eval() for window in (None, 4))
    parts = [whole.retrieval_embedding(of_frames(walks(), start, start + 4)).embedding for start in (0, 2, 4)]
    expected = torch.stack([each / each.norm(dim=-1, keepdim=True) for each in parts]).mean(dim=0)
    found = windowed.retrieval_embedding(walks())
    assert found.present.all()
    assert_close(found.embedding, expected)


def test_padding_adds_no_window() -> None:
    network = net(window=4).eval()
    batch = walks()
    hidden = torch.arange(8) >= 4
    shown = replace(
        batch,
        pose=batch.pose.masked_fill(hidden[:, None, None], 0),
        joint_weight=batch.joint_weight.masked_fill(hidden[:, None, None], 0),
        frame_mask=batch.frame_mask & ~hidden,
    )
    assert_close(
        network.retrieval_embedding(shown).embedding, network.retrieval_embedding(of_frames(batch, 0, 4)).embedding
    )


def test_a_walk_shorter_than_a_window_is_one() -> None:
    found, alone = (net(window=window).eval().retrieval_embedding(walks()).embedding for window in (20, None))
    assert_close(found, alone / alone.norm(dim=-1, keepdim=True))
