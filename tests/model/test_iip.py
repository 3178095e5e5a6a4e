import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from feeders.modality import to_modality
from feeders.skeleton import KINECT20, NTU25, Skeleton
from feeders.transforms import hide_joints
from model.encoders.iip import Iip, IipConfig, PartAttention
from model.part_clip import PartClip, PartClipConfig
from model.parts import pool_slots
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
    encode,
    flat,
)

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "flow": {"attention": "flow"},
    "shared joints": {"parts": "torso_arms_legs"},
}
each_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
PARTS = tuple(KINECT20.parts("five_parts_disjoint"))


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def iip(skeleton: Skeleton = KINECT20, **options: Any) -> Iip:
    torch.manual_seed(0)
    return Iip(IipConfig(width=16, joint_width=8, **options), skeleton)


@pytest.mark.parametrize("skeleton", [NTU25, flat(KINECT20)], ids=["NTU25", "KINECT20 in an image"])
@pytest.mark.parametrize("modality", ["joint", "bone", "joint_motion"])
def test_one_token_a_frame_and_part_for_every_layout_and_modality(skeleton: Skeleton, modality: Any) -> None:
    encoder = iip(skeleton)
    assert encoder.slots == PARTS
    assert_shapes_and_weights(encoder, to_modality(difficult_clips(skeleton, bodies=3), skeleton, modality))


@each_option
def test_batch_mates_do_not_matter(options: dict[str, Any]) -> None:
    assert_batch_mates_do_not_matter(iip(**options), difficult_clips(KINECT20))


@each_option
def test_unseen_tokens_do_not_matter(options: dict[str, Any]) -> None:
    encoder = iip(**options)
    assert_unseen_tokens_do_not_matter(
        encoder,
        encoder.part_embedding,
        lambda rows: encoder.groups(rows.weight).any(dim=-1),
        difficult_clips(KINECT20),
    )


@each_option
def test_absent_bodies_and_hidden_values_do_not_matter(options: dict[str, Any]) -> None:
    assert_absent_bodies_do_not_matter(iip(**options), difficult_clips(KINECT20))
    assert_hidden_values_do_not_matter(iip(**options), difficult_clips(KINECT20))


@each_option
def test_every_gradient_arrives(options: dict[str, Any]) -> None:
    encoder = iip(**options)
    tokens = encode(encoder, difficult_clips(KINECT20))
    assert tokens.whole is not None
    assert_every_gradient_arrives(encoder, iter([tokens.features * tokens.weight.unsqueeze(1), tokens.whole]))


def test_bfloat16_is_close() -> None:
    assert_bfloat16_is_close(iip(), difficult_clips(KINECT20))


def naive_attention(query: Tensor, keys: list[Tensor], values: list[Tensor], heads: int) -> Tensor:
    """One (W,) query among (W,) keys, head by head."""
    heard = []
    for q, *pairs in zip(query.chunk(heads), *(tensor.chunk(heads) for tensor in [*keys, *values]), strict=True):
        scores = torch.stack([q @ key for key in pairs[: len(keys)]]) / math.sqrt(len(q))
        heard.append(scores.softmax(dim=0) @ torch.stack(pairs[len(keys) :]))
    return torch.cat(heard)


def test_attention_is_inter_part_plus_intra_part() -> None:
    torch.manual_seed(0)
    attention = PartAttention(8, 2, "sdpa")
    x, whole, seen = torch.randn(2, 3, 4, 8), torch.randn(2, 1, 8), torch.rand(2, 3, 4) > 0.4
    added, added_to_whole = attention(x, whole, seen)
    query, key, value = attention.inward(x).chunk(3, dim=-1)
    whole_query, whole_key, whole_value = attention.inward(whole)[:, 0].chunk(3, dim=-1)
    for row in range(2):
        everything = [(line, token) for line in range(3) for token in range(4) if seen[row, line, token]]
        keys = [whole_key[row], *(key[row, line, token] for line, token in everything)]
        values = [whole_value[row], *(value[row, line, token] for line, token in everything)]
        heard = naive_attention(whole_query[row], keys, values, 2)
        assert_close(added_to_whole[row, 0], attention.outward(heard))
        for line in range(3):
            own = [token for token in range(4) if seen[row, line, token]]
            keys = [whole_key[row], *(key[row, line, token] for token in own)]
            values = [whole_value[row], *(value[row, line, token] for token in own)]
            for token in range(4):
                heard = naive_attention(query[row, line, token], keys, values, 2)
                expected = attention.outward(heard) + attention.intra(value[row, line, token])
                assert_close(added[row, line, token], expected)


def test_the_whole_is_the_mean_of_the_bodies_class_tokens() -> None:
    encoder, batch = iip().eval(), chosen(difficult_clips(KINECT20), [0])
    both = encode(encoder, batch)
    alone = [
        encode(
            encoder,
            replace(
                batch,
                pose=batch.pose[..., body : body + 1],
                joint_weight=batch.joint_weight[..., body : body + 1],
                body_mask=batch.body_mask[:, body : body + 1],
            ),
        )
        for body in range(2)
    ]
    assert both.whole is not None
    assert_close(both.whole, (alone[0].whole + alone[1].whole) / 2)
    assert_close(pool_slots(both).whole(), both.whole)


def test_statistics_are_those_of_seen_joints() -> None:
    encoder, batch = iip().train(), difficult_clips(KINECT20)
    encode(encoder, batch)
    seen = batch.joint_weight > 0
    joints = torch.cat([batch.pose.movedim(1, -1)[seen], batch.joint_weight[seen].unsqueeze(-1)], dim=1)
    first, norm = encoder.joint_embedding.layers[:2]
    assert_close(norm.running_mean, 0.1 * first(joints).mean(dim=0))


def test_a_batch_in_which_nobody_is_seen_is_zero_and_no_error() -> None:
    encoder, batch = iip().train(), difficult_clips(KINECT20)
    nobody = replace(batch, joint_weight=torch.zeros_like(batch.joint_weight), body_mask=batch.body_mask & False)
    tokens = encode(encoder, nobody)
    assert tokens.whole is not None
    assert not tokens.whole.any()
    assert not tokens.weight.any()
    assert tokens.features.isfinite().all()


def test_a_part_that_is_masked_meets_no_text() -> None:
    config = PartClipConfig(encoder=IipConfig(width=16), parts="five_parts_disjoint")
    network = PartClip(config, KINECT20, classes=3, bodies=2, text_width=12)
    batch = difficult_clips(KINECT20)
    legs = torch.zeros(4, 20, dtype=torch.bool)
    legs[0, list(KINECT20.parts("five_parts_disjoint")["left_leg"].joints)] = True
    output = network(hide_joints(batch, legs))
    assert output.text is not None
    absent = [[0, 1 + PARTS.index("left_leg")], [2, 1 + PARTS.index("left_arm")]]
    assert (~output.text.present).nonzero().tolist() == absent


def test_a_scheme_without_parts_and_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="encoder.parts: got 'whole'"):
        iip(parts="whole")
    with pytest.raises(ValueError, match=r"model\.encoder\.parts: got 'halves', expected one of \['five_parts'"):
        iip(parts="halves")
    with pytest.raises(ValueError, match="encoder.heads: got 3, expected a divisor of the width 16"):
        iip(heads=3)
