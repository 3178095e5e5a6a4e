import pickle
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from benchmarks.reference.ctrgcn import ReferenceBpi, ReferenceCtrGcn
from feeders.skeleton import KINECT20, NTU25
from model.adjacency import spatial_graph
from model.encoders.contract import Tokens
from model.encoders.ctrgcn import AbsentBodies, CtrGcn, CtrGcnConfig, _Norm
from model.import_weights import import_state_dict

WIDTH, FRAMES = 16, 11
MASKS = {
    "second body absent somewhere": [[1, 0], [1, 1], [1, 0]],
    "either body absent": [[1, 0], [1, 1], [0, 1]],
    "second body absent everywhere": [[1, 0], [1, 0], [1, 0]],
    "everybody there": [[1, 1], [1, 1], [1, 1]],
}
needs_gpu = pytest.param("cuda", marks=pytest.mark.gpu)


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def device(request: pytest.FixtureRequest) -> torch.device:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)


def scramble(network: nn.Module) -> None:
    """Random values everywhere: the published start, alpha 0 and a norm weight of 1e-6, hides half the network."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.3)
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_()
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)


def encode(network: CtrGcn, pose: Tensor, body_mask: Tensor, frame_mask: Tensor | None = None) -> Tokens:
    clips, _, frames, joints, bodies = pose.shape
    whole = torch.ones(clips, frames, dtype=torch.bool, device=pose.device)
    joint_weight = torch.ones(clips, frames, joints, bodies, device=pose.device)
    return network(pose, joint_weight, body_mask, whole if frame_mask is None else frame_mask)


def twins(absent_bodies: AbsentBodies) -> tuple[CtrGcn, ReferenceCtrGcn]:
    reference = ReferenceCtrGcn(6, spatial_graph(NTU25), width=WIDTH, is_masked=absent_bodies == "masked")
    scramble(reference)
    fused = CtrGcn(CtrGcnConfig(width=WIDTH, absent_bodies=absent_bodies), NTU25)
    fused.load_state_dict(dict(import_state_dict(reference.state_dict(), NTU25).encoder))
    return fused, reference


def gradients(reference: ReferenceCtrGcn) -> Mapping[str, Tensor]:
    """The reference's gradients under our names: where a value goes, its gradient goes."""
    found = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in reference.named_parameters()}
    return import_state_dict(found | dict(reference.named_buffers()), NTU25).encoder


@pytest.mark.parametrize("device", ["cpu", needs_gpu], indirect=True)
@pytest.mark.parametrize("is_training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
@pytest.mark.parametrize("absent_bodies", ["published", "masked"])
def test_fused_equals_published_order_in_outputs_statistics_and_all_gradients(
    absent_bodies: AbsentBodies, mask: list[list[int]], is_training: bool, device: torch.device
) -> None:
    torch.manual_seed(0)
    fused, reference = (network.train(is_training).to(device) for network in twins(absent_bodies))
    body_mask = torch.tensor(mask, dtype=torch.bool, device=device)
    pose = torch.randn(3, 3, FRAMES, 25, 2).to(device).requires_grad_()
    pose_again = pose.detach().clone().requires_grad_()

    tokens, expected = encode(fused, pose, body_mask), reference.tokens(pose_again, body_mask)
    counted = tokens.weight.unsqueeze(1)
    torch.testing.assert_close(tokens.features * counted, expected * counted, rtol=1e-9, atol=1e-9)
    upstream = torch.randn_like(expected) * counted
    (tokens.features * upstream).sum().backward()
    (expected * upstream).sum().backward()

    torch.testing.assert_close(pose.grad, pose_again.grad, rtol=1e-9, atol=1e-9)
    wanted = gradients(reference)
    for name, parameter in fused.named_parameters():
        assert parameter.grad is not None, name
        torch.testing.assert_close(
            parameter.grad, wanted[name], rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}"
        )
    state = import_state_dict(reference.state_dict(), NTU25).encoder
    for name, buffer in fused.named_buffers():
        torch.testing.assert_close(buffer, state[name], rtol=1e-9, atol=1e-9)


def test_inference_without_gradients_is_evaluation() -> None:
    torch.manual_seed(0)
    fused = twins("published")[0].eval()
    pose, body_mask = torch.randn(3, 3, FRAMES, 25, 2), torch.tensor(MASKS["either body absent"], dtype=torch.bool)
    with torch.no_grad():
        plain = encode(fused, pose, body_mask)
    torch.testing.assert_close(plain.features, encode(fused, pose, body_mask).features)


