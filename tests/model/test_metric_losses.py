import math
import sys
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from model.metric_losses import GaitLossConfig, MetricLoss

LABEL = torch.tensor([0, 0, 1, 1, 2, 2, 2, 3])


def embeddings() -> Tensor:
    return torch.randn(len(LABEL), 5, generator=torch.Generator().manual_seed(1), requires_grad=True)


def loss_of(form: str, embedding: Tensor, label: Tensor = LABEL) -> Tensor:
    return MetricLoss(GaitLossConfig(form=form, margin=0.4, temperature=0.2))(embedding, label)


def far(x: Tensor, i: int, j: int) -> float:
    return math.dist(x[i].tolist(), x[j].tolist())


def naive(form: str, x: Tensor) -> float:
    everyone = range(len(LABEL))
    same = {i: [j for j in everyone if j != i and LABEL[j] == LABEL[i]] for i in everyone}
    other = {i: [j for j in everyone if LABEL[j] != LABEL[i]] for i in everyone}
    anchors = [i for i in everyone if same[i]]
    if form == "batch_hard":
        hard = [max(far(x, i, p) for p in same[i]) - min(far(x, i, n) for n in other[i]) for i in anchors]
        return sum(max(0.0, gap + 0.4) for gap in hard) / len(hard)
    if form == "all_valid":
        gaps = [far(x, i, p) - far(x, i, n) + 0.4 for i in anchors for p, n in product(same[i], other[i])]
        return sum(gap for gap in gaps if gap > 0) / sum(gap > 0 for gap in gaps)
    unit = [[value / math.hypot(*row) for value in row] for row in x.tolist()]
    similar = [[math.exp(sum(a * b for a, b in zip(u, v, strict=True)) / 0.2) for v in unit] for u in unit]
    total = 0.0
    for i in anchors:
        rest = sum(similar[i][j] for j in everyone if j != i)
        total -= sum(math.log(similar[i][p] / rest) for p in same[i]) / len(same[i])
    return total / len(anchors)


@pytest.mark.parametrize("form", ["batch_hard", "all_valid", "supcon"])
def test_a_loss_equals_its_naive_twin(form: str) -> None:
    x = embeddings()
    assert loss_of(form, x).item() == pytest.approx(naive(form, x.detach()), rel=1e-5)


@pytest.mark.parametrize("form", ["batch_hard", "all_valid", "supcon"])
def test_the_order_of_the_batch_has_no_say(form: str) -> None:
    x, order = embeddings(), torch.randperm(len(LABEL))
    assert_close(loss_of(form, x[order], LABEL[order]), loss_of(form, x))


@pytest.mark.parametrize("form", ["batch_hard", "all_valid", "supcon"])
@pytest.mark.parametrize("label", [[], [0], [0, 0], [0, 1]])
def test_without_pairs_there_is_nothing_to_learn_but_a_gradient_to_pass(form: str, label: list[int]) -> None:
    x = torch.randn(len(label), 5, requires_grad=True)
    loss = loss_of(form, x, torch.tensor(label, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0
    assert not x.grad.any()


@pytest.mark.parametrize("form", ["batch_hard", "all_valid", "supcon"])
def test_two_walks_in_one_place_have_a_finite_gradient(form: str) -> None:
    x = torch.ones(4, 5, requires_grad=True)
    loss_of(form, x, torch.tensor([0, 0, 1, 1])).backward()
    assert torch.isfinite(x.grad).all()


def test_without_the_package_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning", None)
    with pytest.raises(ValueError, match=r"pip install 'partclip\[gait\]'"):
        MetricLoss(GaitLossConfig())
