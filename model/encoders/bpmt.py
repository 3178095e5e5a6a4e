"""BPMT 1.0, body part as modality: one T1 for each part, one T2 for each pair of parts, and each part asks its pairs.

The design of the BPMT thesis. Stage ``parts``: the T1 of each part reconstructs it. Stage ``pairs``, T1 frozen: the two
parts of a pair ask each other by cross-attention, the tokens of both, one behind the other, pass through the T2 of the
pair, and each part is reconstructed from its own tokens. Fine-tuning: the tokens of a part ask the encodings of all its
pairs. Parts are groups of one T1 and pairs are groups of one T2 (see `attention`): nothing runs part by part, and as
groups share no parameter and of each part its own share is hidden, pretraining them together is pretraining them one at
a time, but for a factor on each one's loss: how much of all that was asked was asked of it.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor, nn

from feeders.skeleton import Skeleton
from model.encoders.attention import GroupedLinear
from model.encoders.cascade import CascadeConfig, CascadeEncoder, First
from model.encoders.contract import Tokens


class BpmtConfig(CascadeConfig):
    """BPMT 1.0.

    Args:
        parts: a scheme of the skeleton that gives each joint to exactly one of at least two parts.
    """

    name: Literal["bpmt"] = "bpmt"
    parts: str = "five_parts_disjoint"


class Bpmt(CascadeEncoder):
    """Each part is a modality; the slots are the parts.

    Shapes (buffers):
        pair: (2, Q) parts of each pair
        pairs_of: (P, P - 1) pairs that each part is in
        by_part: (1, V) place of each joint among P * J predictions; J joints at most are in a part
        by_pair: (P - 1, V) places of each joint among 2 * Q * J predictions
    """

    stages = ("parts", "pairs")
    pair: Tensor
    pairs_of: Tensor
    by_part: Tensor
    by_pair: Tensor

    def __init__(self, config: BpmtConfig, skeleton: Skeleton) -> None:
        parts = {name: part.joints for name, part in skeleton.parts(config.parts, "model.encoder.parts").items()}
        everyone = sorted(joint for joints in parts.values() for joint in joints)
        if everyone != list(range(len(skeleton.joints))) or len(parts) < 2:
            raise ValueError(
                f"encoder.parts: got {config.parts!r}, expected a scheme that gives each joint of {skeleton.name} "
                "to exactly one of at least two parts, as five_parts_disjoint"
            )
        super().__init__(config, skeleton, parts)
        pairs = list(combinations(range(len(parts)), 2))
        pairs_of = [[number for number, pair in enumerate(pairs) if part in pair] for part in range(len(parts))]
        longest = self.frame_encoder.embedding.groups.longest
        place = {joint: (part, at) for part, joints in enumerate(parts.values()) for at, joint in enumerate(joints)}

        def of_pair(number: int, joint: int) -> int:
            part, at = place[joint]
            return (pairs[number].index(part) * len(pairs) + number) * longest + at

        by_part = [[place[joint][0] * longest + place[joint][1] for joint in everyone]]
        by_pair = [[of_pair(pairs_of[place[joint][0]][k], joint) for joint in everyone] for k in range(len(parts) - 1)]
        for name, numbers in {
            "pair": zip(*pairs, strict=True),
            "pairs_of": pairs_of,
            "by_part": by_part,
            "by_pair": by_pair,
        }.items():
            self.register_buffer(name, torch.tensor(list(numbers)), persistent=False)
        self.pair_cross = config.cross(2 * len(pairs))
        self.pair_encoder = config.encoder(len(pairs))
        self.pair_head = GroupedLinear(2 * len(pairs), config.width, self.joint_numbers)
        self.cross = config.cross(len(parts))
        self.begin(None)

    def frozen(self, stage: str | None) -> Sequence[nn.Module]:
        """Parts have T1 alone; pairs stand on a T1 that is done; fine-tuning reconstructs nothing."""
        match stage:
            case "parts":
                return (self.pair_cross, self.pair_encoder, self.pair_head, self.cross)
            case "pairs":
                return (self.frame_encoder, self.frame_head, self.cross)
            case _:
                return (self.frame_head, self.pair_head, *self.frozen_in_t1())

    def forward(self, pose: Tensor, joint_weight: Tensor, body_mask: Tensor, frame_mask: Tensor) -> Tokens:
        """Encode a batch; see `Encoder`."""
        first = self.first(pose, joint_weight, body_mask, frame_mask)
        pairs, masks = self._pairs(first)
        # One after the other, the tokens of all the pairs that a part is in.
        memory = pairs[self.pairs_of].transpose(1, 2).flatten(2, 3)
        memory_seen = None if masks is None else masks[self.pairs_of].transpose(1, 2).flatten(2, 3)
        return first.tokens(self.cross(first.features, first.masks, memory, memory_seen))

    def reconstruct(
        self, stage: str, pose: Tensor, joint_weight: Tensor, body_mask: Tensor, frame_mask: Tensor
    ) -> Tensor:
        """Every joint from the T1 of its part, or from each pair that its part is in; see `StagedEncoder`."""
        self._check(stage)
        first = self.first(pose, joint_weight, body_mask, frame_mask)
        if stage == "parts":
            predicted, places = self.frame_head(first.features), self.by_part
        else:
            two_QR2TW = self._pairs(first)[0].unflatten(2, (2, -1))
            predicted = self.pair_head(two_QR2TW.movedim(2, 0).flatten(0, 1))
            places = self.by_pair
        of_joints = predicted.unflatten(-1, (-1, self.layout[1])).movedim(3, 1).flatten(0, 1)[places]
        return first.rows.spread(of_joints.permute(2, 0, 3, 1, 4)).permute(2, 0, 5, 3, 4, 1)

    def _pairs(self, first: First) -> tuple[Tensor, Tensor | None]:
        """The encodings of all pairs (Q, R, 2 * T, W), those of one part behind those of the other, and their masks."""
        asks, asked = self.pair.flatten(), self.pair.flip(0).flatten()
        seen, memory_seen = (None if first.masks is None else first.masks[parts] for parts in (asks, asked))
        heard = self.pair_cross(first.features[asks], seen, first.features[asked], memory_seen)
        both, masks = (None if x is None else torch.cat(x.chunk(2), dim=2) for x in (heard, seen))
        return self.pair_encoder(both, masks), masks