def test_a_masked_body_changes_nothing_and_has_weight_zero() -> None:
    torch.manual_seed(0)
    fused = twins("masked")[0].train()
    body_mask = torch.tensor(MASKS["second body absent somewhere"], dtype=torch.bool)
    pose = torch.randn(3, 3, FRAMES, 25, 2)
    noisy = torch.where(body_mask[:, None, None, None], pose, 100.0)
    tokens, again = encode(fused, pose, body_mask), encode(fused, noisy, body_mask)
    torch.testing.assert_close(tokens.features, again.features, rtol=0, atol=0)
    assert not tokens.weight[~body_mask[:, None, None].expand_as(tokens.weight)].any()
    assert not tokens.features[0, ..., 1].any()


@pytest.mark.parametrize("absent_bodies", ["published", "masked"])
def test_a_clip_in_evaluation_is_the_same_alone_and_in_a_batch(absent_bodies: AbsentBodies) -> None:
    torch.manual_seed(0)
    fused = twins(absent_bodies)[0].eval()
    body_mask = torch.tensor(MASKS["either body absent"], dtype=torch.bool)
    pose = torch.randn(3, 3, FRAMES, 25, 2)
    together = encode(fused, pose, body_mask)
    for clip in range(3):
        alone = encode(fused, pose[clip : clip + 1], body_mask[clip : clip + 1])
        torch.testing.assert_close(alone.features[0], together.features[clip])
        torch.testing.assert_close(alone.weight[0], together.weight[clip])


def test_a_slot_nobody_fills_keeps_its_running_statistics() -> None:
    fused = twins("masked")[0].train()
    before = fused.input_norm.running_var.clone()
    encode(fused, torch.randn(3, 3, FRAMES, 25, 2), torch.tensor([[True, False]] * 3))
    torch.testing.assert_close(fused.input_norm.running_var[75:], before[75:], rtol=0, atol=0)
    assert (fused.input_norm.running_var[:75] != before[:75]).all()


def test_every_parameter_that_a_norm_does_not_erase_gets_a_gradient() -> None:
    torch.manual_seed(0)
    fused = twins("masked")[0].train()
    tokens = encode(fused, torch.randn(4, 3, FRAMES, 25, 2), torch.ones(4, 2, dtype=torch.bool))
    tokens.features.square().sum().backward()
    erased = ("widen.bias", "reduce.bias", "near.bias", "far.bias", "shortcut.bias")
    for name, parameter in fused.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.any() != name.endswith(erased), name


@pytest.mark.parametrize(("frames", "kept"), [(16, [1, 1, 0, 0]), (11, [1, 1, 0])])
def test_tokens_of_padding_have_weight_zero(frames: int, kept: list[int]) -> None:
    fused = CtrGcn(CtrGcnConfig(width=8), KINECT20, bodies=1)
    frame_mask = (torch.arange(frames) < 5).expand(2, -1)
    tokens = encode(fused, torch.randn(2, 3, frames, 20, 1), torch.ones(2, 1, dtype=torch.bool), frame_mask)
    assert tokens.features.shape == (2, 32, len(kept), 20, 1)
    assert tokens.weight.shape == (2, len(kept), 20, 1)
    torch.testing.assert_close(tokens.weight[1, :, 7, 0], torch.tensor(kept).double())


@pytest.mark.parametrize("frames", [16, 11])
def test_tokens_may_weigh_what_was_seen_of_their_joint(frames: int) -> None:
    fused = CtrGcn(CtrGcnConfig(width=8, weigh="joints"), KINECT20, bodies=1).eval()
    pose, there = torch.randn(2, 3, frames, 20, 1), torch.ones(2, 1, dtype=torch.bool)
    frame_mask = torch.ones(2, frames, dtype=torch.bool)
    frame_mask[1, 9:] = False
    joint_weight = torch.rand(2, frames, 20, 1) * frame_mask[:, :, None, None]
    joint_weight[0, 4:8] = 0
    joint_weight[:, :, 7] = 0
    weight = fused(pose, joint_weight, there, frame_mask).weight
    for clip, place, joint in product(*map(range, weight.shape[:3])):
        inside = [t for t in range(4 * place, min(4 * place + 4, frames)) if frame_mask[clip, t]]
        mean = sum(joint_weight[clip, t, joint, 0].item() for t in inside) / max(len(inside), 1)
        assert weight[clip, place, joint, 0].item() == pytest.approx(mean)
    assert not weight[0, 1].any()
    # Where everything is seen, both ways are the same.
    plain = encode(fused, pose, there, frame_mask).weight
    fused.weighs_joints = False
    torch.testing.assert_close(encode(fused, pose, there, frame_mask).weight, plain)


