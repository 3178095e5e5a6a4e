"""Pretraining: tell what was hidden of a clip (CascadeFormer, arXiv 2509.00692; the thesis' stage 1 and pair stage)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from feeders.batch import SkeletonBatch, hide
from model.encoders.contract import StagedEncoder
from model.masking import MaskConfig, draw_seeds, hidden
from torchlight.task import Prediction, StepOutput, Task


class ReconstructionTask(Task):
    """One pretraining stage of an encoder: the mean squared error on what was hidden, or on everything if nothing is.

    Only what is really there counts, every coordinate alike. What is hidden is a function of the sample's seed in its
    epoch, in evaluation of its name alone.

    Args:
        stage: one of the encoder's; the others stand still.
        facts: plain facts for the checkpoint.
    """

    def __init__(self, encoder: StagedEncoder, stage: str, mask: MaskConfig, facts: Mapping[str, Any]) -> None:
        super().__init__()
        if stage not in encoder.stages:
            raise ValueError(f"stage: got {stage!r}, expected one of {', '.join(encoder.stages)}")
        # So that the encoder's weights have the names that they have in every other task.
        self.network = nn.ModuleDict({"encoder": encoder})
        self.encoder_stage = stage
        self.mask = mask
        self.facts = dict(facts)
        encoder.begin(stage)

    def training_step(self, batch: SkeletonBatch) -> StepOutput:
        """The mean over all hidden joints of the batch."""
        shown, asked = self._question(batch)
        error = squared_error(self._answer(shown), batch.pose, asked).sum()
        return StepOutput({"reconstruction": error / asked.sum().clamp(min=1)})

    def predict(self, batch: SkeletonBatch) -> Prediction:
        """Sums over the hidden joints, for `reconstruction_errors`.

        Shapes (outputs):
            squared_error, mean_pose, interpolation: (N,) of the network and of what takes no network
            asked: (N,) how many joints were hidden, over all frames and bodies
        """
        shown, asked = self._question(batch)
        answers = {
            "squared_error": self._answer(shown),
            "mean_pose": mean_pose(shown)[None],
            "interpolation": interpolated(shown)[None],
        }
        outputs = {name: squared_error(answer, batch.pose, asked) for name, answer in answers.items()}
        return Prediction(batch.sample_id, batch.label, {**outputs, "asked": asked.flatten(1).sum(dim=1)})

    def extra_state(self) -> Mapping[str, Any]:
        """Which stage this is."""
        return {**self.facts, "stage": self.encoder_stage}

    def _question(self, batch: SkeletonBatch) -> tuple[SkeletonBatch, Tensor]:
        """What is shown, and (N, T, V, M) bool what is asked for."""
        hidden_NTV = hidden(batch, self.mask, draw_seeds(batch), self._encoder.joint_groups)
        is_there = batch.joint_weight > 0
        return hide(batch, hidden_NTV), is_there & hidden_NTV[..., None] if self.mask.hides else is_there

    def _answer(self, shown: SkeletonBatch) -> Tensor:
        return self._encoder.reconstruct(
            self.encoder_stage, shown.pose, shown.joint_weight, shown.body_mask, shown.frame_mask
        )

    @property
    def _encoder(self) -> StagedEncoder:
        encoder = self.network["encoder"]
        assert isinstance(encoder, StagedEncoder)
        return encoder


def squared_error(answers: Tensor, pose: Tensor, asked: Tensor) -> Tensor:
    """Each clip's squared error, meant over coordinates and answers, summed over what is asked; in float32 or finer.

    Shapes:
        answers: (R, N, C, T, V, M); pose: (N, C, T, V, M); asked: (N, T, V, M) bool
        returns: (N,)
    """
    difference = answers.to(torch.promote_types(answers.dtype, torch.float32)) - pose
    # Selected, not multiplied: what an encoder says where nobody asks may be anything.
    return difference.square().mean(dim=(0, 2)).masked_fill(~asked, 0.0).flatten(1).sum(dim=1)


def mean_pose(shown: SkeletonBatch) -> Tensor:
    """The guess of who sees no motion: each joint at its mean; one that is never shown, at the mean of its body's.

    Shapes:
        returns: (N, C, T, V, M), the same in every frame
    """
    is_shown = (shown.joint_weight > 0).to(shown.pose.dtype)[:, None]
    count = is_shown.sum(dim=2, keepdim=True)
    total = (shown.pose * is_shown).sum(dim=2, keepdim=True)
    body = total.sum(dim=3, keepdim=True) / count.sum(dim=3, keepdim=True).clamp(min=1)
    return torch.where(count > 0, total / count.clamp(min=1), body).expand_as(shown.pose)


def interpolated(shown: SkeletonBatch) -> Tensor:
    """The guess along straight lines in time between the frames that show a joint; beyond them, the nearest one.

    Shapes:
        returns: (N, C, T, V, M); the mean pose for a joint that is never shown
    """
    is_shown = shown.joint_weight > 0
    frames = is_shown.shape[1]
    at = torch.arange(frames, device=is_shown.device)[None, :, None, None].expand(is_shown.shape)
    before = torch.where(is_shown, at, -1).cummax(dim=1).values
    after = torch.where(is_shown, at, frames).flip(1).cummin(dim=1).values.flip(1)
    before, after = torch.where(before < 0, after, before), torch.where(after == frames, before, after)
    is_ever_shown = (before >= 0) & (before < frames)
    first, last = (
        shown.pose.gather(2, place.clamp(0, frames - 1)[:, None].expand_as(shown.pose)) for place in (before, after)
    )
    fraction = (at - before) / (after - before).clamp(min=1)
    line = torch.lerp(first, last, fraction.to(first.dtype)[:, None].expand_as(first))
    return torch.where(is_ever_shown[:, None], line, mean_pose(shown))


def reconstruction_errors(prediction: Prediction) -> Mapping[str, float]:
    """Mean squared errors over all hidden joints of a split, in the data's units squared.

    ``mse`` is the network's; ``mean_pose_mse`` and ``interpolation_mse`` take none; ``explained`` is the part, in
    percent, of the mean pose's error that the network does not make.
    """
    sums = {name: float(value.double().sum()) for name, value in prediction.outputs.items()}
    asked = max(sums["asked"], 1.0)
    mse, still, line = (sums[name] / asked for name in ("squared_error", "mean_pose", "interpolation"))
    explained = 100 * (1 - mse / still) if still > 0 else 0.0
    return {"mse": mse, "mean_pose_mse": still, "interpolation_mse": line, "explained": explained}
