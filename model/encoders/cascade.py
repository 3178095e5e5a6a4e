"""TLCA, transfer learning with cross-attention: T1 learns to reconstruct poses, T2 is stacked on it for the task.

The design of the CascadeFormer line (Peng et al., arXiv 2509.00692, and the thesis before it): T1 turns the joints of a
frame into one token and encodes the frames; T2 encodes what T1 says; T1 then asks T2 by cross-attention, with a
residual and a norm. T1 is written for G groups of joints at once, of which TLCA has one and BPMT one per body part.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import Self, assert_never

from feeders.skeleton import Skeleton
from model.encoders.attention import (
    AttentionKind,
    GroupedCross,
    GroupedEncoder,
    GroupedLinear,
    NormPlace,
    positions,
)
from model.encoders.contract import StagedEncoder, Tokens
from model.encoders.rows import BodyRows, JointGroups
from torchlight.config import StrictConfig

Bone = Literal["none", "subtract", "concat", "parameterise"]

_CONVOLUTION_FRAMES = 5
_SPATIAL_SHARE = 4  # a joint's token is this much narrower than a frame's


class TransformerConfig(StrictConfig):
    """Sizes of a transformer encoder.

    Args:
        ffn: the hidden layer of a block is so many times as wide as the block.
        dropout: of what is added to a residual, in training.
        attention: ``sdpa`` (scaled dot product) or ``flow`` (Flow attention).
    """

    width: int = Field(default=64, ge=4, multiple_of=4)
    heads: int = Field(default=4, ge=1)
    layers: int = Field(default=2, ge=1)
    ffn: int = Field(default=4, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    attention: AttentionKind = "sdpa"


class CascadeConfig(TransformerConfig):
    """Choices of an encoder with a pretrained first stage.

    Args:
        norm: ``pre`` or ``post``: before a block's products or after its residual.
        t1: what fine-tuning does with the pretrained T1: ``frozen``, ``tuned``, or only its ``last_layer`` is trained.
        embedding: ``linear``, or ``conv``: the linear embedding of a frame, enhanced by those of its neighbours.
        spatial: ``transformer``: the joints of a frame attend to each other before they become its token.
        bone: ``none``; ``subtract``: a joint is given relative to its parent; ``concat``: both ways side by side;
            ``parameterise``: relative to a learned share of its parent, at first to none of it.
    """

    norm: NormPlace = "pre"
    t1: Literal["frozen", "tuned", "last_layer"] = "tuned"
    embedding: Literal["linear", "conv"] = "linear"
    spatial: Literal["none", "transformer"] = "none"
    bone: Bone = "none"

    def encoder(self, groups: int, width: int | None = None, layers: int | None = None) -> GroupedEncoder:
        """Self-attention layers of these sizes, unless other ones are given."""
        sizes = (width or self.width, self.heads, layers or self.layers)
        return GroupedEncoder(groups, *sizes, ffn=self.ffn, dropout=self.dropout, kind=self.attention, norm=self.norm)

    def cross(self, groups: int) -> GroupedCross:
        """A cross-attention of these sizes."""
        return GroupedCross(groups, self.width, self.heads, self.dropout, self.attention)


class TlcaConfig(CascadeConfig):
    """TLCA; the thesis' sizes are 64 / 4 / 2 and 256 / 8 / 4 (width, heads, layers)."""

    name: Literal["tlca"] = "tlca"


class BoneInput(nn.Module):
    """What of a joint T1 sees: its place, its place relative to its parent, or both. The root keeps its place.

    Attributes:
        channels: numbers for each joint.
    """

    parent: Tensor
    is_root: Tensor

    def __init__(self, skeleton: Skeleton, kind: Bone) -> None:
        super().__init__()
        self.kind = kind
        self.channels = (skeleton.coordinates + 1) * (2 if kind == "concat" else 1)
        self.register_buffer("parent", torch.tensor(skeleton.parents), persistent=False)
        is_root = torch.arange(len(skeleton.parents)) == self.parent
        self.register_buffer("is_root", is_root, persistent=False)
        self.share = nn.Parameter(torch.zeros(len(skeleton.parents))) if kind == "parameterise" else None

    def forward(self, pose: Tensor, weight: Tensor) -> Tensor:
        """Place and weight of each joint; zero where the joint, or the parent of a bone, is not seen.

        The learned share of a parent that is not seen is taken of its zeros: the joint then keeps its place.

        Shapes:
            pose: (R, T, V, C); weight: (R, T, V)
            returns: (R, T, V, channels)
        """
        joint = torch.cat([pose, weight.unsqueeze(-1)], dim=-1)
        if self.kind == "none":
            return joint
        parent_weight = torch.where(self.is_root, weight, weight[:, :, self.parent])
        parent_pose = pose[:, :, self.parent].masked_fill(self.is_root[:, None], 0)
        if self.share is not None:
            seen_pose = parent_pose * (weight > 0).unsqueeze(-1) * self.share[:, None]
            return torch.cat([pose - seen_pose, weight.unsqueeze(-1)], dim=-1)
        bone_weight = torch.minimum(weight, parent_weight).unsqueeze(-1)
        bone = torch.cat([(pose - parent_pose) * (bone_weight > 0), bone_weight], dim=-1)
        return bone if self.kind == "subtract" else torch.cat([joint, bone], dim=-1)


