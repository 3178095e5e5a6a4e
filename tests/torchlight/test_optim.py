import math

import pytest
import torch

from tests.torchlight.toy_recipe import ToyTask
from torchlight.config import AdamConfig, AdamWConfig, ConstantSchedule, CosineSchedule, SgdConfig, StepSchedule
from torchlight.optim import WeightAverage, build_optimiser, learning_rate, set_learning_rate


def decays(task: ToyTask, settings: SgdConfig | AdamWConfig) -> dict[str, tuple[float, float]]:
    optimiser = build_optimiser(task, settings)
    set_learning_rate(optimiser, 1.0)
    names = {id(parameter): name for name, parameter in task.named_parameters()}
    return {names[id(p)]: (g["weight_decay"], g["lr"]) for g in optimiser.param_groups for p in g["params"]}


def test_norms_biases_and_logit_scales_do_not_decay_and_groups_have_their_own_rate() -> None:
    groups = decays(ToyTask(0.1, True), SgdConfig(name="sgd", lr=1, weight_decay=0.3, groups={"head": 0.1}))
    assert groups["hidden.weight"] == (0.3, 1.0)
    assert groups["head.weight"] == (0.3, 0.1)
    assert groups["head.bias"] == (0.0, 0.1)
    assert {groups[name] for name in ("norm.weight", "norm.bias", "hidden.bias", "logit_scale")} == {(0.0, 1.0)}


def test_every_trainable_parameter_is_in_exactly_one_group() -> None:
    task = ToyTask(0.1, True)
    task.hidden.weight.requires_grad_(False)
    optimiser = build_optimiser(task, AdamWConfig(name="adamw", lr=1))
    owned = [id(p) for group in optimiser.param_groups for p in group["params"]]
    assert sorted(owned) == sorted(id(p) for p in task.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adams_decay_is_a_term_of_the_gradient_and_adamws_is_not(name: str) -> None:
    config = AdamConfig(name="adam", lr=1, weight_decay=0.3) if name == "adam" else AdamWConfig(name="adamw", lr=1)
    task = ToyTask(0.1, True)
    before, optimiser = task.hidden.weight.detach().clone(), build_optimiser(task, config)
    set_learning_rate(optimiser, 0.01)
    task.hidden.weight.grad = torch.zeros_like(before)
    optimiser.step()
    # Without a gradient, Adam's first step is the sign of what decays; AdamW shrinks each weight by a share of itself.
    expected = 0.01 * before.sign() if name == "adam" else 0.01 * 0.01 * before
    torch.testing.assert_close(before - task.hidden.weight, expected, rtol=1e-3, atol=1e-6)


def test_momentum_begins_with_zeros_and_a_gradient_may_come_later() -> None:
    def trained(fused: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        task = ToyTask(0.1, True)
        settings = SgdConfig(name="sgd", lr=0.1, momentum=0.9, nesterov=True)
        plain = torch.optim.SGD(task.parameters(), lr=0.1, momentum=0.9, nesterov=True)
        optimiser = build_optimiser(task, settings.model_copy(update={"weight_decay": 0.0})) if fused else plain
        set_learning_rate(optimiser, 0.1) if fused else None
        for step in range(3):
            for place, parameter in enumerate(task.parameters()):
                parameter.grad = None if place == 0 and step == 0 else torch.full_like(parameter, 1.0 + step)
            optimiser.step()
        return [parameter.detach().clone() for parameter in task.parameters()]

    torch.testing.assert_close(trained(True), trained(False))


def test_everything_decays_where_asked() -> None:
    groups = decays(ToyTask(0.1, True), SgdConfig(name="sgd", lr=1, weight_decay=0.3, no_decay=False))
    assert {decay for decay, _ in groups.values()} == {0.3}


def test_a_rate_for_a_group_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="got 'text', expected one of"):
        build_optimiser(ToyTask(0.1, True), SgdConfig(name="sgd", lr=1, groups={"text": 0.1}))


def rates(schedule: ConstantSchedule | StepSchedule | CosineSchedule, epochs: int, steps: int) -> list[float]:
    return [learning_rate(schedule, 0.1, step, steps, epochs) for step in range(epochs * steps)]


def test_the_step_schedule_is_ctr_gcns() -> None:
    schedule = StepSchedule(name="step", milestones=(7, 9), warmup_epochs=5)
    naive = []
    for epoch in range(12):
        rate = 0.1 * (epoch + 1) / 5 if epoch < 5 else 0.1 * 0.1 ** ((epoch >= 7) + (epoch >= 9))
        naive += [rate] * 3
    assert rates(schedule, 12, 3) == pytest.approx(naive)


def test_the_cosine_schedule_falls_from_the_peak_to_the_final_rate() -> None:
    schedule = CosineSchedule(name="cosine", warmup_epochs=2, per="batch", final_lr=0.01)
    values = rates(schedule, 10, 7)
    assert values[:14] == pytest.approx([0.1 * (step + 1) / 14 for step in range(14)])
    naive = [0.01 + 0.09 * (1 + math.cos(math.pi * step / 56)) / 2 for step in range(56)]
    assert values[14:] == pytest.approx(naive)
    assert all(later < sooner for sooner, later in zip(values[14:], values[15:], strict=False))


def test_a_schedule_per_epoch_stands_still_within_one() -> None:
    values = rates(CosineSchedule(name="cosine"), 5, 4)
    assert [len(set(values[begin : begin + 4])) for begin in range(0, 20, 4)] == [1] * 5


def test_the_moving_average_is_its_formula() -> None:
    torch.manual_seed(0)
    task = ToyTask(0.0, True)
    average = WeightAverage(task, 0.8)
    expected = task.hidden.weight.detach().double().clone()
    for step in range(30):
        with torch.no_grad():
            task.hidden.weight.add_(torch.randn_like(task.hidden.weight))
        average.update(task, step)
        decay = min(0.8, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * task.hidden.weight.detach().double()
    torch.testing.assert_close(average.task.hidden.weight.double(), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(average.task.unused, task.unused)
    assert not any(parameter.requires_grad for parameter in average.task.parameters())
