"""Body parts in an encoder's output: which slots belong to each part, and features pooled to one vector per slot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from feeders.batch import SkeletonBatch
from feeders.skeleton import Skeleton
from model.encoders.contract import Encoder, Tokens

Pooling = Literal["mean", "concat"]
"""How the whole body is read from an encoder's slots; an encoder's class token takes the place of the mean."""


@dataclass(frozen=True)
class SlotFeatures:
    """Features of each slot, averaged over time and over the bodies present.

    Shapes:
        features: (N, S, C'); zero where a slot is never seen
        weight: (N, S) how much was seen of the slot; 0 where nothing was
        class_token: (N, C') the encoder's own feature of the whole body, if it has one
    """

    features: Tensor
    weight: Tensor
    class_token: Tensor | None = None

    @property
    def present(self) -> Tensor:
        """(N, S) bool, the slot was seen at all."""
        return self.weight > 0

    def whole(self, pooling: Pooling = "mean") -> Tensor:
        """(N, C') the class token, or the mean over everything seen of the body; (N, S * C') the slots side by side.

        Zero for what is not seen.
        """
        if pooling == "concat":
            return self.features.flatten(1)
        if self.class_token is not None:
            return self.class_token
        return weighted_mean(self.features, self.weight)


def encode_slots(encoder: Encoder, batch: SkeletonBatch) -> SlotFeatures:
    """What an encoder says of each slot of a batch; a ValueError where its tokens are not those that it announces."""
    tokens = encoder(batch.pose, batch.joint_weight, batch.body_mask, batch.frame_mask)
    features, weight = tokens.features.shape, tokens.weight.shape
    clips, slots, bodies = len(batch), len(encoder.slots), batch.body_mask.shape[1]
    steps = weight[1] if len(weight) > 1 else 0
    expected = (clips, encoder.out_channels, steps, slots, bodies), (clips, steps, slots, bodies)
    if (features, weight) != expected:
        raise ValueError(
            f"{type(encoder).__name__}: got tokens of {tuple(features)} with weights of {tuple(weight)}, expected "
            "(N, out_channels, T', S, M) and (N, T', S, M): "
            f"N = {clips}, out_channels = {encoder.out_channels}, S = {slots}, M = {bodies}"
        )
    return pool_slots(tokens)


def pool_slots(tokens: Tokens) -> SlotFeatures:
    """Average tokens over time and bodies by their weight, in float32 or finer also under autocast.

    Shapes:
        tokens: features (N, C', T', S, M), weight (N, T', S, M)
        returns: features (N, S, C'), weight (N, S)
    """
    with torch.autocast(tokens.features.device.type, enabled=False):
        features = tokens.features.to(torch.promote_types(tokens.features.dtype, torch.float32))
        weight = tokens.weight.to(features.dtype)
        total_NCS = (features * weight.unsqueeze(1)).sum(dim=(2, 4))
        weight_NS = weight.sum(dim=(1, 3))
        mean_NCS = total_NCS / torch.where(weight_NS > 0, weight_NS, 1.0).unsqueeze(1)
    class_token = None if tokens.whole is None else tokens.whole.to(features)
    return SlotFeatures(mean_NCS.transpose(1, 2), weight_NS, class_token)


def weighted_mean(features: Tensor, weight: Tensor) -> Tensor:
    """Mean over slots, in the features' precision also under autocast; zero where a sample's weights are all zero.

    Shapes:
        features: (N, S, C); weight: (N, S)
        returns: (N, C)
    """
    # Weights are sums over frames: in half precision the products of a long clip overflow.
    with torch.autocast(features.device.type, enabled=False):
        weight = weight.to(features.dtype)
        count = weight.sum(dim=1, keepdim=True)
        return torch.einsum("nsc,ns->nc", features, weight) / torch.where(count > 0, count, 1.0)


def rows_showing(present: Tensor) -> Sequence[Tensor | slice]:
    """For each slot the rows of a batch that show it; the device is asked once where all show everything.

    Shapes:
        present: (N, S) bool
    """
    if bool(present.all()):
        return [slice(None)] * present.shape[1]
    return [column.nonzero().flatten() for column in present.unbind(1)]


def slots_of_parts(skeleton: Skeleton, scheme: str, encoder: Encoder) -> Mapping[str, tuple[int, ...]]:
    """Part name -> the encoder's slots that belong to it, in the scheme's part order.

    ValueError where the encoder does not publish a joint or part that the scheme asks for.
    """
    position = {name: slot for slot, name in enumerate(encoder.slots)}
    members: dict[str, tuple[int, ...]] = {}
    for part, definition in skeleton.parts(scheme).items():
        wanted = (part,) if encoder.slots_are_parts else tuple(skeleton.joints[joint] for joint in definition.joints)
        if missing := [name for name in wanted if name not in position]:
            raise ValueError(
                f"model.parts: got {scheme!r}, whose part {part!r} needs {missing}; "
                f"the encoder's slots are {list(encoder.slots)}, expected {_schemes_of(skeleton, encoder)}"
            )
        members[part] = tuple(position[name] for name in wanted)
    return members


def _schemes_of(skeleton: Skeleton, encoder: Encoder) -> str:
    fitting = [name for name in skeleton.schemes if set(skeleton.parts(name)) <= set(encoder.slots)]
    return " or ".join(fitting)
