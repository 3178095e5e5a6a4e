from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from feeders.skeleton import KINECT20
from model.encoders.contract import Tokens
from model.interaction import CrossAttentionHead, PartInteraction
from model.parts import SlotFeatures, encode_slots, pool_slots, slots_of_parts
from tests.model.stand_in import PartEncoder, PointEncoder, clips

PARTS = {"torso": (0, 1, 2), "arms": (2, 3), "legs": (0, 4, 5)}


def _slots(count: int = 3, channels: int = 8, seed: int = 0) -> SlotFeatures:
    generator = torch.Generator().manual_seed(seed)
    return SlotFeatures(torch.randn(count, 6, channels, generator=generator), torch.ones(count, 6))


def _interaction(interaction: str = "cross_attention", heads: int = 4) -> PartInteraction:
    torch.manual_seed(0)
    return PartInteraction(PARTS, channels=8, width=5, interaction=interaction, heads=heads).eval()  # type: ignore[arg-type]


def test_slot_means_equal_plain_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 3, 4, 5, 2, generator=generator)
    weight = (torch.rand(2, 4, 5, 2, generator=generator) > 0.4).float() * torch.rand(2, 4, 5, 2, generator=generator)
    weight[0, :, 1] = 0
    slots = pool_slots(Tokens(features, weight))
    for n in range(2):
        for s in range(5):
            total, count = torch.zeros(3), 0.0
            for t in range(4):
                for m in range(2):
                    total += features[n, :, t, s, m] * weight[n, t, s, m]
                    count += float(weight[n, t, s, m])
            assert_close(slots.features[n, s], total / count if count else torch.zeros(3))
    assert not slots.present[0, 1]
    assert slots.present.sum() == 9
    everything = (features * weight.unsqueeze(1)).sum(dim=(2, 3, 4)) / weight.sum(dim=(1, 2, 3)).unsqueeze(1)
    assert_close(slots.whole(), everything)


def test_what_has_no_weight_changes_no_mean() -> None:
    features, weight = torch.randn(2, 3, 4, 5, 2), torch.ones(2, 4, 5, 2)
    weight[0, :, :, 1] = 0
    weight[1, 2, 3, 0] = 0
    changed = torch.where(weight.unsqueeze(1) == 0, 1e3, features)
    assert_close(pool_slots(Tokens(changed, weight)).features, pool_slots(Tokens(features, weight)).features)


def test_an_encoder_whose_tokens_are_not_as_announced_is_named() -> None:
    class Careless(PointEncoder):
        def forward(self, *batch: Tensor) -> Tokens:
            tokens = super().forward(*batch)
            return Tokens(tokens.features, tokens.weight[:, :, :1])

    assert encode_slots(PointEncoder(KINECT20), clips(2)).features.shape == (2, 20, 16)
    with pytest.raises(ValueError, match=r"Careless: got tokens of \(2, 16, 5, 20, 2\) with weights of \(2, 5, 1, 2\)"):
        encode_slots(Careless(KINECT20), clips(2))


def test_parts_are_found_among_joints_and_among_parts() -> None:
    by_joint = slots_of_parts(KINECT20, "torso_arms_legs", PointEncoder(KINECT20))
    assert {part: definition.joints for part, definition in KINECT20.parts("torso_arms_legs").items()} == by_joint
    by_part = slots_of_parts(KINECT20, "five_parts", PartEncoder(KINECT20, "five_parts"))
    assert list(by_part.values()) == [(0,), (1,), (2,), (3,), (4,)]


def test_an_encoder_of_other_parts_is_refused() -> None:
    with pytest.raises(ValueError, match=r"model\.parts: got 'torso_arms_legs', whose part 'arms'"):
        slots_of_parts(KINECT20, "torso_arms_legs", PartEncoder(KINECT20, "five_parts"))


def test_interaction_equals_plain_loops() -> None:
    slots, interaction = _slots(), _interaction()
    weight = slots.weight.clone()
    weight[0, 4] = weight[1, 2] = weight[1, 3] = 0  # sample 1 has no arms
    slots = replace(slots, weight=weight)
    output = interaction(slots, with_attention=True)
    for n in range(3):
        for row, (part, own) in enumerate(PARTS.items()):
            head = interaction[part]
            others = [s for other, members in PARTS.items() if other != part for s in members if weight[n, s]]
            mixed = []
            for s in (s for s in own if weight[n, s]):
                query, heard = head.query(slots.features[n, s]), []
                for h in range(0, 8, 2):
                    keys = [head.key(slots.features[n, o])[h : h + 2] for o in others]
                    values = [head.value(slots.features[n, o])[h : h + 2] for o in others]
                    share = torch.stack([query[h : h + 2] @ key / 2**0.5 for key in keys]).softmax(dim=0)
                    heard.append(sum(p * value for p, value in zip(share, values, strict=True)))
                mixed.append(head.norm(slots.features[n, s] + torch.cat(heard)))
            mean = torch.stack(mixed).mean(dim=0) if mixed else torch.zeros(8)
            assert_close(output.features[n, row], head.projection(mean))
            assert output.present[n, row] == bool(mixed)
    assert output.attention is not None
    assert_close(output.attention["torso"].sum(dim=-1), torch.ones(3, 4, 3))


@pytest.mark.parametrize("interaction", ["cross_attention", "none"])
def test_absent_slots_change_nothing(interaction: str) -> None:
    slots, heads = _slots(), _interaction(interaction)
    weight = slots.weight.clone()
    weight[:, 3] = 0
    features = slots.features.clone()
    features[:, 3] = 1e3
    assert_close(heads(SlotFeatures(features, weight)).features, heads(SlotFeatures(slots.features, weight)).features)


def test_without_interaction_a_part_ignores_the_others() -> None:
    slots, heads = _slots(), _interaction("none")
    features = slots.features.clone()
    features[:, [0, 1, 4, 5]] += 1
    assert_close(heads(replace(slots, features=features)).features[:, 1], heads(slots).features[:, 1])


def test_a_part_alone_hears_nobody_and_is_finite_with_its_gradients() -> None:
    slots, interaction = _slots(), _interaction()
    slots = SlotFeatures(slots.features.requires_grad_(), torch.tensor([[0.0, 0, 0, 1, 0, 0]] * 3))
    output = interaction(slots)
    head = interaction["arms"]
    assert_close(output.features[:, 1], head.projection(head.norm(slots.features[:, 3])))
    output.features.sum().backward()
    assert slots.features.grad is not None
    assert torch.isfinite(slots.features.grad).all()
    assert output.present.tolist() == [[False, True, False]] * 3


def test_heads_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"model\.heads: got 3, expected a divisor"):
        CrossAttentionHead(8, 5, own=(0,), others=(1,), heads=3)
