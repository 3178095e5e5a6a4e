"""Skeleton-text contrastive losses: pure tensors in, one scalar out, in float32 also under autocast.

Every form takes one slot (the whole body or one part): skeleton embeddings against text embeddings, where samples of
the same class are positives of each other.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from typing_extensions import assert_never

from model.depict import DepictConfig
from model.dtcr import DtcrConfig
from torchlight.config import StrictConfig

ContrastForm = Literal["multi_positive", "kl", "prototype", "sigmoid"]


class ClipLossConfig(StrictConfig):
    """The ``loss`` section: cross-entropy plus ``contrast_weight`` times the mean contrastive loss of the slots.

    Args:
        form: ``multi_positive`` cross-entropy, BPI's ``kl``, ``prototype`` (against all class texts), or ``sigmoid``.
        contrast_weight: 0.8 in BPI.
        label_smoothing: of the classifier's cross-entropy.
        depict, dtcr: auxiliary tasks of the thesis, see `model.depict` and `model.dtcr`; null for none.
    """

    form: ContrastForm = "multi_positive"
    contrast_weight: float = Field(default=0.8, ge=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    depict: DepictConfig | None = None
    dtcr: DtcrConfig | None = None


def contrastive_loss(
    form: ContrastForm, skeleton: Tensor, text: Tensor, label: Tensor, scale: Tensor, bias: Tensor | None = None
) -> Tensor:
    """One slot's loss in the form asked for.

    Shapes:
        skeleton: (N, D); text: (N, D), row i belongs to sample i, or (K, D) class texts for ``prototype``
        label: (N,) int64
        scale: () factor on the cosines, the temperature's inverse, already exponentiated
        bias: () added to the scaled cosines; only for ``sigmoid``
        returns: scalar; 0 where N is 0
    """
    with torch.autocast(skeleton.device.type, enabled=False):
        similarity = cosine(skeleton, text)
        if not len(skeleton):
            return similarity.sum() * scale.float()
        logits = scale.float() * similarity
        match form:
            case "multi_positive":
                return multi_positive(logits, label)
            case "kl":
                return softened_kl(logits, label)
            case "prototype":
                return F.cross_entropy(logits, label)
            case "sigmoid":
                assert bias is not None
                return pairwise_sigmoid(logits + bias.float(), label)
            case _:
                assert_never(form)


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """(A, D) and (B, D) -> (A, B) cosines, in the inputs' precision or float32, whichever is finer."""
    with torch.autocast(first.device.type, enabled=False):
        first, second = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (first, second))
        return F.normalize(first, dim=-1) @ F.normalize(second, dim=-1).T


def same_class(label: Tensor) -> Tensor:
    """(N, N) 1.0 where two samples share their class."""
    return (label.unsqueeze(0) == label.unsqueeze(1)).float()


def multi_positive(logits: Tensor, label: Tensor) -> Tensor:
    """Symmetric cross-entropy against targets shared equally by all samples of the class.

    Shapes:
        logits: (N, N) skeleton by text
    """
    target = same_class(label).to(logits.dtype)
    target = target / target.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def softened_kl(logits: Tensor, label: Tensor) -> Tensor:
    """BPI's form (from ActionCLIP): KL to softmax(10 * same class), summed over a row, averaged over rows.

    Differs from ``multi_positive`` by the targets' entropy and by e^-10 of weight leaking to each negative.
    """
    target = (10 * same_class(label).to(logits.dtype)).softmax(dim=1)
    rows, columns = (F.kl_div(each.log_softmax(dim=1), target, reduction="batchmean") for each in (logits, logits.T))
    return (rows + columns) / 2


def pairwise_sigmoid(logits: Tensor, label: Tensor) -> Tensor:
    """SigLIP (Zhai et al., ICCV 2023, eq. 1): every pair is a yes-no question; symmetric by itself."""
    sign = 2 * same_class(label).to(logits.dtype) - 1
    return -F.logsigmoid(sign * logits).sum() / len(logits)
