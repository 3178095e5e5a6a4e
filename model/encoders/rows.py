"""The bodies of a batch as rows, and their joints by groups.

An absent body is not run, and what is not seen is zero before anything looks at it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class BodyRows:
    """R bodies, each with its own frames.

    Shapes:
        pose: (R, T, V, C); zero where nothing is seen
        weight: (R, T, V); 0 where a joint or frame is absent
        is_frame: (R, T) bool, the frame is part of the clip
        body_mask: (N, M) bool
        source: (R,) positions in the flattened (N, M); None where every position is a row
        is_empty: nobody is there; such a batch has as many rows as any other, all of them masked
    """

    pose: Tensor
    weight: Tensor
    is_frame: Tensor
    body_mask: Tensor
    source: Tensor | None
    is_empty: bool

    @staticmethod
    def of(
        pose: Tensor, joint_weight: Tensor, body_mask: Tensor, frame_mask: Tensor, layout: tuple[int, int]
    ) -> "BodyRows":
        """Rows of a batch as `Encoder.forward` takes it, in a layout of so many joints and coordinates."""
        if (pose.shape[3], pose.shape[1]) != layout:
            got = f"{pose.shape[3]} joints of {pose.shape[1]} coordinates"
            raise ValueError(f"pose: got {got}, expected {layout[0]} of {layout[1]}; the encoder was built for these")
        weight = joint_weight * frame_mask[:, :, None, None] * body_mask[:, None, None, :]
        present = body_mask.flatten().nonzero().flatten()
        source = None if len(present) in (0, body_mask.numel()) else present

        def rows(of_bodies: Tensor) -> Tensor:
            flat = of_bodies.flatten(0, 1)
            return flat if source is None else flat.index_select(0, source)

        weight = rows(weight.permute(0, 3, 1, 2))
        seen = rows(pose.permute(0, 4, 2, 3, 1)).masked_fill(weight.unsqueeze(-1) == 0, 0)
        is_frame = rows(frame_mask.unsqueeze(1).expand(-1, body_mask.shape[1], -1))
        return BodyRows(seen, weight, is_frame, body_mask, source, is_empty=not len(present))

    def spread(self, features: Tensor) -> Tensor:
        """(R, ...) -> (N, M, ...), zero for bodies that are absent."""
        if self.source is not None:
            home = features.new_zeros(self.body_mask.numel(), *features.shape[1:])
            features = home.index_copy(0, self.source, features)
        spread = features.view(*self.body_mask.shape, *features.shape[1:])
        return torch.zeros_like(spread) if self.is_empty else spread


class JointGroups(nn.Module):
    """Gather the joints of each group, zero behind a group's last joint.

    Attributes:
        longest: J, the joints of the largest group.
    """

    members: Tensor

    def __init__(self, groups: Sequence[Sequence[int]], joints: int) -> None:
        super().__init__()
        self.longest = max(len(group) for group in groups)
        padded = [[*group, *[joints] * (self.longest - len(group))] for group in groups]
        self.register_buffer("members", torch.tensor(padded), persistent=False)

    def forward(self, per_joint: Tensor) -> Tensor:
        """(R, T, V, ...) -> (R, T, G, J, ...)."""
        absent = torch.zeros_like(per_joint[:, :, :1])
        return torch.cat([per_joint, absent], dim=2)[:, :, self.members]
