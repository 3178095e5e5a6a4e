from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import model.part_clip
from feeders.modality import motion, relative
from feeders.skeleton import KINECT20
from model.dtcr import Dtcr, DtcrConfig, disorder, in_order, spread_beyond
from model.encoders.ctrgcn import CtrGcn, CtrGcnConfig
from model.losses import ClipLossConfig
from model.part_clip import PartClip, PartClipConfig
from tests.model.staged import TwoStages, gappy_clips, seeded, taken
from tests.model.stand_in import clips
from tests.model.test_clip_action import _task


def network(monkeypatch: pytest.MonkeyPatch) -> PartClip:
    torch.manual_seed(0)
    monkeypatch.setattr(model.part_clip, "build_encoder", lambda *_: TwoStages())
    return PartClip(PartClipConfig(dropout=0.2), KINECT20, 3, 2, None)


@pytest.mark.parametrize("share", [0.01, 0.2, 1.0])
def test_a_fake_is_one_circle_through_frames_that_show_something_and_never_the_clip_itself(share: float) -> None:
    batch = seeded(gappy_clips(count=40))
    order, is_faked = disorder(batch, share)
    is_seen = (batch.joint_weight > 0).flatten(2).any(dim=2)
    assert is_faked.all()
    for row, seen in zip(order.tolist(), is_seen.tolist(), strict=True):
        assert sorted(row) == list(range(12))
        moved = [place for place, frame in enumerate(row) if place != frame]
        assert len(moved) == max(int(share * sum(seen) + 1e-6), 2)
        assert all(seen[place] for place in moved)
        at, steps = moved[0], 0
        while steps == 0 or at != moved[0]:
            at, steps = row[at], steps + 1
        assert steps == len(moved)


def test_a_clip_of_one_frame_has_no_fake() -> None:
    batch = gappy_clips(count=2)
    weight = batch.joint_weight.clone()
    weight[0, 1:] = 0
    order, is_faked = disorder(replace(batch, joint_weight=weight), 0.5)
    assert is_faked.tolist() == [False, True]
    assert order[0].tolist() == list(range(12))


def test_the_disorder_is_the_samples_own() -> None:
    batch = seeded(gappy_clips())
    order, _ = disorder(batch, 0.5)
    assert torch.equal(disorder(taken(batch, [3, 1]), 0.5)[0], order[[3, 1]])
    assert not torch.equal(disorder(seeded(batch, 50), 0.5)[0], order)


def test_both_bodies_change_places_alike_and_weights_go_with_them() -> None:
    batch = seeded(gappy_clips())
    order, _ = disorder(batch, 0.5)
    fake = in_order(batch, order, is_motion=False)
    for clip, row in enumerate(order.tolist()):
        assert torch.equal(fake.pose[clip], batch.pose[clip][:, row])
        assert torch.equal(fake.joint_weight[clip], batch.joint_weight[clip][row])


def test_the_fake_of_a_motion_is_the_motion_of_the_fake() -> None:
    batch = seeded(clips(frames=12))
    order, _ = disorder(batch, 0.5)
    disordered_first = motion(in_order(batch, order, is_motion=False))
    disordered_last = in_order(motion(batch), order, is_motion=True)
    assert_close(disordered_last.pose, disordered_first.pose, atol=1e-5, rtol=1e-5)


def test_the_fake_of_a_bone_is_the_bone_of_the_fake() -> None:
    batch = seeded(clips(frames=12))
    order, _ = disorder(batch, 0.5)
    first = relative(in_order(batch, order, is_motion=False), KINECT20, 1, "zero")
    last = in_order(relative(batch, KINECT20, 1, "zero"), order, is_motion=False)
    assert_close(last.pose, first.pose)


def test_of_a_motion_with_gaps_nothing_absent_moves() -> None:
    batch = seeded(gappy_clips())
    order, _ = disorder(batch, 0.5)
    fake = in_order(motion(batch), order, is_motion=True)
    assert not (fake.pose * (fake.joint_weight == 0)[:, None]).any()
    assert not fake.pose[:, :, -1].any()


