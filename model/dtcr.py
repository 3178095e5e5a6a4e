"""Tell real clips from clips in disorder (the auxiliary task of DTCR, Ma et al., NeurIPS 2019).

A fake is a clip some of whose frames went round in a random circle, both bodies alike. Real and fake go through the
network in passes of their own, in which batch norm uses what it knows and learns nothing: otherwise the statistics
would give the fakes away, or take them in. DTCR's k-means term is here too; its F, which DTCR keeps for ten steps over
a fixed set of clips, is found anew for each batch, as the rows of F belong to the clips it was found for.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from feeders.batch import SkeletonBatch
from model.at_rest import at_rest
from model.masking import draw_seeds, shuffled
from model.part_clip import PartClip
from torchlight.config import StrictConfig

_HIDDEN = 128  # of the paper's real/fake head


class DtcrConfig(StrictConfig):
    """The ``loss.dtcr`` section.

    Args:
        weight: of the real/fake classification.
        share: of a clip's frames that change places in its fake; at least two do.
        kmeans: weight of the k-means term, which draws the real clips' features towards so few directions.
        clusters: how many, fewer than the clips of a batch; null for the number of classes.
    """

    weight: float = Field(default=0.1, ge=0)
    share: float = Field(default=0.2, gt=0, le=1)
    kmeans: float = Field(default=0.0, ge=0)
    clusters: int | None = Field(default=None, ge=1)


class Dtcr(nn.Module):
    """The real/fake head and its loss.

    Args:
        channels: of the network's pooled features; classes: K.
        is_motion: the clips are of a motion modality.
    """

    def __init__(self, settings: DtcrConfig, channels: int, classes: int, is_motion: bool) -> None:
        super().__init__()
        self.settings, self.is_motion = settings, is_motion
        self.clusters = settings.clusters or classes
        self.head = nn.Sequential(nn.Linear(channels, _HIDDEN), nn.Linear(_HIDDEN, 2))

    def forward(self, network: PartClip, batch: SkeletonBatch, target: Tensor) -> dict[str, Tensor]:
        """``dtcr``, and ``kmeans`` where that is asked for, already weighted."""
        settings = self.settings
        order, is_faked = disorder(batch, settings.share)
        with at_rest(network):
            real = network.whole(batch)
            fake = network.whole(in_order(batch, order, self.is_motion))[is_faked]
        answers = self.head(torch.cat([real, fake])).float()
        is_fake = torch.arange(len(answers), device=answers.device) >= len(real)
        losses = {"dtcr": settings.weight * F.cross_entropy(answers, is_fake.long())}
        if settings.kmeans:
            losses["kmeans"] = settings.kmeans * spread_beyond(real, self.clusters)
        return losses


def disorder(batch: SkeletonBatch, share: float) -> tuple[Tensor, Tensor]:
    """A place for every frame: a random circle through some of the frames that show anything; the others stay.

    Shapes:
        returns: (N, T) the frame that comes to each place; (N,) bool, False for a clip of fewer than two such frames
    """
    is_seen_NT = (batch.joint_weight > 0).flatten(2).any(dim=2)
    there = is_seen_NT.sum(dim=1, keepdim=True)
    moved = (share * there).long().clamp(min=2)
    place = shuffled(is_seen_NT, draw_seeds(batch), "disorder")
    at = torch.arange(place.shape[1], device=place.device).expand_as(place)
    following = torch.where(at + 1 < moved, at + 1, 0)
    is_moved = (at < moved) & (there >= 2)
    order = at.scatter(1, place, torch.where(is_moved, place.gather(1, following), place))
    return order, there[:, 0] >= 2


def in_order(batch: SkeletonBatch, order: Tensor, is_motion: bool) -> SkeletonBatch:
    """A batch with its frames in another order.

    Joints and bones are taken frame by frame, so their frames may simply change places. Motions are first added up to
    positions (from wherever the clip began; a gap adds nothing) and taken again from the positions in their new order.

    Shapes:
        order: (N, T) the frame that comes to each place
    """
    place = order[:, None, :, None, None]
    weight = batch.joint_weight.take_along_dim(place[:, 0], dim=1)
    if not is_motion:
        return replace(batch, pose=batch.pose.take_along_dim(place, dim=2), joint_weight=weight)
    position = (batch.pose.cumsum(dim=2) - batch.pose).take_along_dim(place, dim=2)
    is_seen = (weight > 0)[:, None]
    moved = (position[:, :, 1:] - position[:, :, :-1]) * (is_seen[:, :, 1:] & is_seen[:, :, :-1])
    return replace(batch, pose=F.pad(moved, (0, 0, 0, 0, 0, 1)), joint_weight=weight)


def spread_beyond(features: Tensor, clusters: int) -> Tensor:
    """DTCR's k-means term per clip: Tr(H'H) - Tr(F'H'HF), F the k leading right singular vectors, without gradient.

    Shapes:
        features: (N, C'), which is H'
        returns: scalar, 0 where the clips lie in so few directions, as k clips or fewer always do
    """
    with torch.autocast(features.device.type, enabled=False):
        features = features.float()
        leading: Tensor = torch.linalg.svd(features.detach().nan_to_num(), full_matrices=False).U[:, :clusters]
        return (features.square().sum() - (leading.T @ features).square().sum()) / len(features)
