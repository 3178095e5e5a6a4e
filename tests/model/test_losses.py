import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from model.losses import contrastive_loss

FORMS = ("multi_positive", "kl", "prototype", "sigmoid")
BIAS = torch.tensor(-1.5, dtype=torch.float64)
SCALE = torch.tensor(7.0, dtype=torch.float64)


def _pairs(seed: int = 0, count: int = 7, classes: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    skeleton, text = torch.randn(2, count, 5, generator=generator, dtype=torch.float64)
    prototypes = torch.randn(classes, 5, generator=generator, dtype=torch.float64)
    return skeleton, text, prototypes, torch.arange(count) % classes


def _loss(form: str, skeleton: Tensor, text: Tensor, label: Tensor) -> Tensor:
    return contrastive_loss(form, skeleton, text, label, SCALE, BIAS if form == "sigmoid" else None)  # type: ignore[arg-type]


def _log_probability(row: list[float], column: int) -> float:
    return row[column] - math.log(sum(math.exp(value) for value in row))


def _naive(form: str, skeleton: Tensor, text: Tensor, label: Tensor) -> float:
    s, t, y = normalize(skeleton, dim=1).tolist(), normalize(text, dim=1).tolist(), label.tolist()
    logits = [[7.0 * sum(a * b for a, b in zip(x, z, strict=True)) for z in t] for x in s]
    count = len(s)
    if form == "prototype":
        return -sum(_log_probability(logits[i], y[i]) for i in range(count)) / count
    if form == "sigmoid":
        signs = [[1 if y[i] == y[j] else -1 for j in range(count)] for i in range(count)]
        return (
            sum(math.log1p(math.exp(-signs[i][j] * (logits[i][j] - 1.5))) for i in range(count) for j in range(count))
            / count
        )
    total = 0.0
    for direction in (logits, [list(column) for column in zip(*logits, strict=True)]):
        for i in range(count):
            same = [y[i] == y[j] for j in range(count)]
            if form == "kl":
                mass = [math.exp(10 * float(is_same)) for is_same in same]
                target = [value / sum(mass) for value in mass]
                total += sum(p * (math.log(p) - _log_probability(direction[i], j)) for j, p in enumerate(target))
            else:
                positives = [j for j in range(count) if same[j]]
                total -= sum(_log_probability(direction[i], j) for j in positives) / len(positives)
    return total / (2 * count)


@pytest.mark.parametrize("form", FORMS)
def test_each_form_equals_plain_loops(form: str) -> None:
    skeleton, text, prototypes, label = _pairs()
    other = prototypes if form == "prototype" else text
    assert float(_loss(form, skeleton, other, label)) == pytest.approx(_naive(form, skeleton, other, label), rel=1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_the_order_of_the_batch_does_not_matter(form: str) -> None:
    skeleton, text, prototypes, label = _pairs(1)
    order = torch.randperm(len(label))
    here = _loss(form, skeleton, prototypes if form == "prototype" else text, label)
    there = _loss(form, skeleton[order], prototypes if form == "prototype" else text[order], label[order])
    torch.testing.assert_close(here, there)


@pytest.mark.parametrize("form", FORMS)
def test_the_length_of_an_embedding_does_not_matter(form: str) -> None:
    skeleton, text, prototypes, label = _pairs(2)
    other = prototypes if form == "prototype" else text
    torch.testing.assert_close(_loss(form, 3 * skeleton, 0.2 * other, label), _loss(form, skeleton, other, label))


def test_kl_and_multi_positive_pull_alike_up_to_the_leaked_weight() -> None:
    skeleton, text, _, label = _pairs(3)
    skeleton.requires_grad_()
    gradients = [torch.autograd.grad(_loss(form, skeleton, text, label), skeleton)[0] for form in FORMS[:2]]
    torch.testing.assert_close(*gradients, rtol=0, atol=20 * math.exp(-10))


@pytest.mark.parametrize("form", FORMS)
def test_autocast_does_not_touch_the_precision(form: str) -> None:
    skeleton, text, prototypes, label = (x.float() if x.is_floating_point() else x for x in _pairs(4))
    other = prototypes if form == "prototype" else text
    plain = _loss(form, skeleton, other, label)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(_loss(form, skeleton, other, label), plain)


@pytest.mark.parametrize("form", FORMS)
def test_nobody_seen_costs_nothing_and_stays_differentiable(form: str) -> None:
    skeleton, text, prototypes, label = _pairs(5)
    nobody = skeleton[:0].requires_grad_()
    loss = _loss(form, nobody, prototypes if form == "prototype" else text[:0], label[:0])
    loss.backward()
    assert loss.item() == 0