def test_fakes_move_no_statistic_and_no_other_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    losses, states = [], []
    for dtcr in (None, {"weight": 0.3, "kmeans": 0.1, "clusters": 2}):
        monkeypatch.setattr(model.part_clip, "build_encoder", lambda *_: TwoStages())
        task = _task(loss={"dtcr": dtcr}).train()
        torch.manual_seed(1)
        losses.append(task.training_step(seeded(clips())).losses)
        states.append({name: value for name, value in task.named_buffers() if "auxiliaries" not in name})
        assert task.network.training
        assert task.network.encoder.second.training
    assert set(losses[1]) - set(losses[0]) == {"dtcr", "kmeans"}
    assert_close({name: losses[1][name] for name in losses[0]}, losses[0], rtol=0, atol=0)
    assert_close(states[1], states[0], rtol=0, atol=0)


def test_the_loss_reaches_the_encoder_and_the_head_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = network(monkeypatch).train()
    auxiliary = Dtcr(DtcrConfig(), 16, 3, is_motion=False)
    (loss,) = auxiliary(whole, seeded(clips()), torch.zeros(6)).values()
    loss.backward()
    assert whole.encoder.first.lift.weight.grad.abs().sum() > 0
    assert all(parameter.grad is not None for parameter in auxiliary.parameters())
    assert whole.classifier.weight.grad is None


def test_a_gcn_learns_from_its_fakes_with_its_statistics_at_rest() -> None:
    torch.manual_seed(0)
    encoder = CtrGcn(CtrGcnConfig(width=8), KINECT20, 2).train()
    before = {name: value.clone() for name, value in encoder.named_buffers()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.part_clip, "build_encoder", lambda *_: encoder)
        whole = PartClip(PartClipConfig(), KINECT20, 3, 2, None).train()
    (loss,) = Dtcr(DtcrConfig(), 32, 3, is_motion=False)(whole, seeded(clips(frames=8)), torch.zeros(6)).values()
    loss.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())
    assert all(torch.equal(value, before[name]) for name, value in encoder.named_buffers())


def test_real_and_fake_can_be_told_apart_where_order_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder that sees speeds learns it; its head says 'fake' of the fakes."""
    steady = clips(count=16, frames=10)
    pose = steady.pose[:, :, :1] + torch.arange(10.0)[:, None, None] * 0.1
    batch = motion(replace(seeded(steady), pose=pose * steady.joint_weight[:, None]))
    whole = network(monkeypatch)
    auxiliary = Dtcr(DtcrConfig(weight=1, share=0.5), 16, 3, is_motion=True)
    optimiser = torch.optim.Adam([*whole.parameters(), *auxiliary.parameters()], lr=0.01)
    for _ in range(60):
        (loss,) = auxiliary(whole, batch, torch.zeros(16)).values()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.2


def test_the_k_means_term_is_what_the_leading_directions_leave_by_definition() -> None:
    features = torch.randn(7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).float()
    H = features.T.double().numpy()
    F = np.linalg.svd(H, full_matrices=False)[2][:2].T
    expected = np.trace(H.T @ H) - np.trace(F.T @ H.T @ H @ F)
    assert spread_beyond(features, 2).item() == pytest.approx(expected / 7, rel=1e-4)
    assert spread_beyond(features, 4).item() == pytest.approx(0, abs=1e-4)


def test_the_k_means_term_pulls_features_into_so_few_directions() -> None:
    features = torch.randn(12, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    start = spread_beyond(features, 2).item()
    optimiser = torch.optim.SGD([features], lr=0.5)
    for _ in range(100):
        optimiser.zero_grad()
        spread_beyond(features, 2).backward()
        optimiser.step()
    assert spread_beyond(features, 2).item() < 0.01 * start
    assert features.detach().norm() > 1


def test_settings_out_of_range_are_refused() -> None:
    for wrong in ({"share": 0}, {"weight": -1}, {"alpha": 1}):
        with pytest.raises(ValueError, match="dtcr"):
            ClipLossConfig(**{"dtcr": wrong})
