import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from model.encoders.attention import (
    AttentionKind,
    GroupedAttention,
    GroupedCross,
    GroupedEncoder,
    GroupedLinear,
    GroupedNorm,
    NormPlace,
    attend,
    positions,
)

KINDS: tuple[AttentionKind, ...] = ("sdpa", "flow")


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def naive_dot_product(query: Tensor, key: Tensor, value: Tensor, asking: list[int], visible: list[int]) -> Tensor:
    """One head: (L, d), (S, d), (S, d)."""
    heard = torch.zeros_like(query)
    for i, asked in enumerate(query):
        scores = [math.exp(float(asked @ key[j]) / math.sqrt(len(asked))) for j in visible]
        for score, j in zip(scores, visible, strict=True):
            heard[i] += score / sum(scores) * value[j]
    return heard


def naive_flow(query: Tensor, key: Tensor, value: Tensor, asking: list[int], visible: list[int]) -> Tensor:
    """One head of Flow attention, sum by sum as the field notes (4.2) write it."""
    heard = torch.zeros_like(query)
    if not visible:
        return heard
    source, sink = query.sigmoid(), key.sigmoid()
    zero = torch.zeros_like(query[0])

    def flow(tokens: Tensor, total: Tensor) -> float:
        return float(((tokens + 1e-6) * (total + 1e-6)).sum())

    incoming = {i: flow(source[i], sum((sink[j] for j in visible), zero)) for i in range(len(query))}
    outgoing = {j: flow(sink[j], sum((source[i] for i in asking), zero)) for j in visible}
    leaving = {j: flow(sink[j], sum((source[i] / incoming[i] for i in asking), zero)) for j in visible}
    competition = {j: math.exp(min(max(leaving[j], -1), 1)) for j in visible}
    total = sum(competition.values())
    for i in range(len(query)):
        arriving = flow(source[i], sum((sink[j] / outgoing[j] for j in visible), zero))
        allocation = 1 / (1 + math.exp(-arriving * len(asking) / len(visible)))
        for j in visible:
            share = float(source[i] @ sink[j]) / incoming[i]
            heard[i] += allocation * share * competition[j] / total * len(visible) * value[j]
    return heard


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    asking=st.lists(st.booleans(), min_size=1, max_size=6),
    visible=st.lists(st.booleans(), min_size=1, max_size=6),
    kind=st.sampled_from(KINDS),
)
def test_attention_is_the_sum_over_visible_keys(
    seed: int, asking: list[bool], visible: list[bool], kind: AttentionKind
) -> None:
    torch.manual_seed(seed)
    query, key, value = torch.randn(2, 3, len(asking), 4), *torch.randn(2, 2, 3, len(visible), 4)
    asks, shown = torch.tensor([asking] * 2), torch.tensor([visible] * 2)
    heard = attend(query, key, value, asks, shown, kind)
    naive = naive_dot_product if kind == "sdpa" else naive_flow
    numbers = [[place for place, flag in enumerate(flags) if flag] for flags in (asking, visible)]
    for clip in range(2):
        for head in range(3):
            expected = naive(query[clip, head], key[clip, head], value[clip, head], *numbers)
            assert_close(heard[clip, head], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_no_mask_is_a_mask_that_shows_everything(kind: AttentionKind) -> None:
    query, key, value = torch.randn(2, 3, 5, 4), *torch.randn(2, 2, 3, 7, 4)
    masks = torch.ones(2, 5, dtype=torch.bool), torch.ones(2, 7, dtype=torch.bool)
    assert_close(attend(query, key, value, None, None, kind), attend(query, key, value, *masks, kind))


@pytest.mark.parametrize("kind", KINDS)
def test_who_sees_nobody_hears_zero_and_gradients_stay_finite(kind: AttentionKind) -> None:
    inputs = [torch.randn(2, 3, 5, 4, requires_grad=True) for _ in range(3)]
    shown = torch.tensor([[True] * 5, [False] * 5])
    heard = attend(*inputs, shown, shown, kind)
    assert not heard[1].any()
    heard.square().sum().backward()
    for tensor in inputs:
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
        assert not tensor.grad[1].any()


def test_flow_attention_is_exact_under_autocast() -> None:
    query, key, value = (tensor.float() for tensor in torch.randn(3, 2, 3, 5, 4))
    exact = attend(query, key, value, None, None, "flow")
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(attend(query, key, value, None, None, "flow"), exact)


def part_of(module: torch.nn.Module, whole: torch.nn.Module, group: int, groups: int) -> torch.nn.Module:
    """Load one group's parameters into a module of one group."""
    state = {name: value.chunk(groups)[group] for name, value in whole.state_dict().items()}
    module.load_state_dict(state)
    return module


def scramble(module: torch.nn.Module) -> torch.nn.Module:
    """Random values also where the start is one or zero."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.5)
    return module


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("kind", KINDS)
def test_groups_are_transformers_of_their_own(kind: AttentionKind, norm: NormPlace) -> None:
    torch.manual_seed(0)

    def encoder(groups: int) -> GroupedEncoder:
        return GroupedEncoder(groups, 8, 2, 2, ffn=2, dropout=0.0, kind=kind, norm=norm)

    def cross(groups: int) -> GroupedCross:
        return GroupedCross(groups, 8, 2, 0.0, kind)

    encoders, crosses = scramble(encoder(3)), scramble(cross(3))
    x, memory = torch.randn(3, 4, 5, 8), torch.randn(3, 4, 6, 8)
    seen, memory_seen = torch.rand(3, 4, 5) > 0.3, torch.rand(3, 4, 6) > 0.3
    encoded, crossed = encoders(x, seen), crosses(x, seen, memory, memory_seen)
    for group in range(3):
        one = slice(group, group + 1)
        assert_close(part_of(encoder(1), encoders, group, 3)(x[one], seen[one]), encoded[one])
        alone = part_of(cross(1), crosses, group, 3)(x[one], seen[one], memory[one], memory_seen[one])
        assert_close(alone, crossed[one])


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_one_group_is_torchs_own_transformer_layer(norm: NormPlace) -> None:
    torch.manual_seed(0)
    ours = GroupedEncoder(1, 8, 2, 1, ffn=3, dropout=0.0, kind="sdpa", norm=norm)
    theirs = torch.nn.TransformerEncoderLayer(8, 2, 24, 0.0, batch_first=True, norm_first=norm == "pre")
    scramble(theirs)
    layer, last = ours.layers[0], torch.nn.LayerNorm(8)
    state = {
        "attention.inward": (theirs.self_attn.in_proj_weight, theirs.self_attn.in_proj_bias),
        "attention.outward": (theirs.self_attn.out_proj.weight, theirs.self_attn.out_proj.bias),
        "widen": (theirs.linear1.weight, theirs.linear1.bias),
        "narrow": (theirs.linear2.weight, theirs.linear2.bias),
    }
    values = {f"{name}.weight": weight.T.unsqueeze(0) for name, (weight, _) in state.items()}
    values |= {f"{name}.bias": bias for name, (_, bias) in state.items()}
    for name, module in (("attention_norm", theirs.norm1), ("ffn_norm", theirs.norm2)):
        values |= {f"{name}.weight": module.weight, f"{name}.bias": module.bias}
    layer.load_state_dict(values)
    x, seen = torch.randn(3, 5, 8), torch.rand(3, 5) > 0.3
    seen[:, 0] = True
    expected = theirs(x, src_key_padding_mask=~seen)
    assert_close(ours(x.unsqueeze(0), seen.unsqueeze(0))[0], last(expected) if norm == "pre" else expected)


def test_a_norm_multiplied_into_the_weights_is_the_norm() -> None:
    linear, norm = scramble(GroupedLinear(3, 4, 6)), scramble(GroupedNorm(3, 4))
    x = torch.randn(3, 2, 5, 4)
    assert_close(linear(x, norm), linear(norm(x)))


def test_what_has_no_weight_decay_has_one_axis() -> None:
    encoder = GroupedEncoder(3, 8, 2, 1, ffn=2, dropout=0.0, kind="sdpa", norm="pre")
    for name, parameter in encoder.named_parameters():
        assert (parameter.ndim == 1) == (name.endswith("bias") or "norm" in name), name


@given(frames=st.integers(1, 5000), width=st.sampled_from([4, 7, 64]))
@settings(max_examples=20, deadline=None)
def test_positions_never_run_out_and_depend_on_the_place_alone(frames: int, width: int) -> None:
    place = torch.arange(frames)
    table = positions(place, width)
    assert table.shape == (frames, width)
    assert table.abs().max() <= 1
    assert torch.equal(positions(place[frames // 2 :], width), table[frames // 2 :])


def test_positions_are_sines_and_cosines() -> None:
    expected = [math.sin(3), math.cos(3), math.sin(0.03), math.cos(0.03)]
    assert_close(positions(torch.tensor(3), 4), torch.tensor(expected))


def test_heads_divide_the_width() -> None:
    with pytest.raises(ValueError, match="heads: got 3, expected a divisor of the width 8"):
        GroupedAttention(1, 8, 3, "sdpa")
