from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from model.masking import MaskConfig, draw_seeds, hidden
from model.tasks.reconstruction import (
    ReconstructionTask,
    interpolated,
    mean_pose,
    reconstruction_errors,
    squared_error,
)
from tests.model.staged import TwoStages, gappy_clips, seeded, taken
from torchlight.task import Prediction


def task(what: str = "frames", share: float = 0.3, stage: str = "frames") -> ReconstructionTask:
    torch.manual_seed(0)
    return ReconstructionTask(TwoStages(), stage, MaskConfig(what=what, share=share), {"skeleton": "KINECT20"})


@pytest.mark.parametrize(("what", "share"), [("frames", 0.3), ("joints", 0.2), ("none", 0.3), ("frames", 0.0)])
def test_the_loss_is_the_mean_over_hidden_joints_that_are_there_as_loops_say(what: str, share: float) -> None:
    batch, model = seeded(gappy_clips(count=3, frames=6)), task(what, share).eval()
    mask = hidden(batch, model.mask, draw_seeds(batch))
    shown = batch.joint_weight * ~mask[..., None]
    answers = model.network["encoder"].reconstruct(
        "frames", batch.pose * (shown > 0)[:, None], shown, batch.body_mask, batch.frame_mask
    )
    squares = []
    for n, t, v, m in np.ndindex(*batch.joint_weight.shape):
        is_asked = bool(mask[n, t, v]) or what == "none" or share == 0
        if batch.joint_weight[n, t, v, m] > 0 and is_asked:
            squares += [(answer[n, :, t, v, m] - batch.pose[n, :, t, v, m]).square().mean() for answer in answers]
    assert_close(model.training_step(batch).losses["reconstruction"], torch.stack(squares).mean())


def test_a_step_trains_what_the_stage_trains() -> None:
    for stage in ("frames", "pairs"):
        model = task(stage=stage).train()
        encoder = model.network["encoder"]
        assert encoder.begun == [stage]
        model.training_step(seeded(gappy_clips())).losses["reconstruction"].backward()
        assert (encoder.first.lift.weight.grad is None) == (stage == "pairs")
        assert encoder.head.weight.grad is not None
        assert all(name.startswith("network.encoder.") for name in model.state_dict())


def test_training_learns_where_the_joints_are() -> None:
    model, batch = task("joints").train(), seeded(gappy_clips())
    batch = replace(batch, pose=(batch.pose + 3) * (batch.joint_weight > 0)[:, None])
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(40):
        loss = model.training_step(batch).losses["reconstruction"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]


def test_what_is_not_there_never_counts_whatever_it_says() -> None:
    batch, model = seeded(gappy_clips()), task().eval()
    noise = torch.where((batch.joint_weight > 0)[:, None], 0.0, torch.nan)
    clean = model.training_step(batch).losses["reconstruction"]
    # Only the question's own pose may be wrong there: what an encoder sees of absent joints is its own law.
    asked = (batch.joint_weight > 0) & hidden(batch, model.mask, draw_seeds(batch))[..., None]
    answer = torch.zeros(1, *batch.pose.shape)
    assert_close(squared_error(answer + noise, batch.pose, asked), squared_error(answer, batch.pose, asked))
    assert clean.isfinite()


def test_a_clips_error_does_not_depend_on_its_batch() -> None:
    batch, model = gappy_clips(), task().eval()
    with torch.no_grad():
        whole = model.predict(batch).outputs
        for row in (0, 3):
            for name, value in model.predict(taken(batch, [row])).outputs.items():
                assert_close(value[0], whole[name][row])


def still_line() -> tuple[torch.Tensor, torch.Tensor]:
    """One clip, five frames: two joints on straight lines, frames 1 and 2 hidden; the second joint is never shown."""
    batch = gappy_clips(count=1, frames=5)
    pose = torch.zeros(1, 3, 5, 20, 2)
    pose[0, 0, :, 0, 0] = torch.arange(5.0)
    pose[0, 1, :, 1, 0] = 4.0
    weight = torch.zeros(1, 5, 20, 2)
    weight[0, [0, 3, 4], 0, 0] = 1.0
    shown = replace(batch, pose=pose * weight[:, None], joint_weight=weight)
    return interpolated(shown), mean_pose(shown)


def test_the_guesses_that_take_no_network_by_hand() -> None:
    line, still = still_line()
    assert_close(line[0, 0, :, 0, 0], torch.arange(5.0))
    assert_close(still[0, 0, :, 0, 0], torch.full((5,), 7 / 3))
    # A joint that is never shown is guessed where its body is; a body that is never shown, at the origin.
    assert_close(line[0, :, :, 1, 0], still[0, :, :, 0, 0])
    assert not line[..., 1].any()


def test_interpolation_holds_the_nearest_frame_beyond_those_that_are_shown() -> None:
    batch = gappy_clips(count=2, frames=9)
    weight = torch.zeros_like(batch.joint_weight)
    weight[:, 3:6] = 1.0
    line = interpolated(replace(batch, pose=batch.pose * weight[:, None], joint_weight=weight))
    for frame in range(3):
        assert_close(line[:, :, frame], batch.pose[:, :, 3])
        assert_close(line[:, :, 6 + frame], batch.pose[:, :, 5])
    assert_close(line[:, :, 3:6], batch.pose[:, :, 3:6])


def test_errors_are_weighed_by_how_much_was_asked_and_compared_with_standing_still() -> None:
    sums = {"squared_error": [1.0, 5.0], "mean_pose": [4.0, 8.0], "interpolation": [2.0, 2.0], "asked": [1, 3]}
    outputs = {name: torch.tensor(values) for name, values in sums.items()}
    errors = reconstruction_errors(Prediction(("a", "b"), torch.zeros(2), outputs))
    assert errors == {"mse": 1.5, "mean_pose_mse": 3.0, "interpolation_mse": 1.0, "explained": 50.0}


def test_a_stage_that_the_encoder_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match=r"stage: got 'triples', expected one of frames, pairs"):
        task(stage="triples")
