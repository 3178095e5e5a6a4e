"""Say of a disturbed clip what is said of the clean one (after DEPICT, Ghasedi Dizaji et al., ICCV 2017).

Of DEPICT's two paths with shared weights this keeps the prediction: -sum of q log p~, p~ of the disturbed clip, q from
the clean one, balanced by how often each class is predicted. As these clips have labels, q is mixed with them; the
layer-wise reconstruction is pretraining's matter here.
"""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from feeders.batch import SkeletonBatch, hide
from model.at_rest import at_rest
from model.masking import MaskConfig, draw_seeds, hidden
from model.part_clip import PartClip
from torchlight.config import StrictConfig

_MEMORY = 0.9  # of the class frequencies: about ten batches, as one batch is too small to balance by


class DepictConfig(StrictConfig):
    """The ``loss.depict`` section.

    Args:
        weight: of the loss beside the others.
        joint_mask: share of the joints that the disturbed clip lacks in all frames; the network's own dropout, which
            the clean path goes without, is the other disturbance.
        trust: share of the clean prediction in the target; the rest is the label.
    """

    weight: float = Field(default=0.5, ge=0)
    joint_mask: float = Field(default=0.2, ge=0, lt=1)
    trust: float = Field(default=0.5, ge=0, le=1)


class Depict(nn.Module):
    """Clean-to-noisy consistency of a classifier; the target takes no gradient, and norms learn from both passes.

    Args:
        classes: K of the classifier.
    """

    frequency: Tensor

    def __init__(self, settings: DepictConfig, classes: int) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("frequency", torch.full((classes,), 1 / classes))

    def forward(self, network: PartClip, batch: SkeletonBatch, target: Tensor) -> dict[str, Tensor]:
        """``depict``, already weighted.

        Shapes:
            target: (N,) the classifier's output that is right
        """
        settings = self.settings
        with at_rest(network), torch.no_grad():
            clean = network.classify(batch).float().softmax(dim=1)
            self.frequency.lerp_(clean.mean(dim=0), 1 - _MEMORY)
            truth = F.one_hot(target, len(self.frequency)).to(clean.dtype)
            wanted = torch.lerp(truth, balanced(clean, self.frequency), settings.trust)
        mask = MaskConfig(what="joints", share=settings.joint_mask)
        noisy = network.classify(hide(batch, hidden(batch, mask, draw_seeds(batch)))).float()
        return {"depict": settings.weight * F.cross_entropy(noisy, wanted)}


def balanced(probability: Tensor, frequency: Tensor) -> Tensor:
    """DEPICT's target: q proportional to p over the square root of how often the class is predicted.

    Shapes:
        probability: (N, K), rows sum to 1; frequency: (K,)
        returns: (N, K), rows sum to 1
    """
    weighed = probability / frequency.clamp(min=1e-8).sqrt()
    return weighed / weighed.sum(dim=1, keepdim=True)
