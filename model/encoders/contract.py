"""The contract every skeleton encoder obeys, GCN or transformer."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Tokens:
    """Encoder features before any pooling.

    Shapes:
        features: (N, C', T', S, M)
        weight: (N, T', S, M) how much each token counts in a mean; 0 where nothing was there
        whole: (N, C') the whole body in the encoder's own words (a class token); None where it is the mean of all
    """

    features: Tensor
    weight: Tensor
    whole: Tensor | None = None


class Encoder(nn.Module, ABC):
    """Pose to tokens. An encoder publishes what its S slots are, so that parts can be found in them.

    Attributes:
        out_channels: C' of the tokens.
        slots: names of the S slots: the skeleton's joints, or the parts of a scheme.
        slots_are_parts: True where a slot is a part, False where it is a joint.
    """

    out_channels: int
    slots: tuple[str, ...]
    slots_are_parts: bool

    @abstractmethod
    def forward(self, pose: Tensor, joint_weight: Tensor, body_mask: Tensor, frame_mask: Tensor) -> Tokens:
        """Encode a batch.

        Shapes:
            pose: (N, C, T, V, M); joint_weight: (N, T, V, M); body_mask: (N, M) bool; frame_mask: (N, T) bool
        """


class StagedEncoder(Encoder):
    """An encoder that is pretrained in stages, by reconstruction, before it is fine-tuned.

    Attributes:
        stages: names of its pretraining stages, in order; each starts from the one before.
        joint_groups: joints that it encodes together; of each, pretraining hides some, whatever it hides of the others.
    """

    stages: tuple[str, ...]
    joint_groups: tuple[tuple[int, ...], ...]

    @abstractmethod
    def begin(self, stage: str | None) -> None:
        """Freeze what this stage does not train: frozen parts are in eval mode throughout.

        None is fine-tuning, for which a new encoder is ready.
        """

    @abstractmethod
    def reconstruct(
        self, stage: str, pose: Tensor, joint_weight: Tensor, body_mask: Tensor, frame_mask: Tensor
    ) -> Tensor:
        """Predict every joint from what is shown; what is hidden has weight 0.

        Shapes:
            pose: (N, C, T, V, M); joint_weight: (N, T, V, M); body_mask: (N, M) bool; frame_mask: (N, T) bool
            returns: (R, N, C, T, V, M), R predictions of each joint (one a pair for a stage that works on pairs)
        """