class FrameEmbedding(nn.Module):
    """The joints of a group in one frame to one token, for G groups.

    A joint comes with its weight, so that a hidden joint has an embedding of its own, which is learned (that of weight
    0), and the token of a frame in which nothing is seen is a mask token, which is learned too.

    Args:
        groups: for each group, its joints.
    """

    def __init__(self, config: CascadeConfig, skeleton: Skeleton, groups: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.groups = JointGroups(groups, len(skeleton.joints))
        count, longest, width = len(groups), self.groups.longest, config.width
        self.bone = BoneInput(skeleton, config.bone)
        inputs = self.bone.channels
        self.joint_encoder: GroupedEncoder | None = None
        if config.spatial == "transformer":
            inputs = width // _SPATIAL_SHARE
            self.joint_embedding = GroupedLinear(count, self.bone.channels, inputs)
            self.joint_name = nn.Parameter(torch.randn(count, 1, longest, inputs) * inputs**-0.5)
            self.joint_encoder = config.encoder(count, width=inputs, layers=1)
        self.linear = GroupedLinear(count, longest * inputs, width)
        self.neighbours: nn.Conv1d | None = None
        if config.embedding == "conv":
            frames = _CONVOLUTION_FRAMES
            self.neighbours = nn.Conv1d(count * width, count * width, frames, padding=frames // 2, groups=count)

    def forward(self, rows: BodyRows) -> Tensor:
        """(G, R, T, W) tokens, without their place."""
        joints = self.groups(self.bone(rows.pose, rows.weight)).movedim(2, 0)
        if self.joint_encoder is not None:
            shown = self.groups(rows.weight).movedim(2, 0).flatten(1, 2) > 0
            named = self.joint_embedding(joints.flatten(1, 2)) + self.joint_name
            joints = self.joint_encoder(named, shown).view(*joints.shape[:-1], -1)
        x: Tensor = self.linear(joints.flatten(3))
        if self.neighbours is None:
            return x
        groups, count, frames, width = x.shape
        line = (x * rows.is_frame.unsqueeze(-1)).permute(1, 0, 3, 2).reshape(count, -1, frames)
        near = functional.relu(self.neighbours(line)).view(count, groups, width, frames)
        return x + near.permute(1, 0, 3, 2)


class FrameEncoder(nn.Module):
    """T1 of G groups of joints: tokens of frames that attend to each other.

    Frames in which nothing of the group is seen ask the others and are asked by none.
    """

    def __init__(self, config: CascadeConfig, skeleton: Skeleton, groups: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.embedding = FrameEmbedding(config, skeleton, groups)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = config.encoder(len(groups))

    @property
    def all_but_last_layer(self) -> Sequence[nn.Module]:
        """What stands still where only the last layer is trained."""
        return (self.embedding, self.dropout, *self.encoder.layers[:-1])

    def seen(self, rows: BodyRows) -> Tensor:
        """(G, R, T) bool, something of the group is seen in the frame."""
        seen: Tensor = self.embedding.groups(rows.weight).any(dim=-1).movedim(2, 0)
        return seen

    def forward(self, rows: BodyRows, seen: Tensor | None) -> Tensor:
        """Encode the frames of each row.

        Shapes:
            seen: (G, R, T) bool, None where all are
            returns: (G, R, T, W)
        """
        x = self.embedding(rows)
        place = positions(rows.is_frame.cumsum(dim=1) - 1, x.shape[-1])
        return self.encoder(self.dropout(x + place.to(x.dtype)), seen)  # type: ignore[no-any-return]


class CascadeEncoder(StagedEncoder):
    """What TLCA and BPMT share: a T1 that is pretrained first, and what stands still in which stage.

    Args:
        groups: slot -> joints that T1 encodes together.
    """

    slots_are_parts = True
    _frozen: tuple[nn.Module, ...] = ()

    def __init__(self, config: CascadeConfig, skeleton: Skeleton, groups: Mapping[str, Sequence[int]]) -> None:
        super().__init__()
        self.t1: Literal["frozen", "tuned", "last_layer"] = config.t1
        self.slots = tuple(groups)
        self.joint_groups = tuple(tuple(joints) for joints in groups.values())
        self.out_channels = config.width
        self.layout = (len(skeleton.joints), skeleton.coordinates)
        self.frame_encoder = FrameEncoder(config, skeleton, list(groups.values()))
        self.joint_numbers = self.frame_encoder.embedding.groups.longest * skeleton.coordinates
        self.frame_head = GroupedLinear(len(groups), config.width, self.joint_numbers)

    @abstractmethod
    def frozen(self, stage: str | None) -> Sequence[nn.Module]:
        """The modules that a stage does not train; of T1, the choice of the config in fine-tuning."""

    def begin(self, stage: str | None) -> None:
        """Freeze what this stage does not train; None is fine-tuning."""
        self._check(stage)
        self.requires_grad_(True)
        self._frozen = tuple(self.frozen(stage))
        for part in self._frozen:
            part.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Training mode, but not for what is frozen."""
        super().train(mode)
        for part in self._frozen:
            part.eval()
        return self

    def frozen_in_t1(self) -> Sequence[nn.Module]:
        """What fine-tuning leaves alone in T1."""
        match self.t1:
            case "frozen":
                return (self.frame_encoder,)
            case "tuned":
                return ()
            case "last_layer":
                return self.frame_encoder.all_but_last_layer
            case _:
                assert_never(self.t1)

    def first(self, pose: Tensor, joint_weight: Tensor, body_mask: Tensor, frame_mask: Tensor) -> "First":
        """What T1 says of a batch; the arguments are those of `Encoder.forward`."""
        rows = BodyRows.of(pose, joint_weight, body_mask, frame_mask, self.layout)
        seen = self.frame_encoder.seen(rows)
        masks = None if bool(seen.all()) else seen
        return First(rows, seen, masks, self.frame_encoder(rows, masks))

    def _check(self, stage: str | None) -> None:
        if stage is not None and stage not in self.stages:
            raise ValueError(f"stage: got {stage!r}, expected one of {list(self.stages)}")


@dataclass(frozen=True)
class First:
    """What T1 says of G groups.

    Shapes:
        seen: (G, R, T) bool, something of the group is seen in the frame
        masks: the same, None where all is seen
        features: (G, R, T, W)
    """

    rows: BodyRows
    seen: Tensor
    masks: Tensor | None
    features: Tensor

    def tokens(self, features: Tensor) -> Tokens:
        """(G, R, T, W) features as tokens, a group a slot."""
        spread = self.rows.spread(features.permute(1, 2, 0, 3))
        weight = self.rows.spread(self.seen.permute(1, 2, 0)).to(self.rows.weight.dtype)
        return Tokens(spread.permute(0, 4, 2, 3, 1), weight.permute(0, 2, 3, 1))


class Tlca(CascadeEncoder):
    """All joints of a frame are one token; the one slot is the whole body."""

    stages = ("frames",)

    def __init__(self, config: TlcaConfig, skeleton: Skeleton) -> None:
        super().__init__(config, skeleton, {"whole": range(len(skeleton.joints))})
        self.second_encoder = config.encoder(1)
        self.cross = config.cross(1)
        self.begin(None)

    def frozen(self, stage: str | None) -> Sequence[nn.Module]:
        """Pretraining has T1 alone."""
        if stage is None:
            return (self.frame_head, *self.frozen_in_t1())
        return (self.second_encoder, self.cross)

    def forward(self, pose: Tensor, joint_weight: Tensor, body_mask: Tensor, frame_mask: Tensor) -> Tokens:
        """Encode a batch; see `Encoder`."""
        first = self.first(pose, joint_weight, body_mask, frame_mask)
        second = self.second_encoder(first.features, first.masks)
        return first.tokens(self.cross(first.features, first.masks, second, first.masks))

    def reconstruct(
        self, stage: str, pose: Tensor, joint_weight: Tensor, body_mask: Tensor, frame_mask: Tensor
    ) -> Tensor:
        """Every joint from T1; see `StagedEncoder`."""
        self._check(stage)
        first = self.first(pose, joint_weight, body_mask, frame_mask)
        predicted = self.frame_head(first.features).unflatten(-1, self.layout)
        return first.rows.spread(predicted.flatten(0, 1)).permute(0, 4, 2, 3, 1).unsqueeze(0)