@pytest.mark.parametrize("device", ["cpu", needs_gpu], indirect=True)
@pytest.mark.parametrize("is_training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("absent_bodies", ["published", "masked"])
def test_bfloat16_autocast_runs_and_is_close(
    absent_bodies: AbsentBodies, is_training: bool, device: torch.device
) -> None:
    torch.manual_seed(0)
    fused = CtrGcn(CtrGcnConfig(width=WIDTH, absent_bodies=absent_bodies), NTU25).float().train(is_training).to(device)
    body_mask = torch.tensor(MASKS["either body absent"], dtype=torch.bool, device=device)
    pose = torch.randn(3, 3, 16, 25, 2, dtype=torch.float32, device=device)
    wanted = torch.randn(3, 4 * WIDTH, 4, 25, 2, device=device)
    results = []
    for is_low in (False, True):
        fused.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=is_low):
            features = encode(fused, pose, body_mask).features
        assert features.dtype == (torch.bfloat16 if is_low else torch.float32)
        (features.float() * wanted).sum().backward()
        assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in fused.parameters())
        gradient = torch.cat([p.grad.flatten() for p in fused.parameters() if p.grad is not None])
        results.append((features.float().flatten(), gradient))
    (exact, exact_gradient), (low, low_gradient) = results
    assert torch.cosine_similarity(low, exact, dim=0) > 0.995
    # Rounding turns some of ten blocks' ReLUs, so this says little; what a norm does alone is held below.
    assert torch.cosine_similarity(low_gradient, exact_gradient, dim=0) > 0.8


@pytest.mark.parametrize("device", ["cpu", needs_gpu], indirect=True)
@pytest.mark.parametrize("has_residual", [True, False])
@pytest.mark.parametrize("count", [None, [1, 1, 1, 3]])
def test_a_norm_in_bfloat16_is_torchs_in_float32(
    count: list[int] | None, has_residual: bool, device: torch.device
) -> None:
    torch.manual_seed(0)
    norm, twin = _Norm(6).float().to(device), torch.nn.BatchNorm2d(6).float().to(device)
    for each in (norm, twin):
        torch.nn.init.normal_(each.weight, 2.0, generator=torch.Generator(device).manual_seed(1))
    x, residual, wanted = torch.randn(3, 4, 6, 5, 8, device=device).bfloat16().float()
    inputs = [3 + 2 * x, residual][: 1 + has_residual]
    low, exact = ([tensor.to(dtype).requires_grad_() for tensor in inputs] for dtype in (torch.bfloat16, torch.float32))
    counts = torch.tensor(count or [1, 1, 1, 1], device=device)
    # The twin runs a row as often as it counts.
    repeated = [tensor.repeat_interleave(counts, dim=0) for tensor in exact]
    before = twin(repeated[0] + 0.5) + (repeated[1] if has_residual else 0)
    after = norm(low[0], torch.full((6,), 0.5, device=device), None if count is None else counts, *low[1:])
    # What is within rounding of 0 a ReLU may pass or not.
    first = counts.cumsum(0) - counts
    wanted = wanted * (before[first].detach().abs() > 0.1)
    (before.relu() * wanted.repeat_interleave(counts, dim=0)).sum().backward()
    (after.float() * wanted * counts[:, None, None, None]).sum().backward()
    pairs = [(after.detach(), before[first].detach().relu()), (norm.running_mean, twin.running_mean)]
    pairs += [(norm.running_var, twin.running_var), (norm.weight.grad, twin.weight.grad)]
    pairs += [
        (norm.bias.grad, twin.bias.grad),
        *((one.grad, other.grad) for one, other in zip(low, exact, strict=True)),
    ]
    for found, expected in pairs:
        assert found is not None
        assert expected is not None
        torch.testing.assert_close(found.float(), expected, rtol=0.03, atol=0.03 * float(expected.abs().mean()))


