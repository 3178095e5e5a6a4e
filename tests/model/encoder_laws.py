"""Laws that every transformer encoder obeys, and clips that try to break them."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.testing import assert_close

from feeders.batch import SkeletonBatch
from feeders.skeleton import Skeleton
from model.encoders.contract import Encoder, StagedEncoder, Tokens
from model.encoders.rows import BodyRows
from model.parts import pool_slots

LENGTHS = (9, 4, 6, 1)


def flat(skeleton: Skeleton) -> Skeleton:
    """The same skeleton in image coordinates."""
    return replace(skeleton, coordinates=2)


def difficult_clips(skeleton: Skeleton, bodies: int = 2, seed: int = 0) -> SkeletonBatch:
    """Clips of four lengths with hidden joints, a hidden frame, a hidden left arm, an absent body and, where two bodies
    fit, a body that is announced and never seen. Hidden places hold numbers that must not matter."""
    generator = torch.Generator().manual_seed(seed)
    clips, frames, joints = len(LENGTHS), max(LENGTHS), len(skeleton.joints)
    frame_mask = torch.arange(frames) < torch.tensor(LENGTHS).unsqueeze(1)
    body_mask = torch.ones(clips, bodies, dtype=torch.bool)
    body_mask[1, 1:] = False
    weight = torch.rand(clips, frames, joints, bodies, generator=generator).mul(1.5).sub(0.5).clamp(min=0)
    weight[0, 2] = 0
    weight[2, :, list(skeleton.parts("five_parts_disjoint")["left_arm"].joints)] = 0
    weight[3, :, :, 1:] = 0
    weight = weight * frame_mask[:, :, None, None] * body_mask[:, None, None]
    pose = torch.randn(clips, skeleton.coordinates, frames, joints, bodies, generator=generator)
    return SkeletonBatch(
        pose=torch.where(weight.unsqueeze(1) > 0, pose, 100 * pose).to(torch.get_default_dtype()),
        joint_weight=weight.to(torch.get_default_dtype()),
        body_mask=body_mask,
        frame_mask=frame_mask,
        label=torch.arange(clips),
        sample_id=tuple(f"clip{number}" for number in range(clips)),
    )


def chosen(
    batch: SkeletonBatch, rows: list[int], frames: int | None = None, bodies: int | None = None
) -> SkeletonBatch:
    """Some clips of a batch, in that order, without the frames and bodies behind so many."""
    return SkeletonBatch(
        pose=batch.pose[rows, :, :frames, :, :bodies],
        joint_weight=batch.joint_weight[rows, :frames, :, :bodies],
        body_mask=batch.body_mask[rows, :bodies],
        frame_mask=batch.frame_mask[rows, :frames],
        label=batch.label[rows],
        sample_id=tuple(batch.sample_id[row] for row in rows),
    )


def encode(encoder: Encoder, batch: SkeletonBatch) -> Tokens:
    return encoder(batch.pose, batch.joint_weight, batch.body_mask, batch.frame_mask)


def reconstruct(encoder: StagedEncoder, stage: str, batch: SkeletonBatch) -> Tensor:
    return encoder.reconstruct(stage, batch.pose, batch.joint_weight, batch.body_mask, batch.frame_mask)


def embeddings(encoder: Encoder, batch: SkeletonBatch) -> Tensor:
    """(N, 1+S, C') the whole body and each slot."""
    slots = pool_slots(encode(encoder, batch))
    return torch.cat([slots.whole().unsqueeze(1), slots.features], dim=1)


def assert_shapes_and_weights(encoder: Encoder, batch: SkeletonBatch) -> None:
    tokens = encode(encoder, batch)
    clips, _, frames, _, bodies = batch.pose.shape
    assert tokens.features.shape == (clips, encoder.out_channels, frames, len(encoder.slots), bodies)
    assert tokens.weight.shape == (clips, frames, len(encoder.slots), bodies)
    assert tokens.features.isfinite().all()
    seen = batch.joint_weight.any(dim=2)
    assert torch.equal(tokens.weight.any(dim=2), seen)
    assert not tokens.features.movedim(1, -1)[~batch.body_mask[:, None, None].expand_as(tokens.weight)].any()


def assert_batch_mates_do_not_matter(encoder: Encoder, batch: SkeletonBatch) -> None:
    """Alone and short, in a batch with longer clips, and in another order."""
    encoder.eval()
    together = embeddings(encoder, batch)
    assert together.isfinite().all()
    for row, length in enumerate(LENGTHS):
        alone = embeddings(encoder, chosen(batch, [row], length))[0]
        assert_close(alone, together[row], rtol=1e-7, atol=1e-7)
    order = [2, 0, 3, 1]
    assert_close(embeddings(encoder, chosen(batch, order)), together[order], rtol=1e-7, atol=1e-7)


def assert_absent_bodies_do_not_matter(encoder: Encoder, batch: SkeletonBatch) -> None:
    """Without the slot of a body that is absent, or never seen, a clip is the same."""
    encoder.eval()
    for row in (1, 3):
        with_slot, without = (embeddings(encoder, chosen(batch, [row], bodies=bodies)) for bodies in (2, 1))
        assert_close(with_slot, without, rtol=1e-7, atol=1e-7)


def assert_hidden_values_do_not_matter(encoder: Encoder, batch: SkeletonBatch) -> None:
    encoder.eval()
    tidy = replace(batch, pose=batch.pose * (batch.joint_weight > 0).unsqueeze(1))
    tokens, same = encode(encoder, batch), encode(encoder, tidy)
    assert_close(tokens.features, same.features, rtol=0, atol=0)
    for stage in getattr(encoder, "stages", ()):
        assert_close(reconstruct(encoder, stage, batch), reconstruct(encoder, stage, tidy), rtol=0, atol=0)


def assert_unseen_tokens_do_not_matter(
    encoder: Encoder, embedding: nn.Module, seen: Callable[[BodyRows], Tensor], batch: SkeletonBatch
) -> None:
    """Tokens of which nothing is seen may say anything: nobody attends to them.

    Args:
        embedding: makes the tokens; seen: of which of them anything is.
    """
    encoder.eval()
    layout = batch.pose.shape[3], batch.pose.shape[1]
    rows = BodyRows.of(batch.pose, batch.joint_weight, batch.body_mask, batch.frame_mask, layout)
    is_unseen = ~seen(rows).unsqueeze(-1)
    assert is_unseen.any()
    quiet = embeddings(encoder, batch)
    hook = embedding.register_forward_hook(lambda _, __, tokens: tokens + is_unseen * torch.randn_like(tokens))
    assert_close(embeddings(encoder, batch), quiet, rtol=1e-12, atol=1e-12)
    hook.remove()


def assert_every_gradient_arrives(encoder: Encoder, outputs: Iterator[Tensor]) -> None:
    """Whatever is trained gets a gradient, and nothing else does."""
    torch.manual_seed(1)
    sum((output * torch.randn_like(output)).sum() for output in outputs).backward()
    for name, parameter in encoder.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.any(), name
        else:
            assert parameter.grad is None, name
    encoder.zero_grad()


def assert_bfloat16_is_close(encoder: Encoder, batch: SkeletonBatch) -> None:
    encoder.float().eval()
    batch = replace(batch, pose=batch.pose.float(), joint_weight=batch.joint_weight.float())
    exact = embeddings(encoder, batch)
    with torch.autocast("cpu", torch.bfloat16):
        rough = embeddings(encoder, batch)
    rough.square().mean().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())
    assert torch.cosine_similarity(rough.float().flatten(), exact.flatten(), dim=0) > 0.98