def test_two_runs_are_equal_bit_by_bit() -> None:
    torch.manual_seed(0)
    fused = twins("published")[0].float().train()
    body_mask = torch.tensor(MASKS["either body absent"], dtype=torch.bool)
    pose = torch.randn(3, 3, FRAMES, 25, 2, dtype=torch.float32)
    runs = []
    for _ in range(2):
        fused.zero_grad()
        features = encode(fused, pose, body_mask).features
        features.square().sum().backward()
        runs.append([features.detach(), *(p.grad for p in fused.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*runs, strict=True))


def test_it_starts_as_published() -> None:
    torch.manual_seed(0)
    fused = CtrGcn(CtrGcnConfig(), NTU25)
    block = fused.blocks[7]
    torch.testing.assert_close(block.graph.adjacency.detach(), torch.as_tensor(spatial_graph(NTU25)))
    assert block.graph.relation_strength.item() == 0
    assert (block.graph.norm.weight == 1e-6).all()
    assert (block.graph.widen_norm.weight == 1).all()
    assert not any(p.any() for name, p in fused.named_parameters() if name.endswith("bias"))
    for norm in (block.temporal.norm, block.temporal.reduce_norm):
        assert 0.01 < norm.weight.std() < 0.03
    fan_outs = ((block.graph.value, 256), (block.graph.lift, 256), (block.graph.query, 16), (block.temporal.reduce, 64))
    for module, fan_out in (*fan_outs, (block.temporal.near, 64 * 5), (block.shortcut, 256)):
        torch.testing.assert_close(module.weight.std(), torch.tensor((2 / fan_out) ** 0.5), rtol=0.05, atol=0)


@pytest.mark.parametrize(
    ("skeleton", "bodies", "classes", "plain", "bpi"),
    [(NTU25, 2, 60, 1_446_672, 2_566_676), (KINECT20, 1, 10, 1_426_892, 2_546_896)],
    ids=["NTU-60", "NW-UCLA"],
)
def test_sizes_are_the_published_ones(skeleton, bodies: int, classes: int, plain: int, bpi: int) -> None:
    graph = spatial_graph(skeleton)
    parts = [part.joints for part in skeleton.parts("torso_arms_legs").values()]
    reference = ReferenceCtrGcn(classes, graph, bodies=bodies)
    interacting = ReferenceBpi(classes, graph, parts, bodies=bodies)
    assert (len(reference.state_dict()), len(interacting.state_dict())) == (822, 855)
    assert sum(p.numel() for p in reference.parameters()) == plain
    assert sum(p.numel() for p in interacting.parameters()) == bpi
    fused = CtrGcn(CtrGcnConfig(), skeleton, bodies=bodies)
    assert sum(p.numel() for p in fused.parameters()) + 257 * classes == plain


def test_an_input_of_as_many_channels_as_a_block_halves_its_frames_as_any_other() -> None:
    fused = CtrGcn(CtrGcnConfig(width=8), replace(KINECT20, coordinates=8), bodies=1)
    tokens = encode(fused, torch.randn(2, 8, 16, 20, 1), torch.ones(2, 1, dtype=torch.bool))
    assert tokens.features.shape == (2, 32, 4, 20, 1)
    assert tokens.weight.shape == (2, 4, 20, 1)
    assert fused.blocks[0].graph.relation_channels == 8


def test_it_pickles() -> None:
    fused = CtrGcn(CtrGcnConfig(width=8), KINECT20)
    copy = pickle.loads(pickle.dumps(fused))
    assert copy.state_dict().keys() == fused.state_dict().keys()


def test_a_pose_of_another_layout_is_refused() -> None:
    fused = CtrGcn(CtrGcnConfig(width=8), KINECT20, bodies=1)
    with pytest.raises(ValueError, match="got 3 coordinates, 25 joints, 1 bodies, expected 3, 20, 1"):
        encode(fused, torch.zeros(1, 3, 8, 25, 1), torch.ones(1, 1, dtype=torch.bool))


def test_a_batch_without_anybody_is_refused() -> None:
    fused = CtrGcn(CtrGcnConfig(width=8), KINECT20, bodies=1)
    with pytest.raises(ValueError, match="body_mask"):
        encode(fused, torch.zeros(1, 3, 8, 20, 1), torch.zeros(1, 1, dtype=torch.bool))
