from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from torchlight.distributed import (
    all_gather,
    average_gradients,
    broadcast_module,
    from_main,
    gather_with_gradient,
    join_processes,
    leave_processes,
    main_first,
    rank,
    world_size,
)

SIZES = (3, 1)
ROWS, TARGET = torch.arange(8.0).reshape(4, 2) / 7, torch.arange(16.0).reshape(4, 4) / 5


def network() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(2, 3)


def contrastive(features: Tensor) -> Tensor:
    """A loss that pairs every clip with every other, so that it cannot be split over processes."""
    return ((features @ features.T - TARGET) ** 2).mean()


def work(number: int, folder: str) -> None:
    join_processes(torch.device("cpu"), f"file://{folder}/meet", number, 2)
    begin = sum(SIZES[:number])
    rows = ROWS[begin : begin + SIZES[number]]
    found: dict[str, Any] = {"world": world_size(), "all": all_gather(number), "main": from_main(number + 7)}
    net = network()
    contrastive(*gather_with_gradient(net(rows))).backward()
    average_gradients(list(net.parameters()))
    found["gradients"] = [parameter.grad for parameter in net.parameters()]
    lonely, nobodys = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    if number == 1:
        lonely.grad = torch.full((2,), 4.0)
    average_gradients([lonely, nobodys])
    found["lonely"], found["nobodys"] = lonely.grad, nobodys.grad
    norm = nn.BatchNorm1d(2)
    norm.running_mean.fill_(number + 1.0)
    broadcast_module(norm, buffers_only=True)
    found["buffer"] = norm.running_mean
    (found["labels"],) = gather_with_gradient(torch.arange(SIZES[number]) + 10 * number)
    with main_first():
        found["first"] = Path(folder, "made").exists()
        Path(folder, "made").touch()
    torch.save(found, f"{folder}/{number}.pt")
    leave_processes()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("processes")
    spawn(work, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{number}.pt", weights_only=True) for number in range(2)]


def test_uneven_shards_give_the_gradients_of_the_whole_batch(found: list[dict[str, Any]]) -> None:
    net = network()
    contrastive(net(ROWS)).backward()
    for process in found:
        for gradient, parameter in zip(process["gradients"], net.parameters(), strict=True):
            torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-5)


def test_every_process_hears_everybody_in_rank_order(found: list[dict[str, Any]]) -> None:
    assert [process["world"] for process in found] == [2, 2]
    assert [process["all"] for process in found] == [[0, 1], [0, 1]]
    assert [process["main"] for process in found] == [7, 7]
    assert [process["labels"].tolist() for process in found] == [[0, 1, 2, 10]] * 2
    assert [process["buffer"].tolist() for process in found] == [[1.0, 1.0]] * 2
    assert [process["first"] for process in found] == [False, True]


def test_a_gradient_of_one_process_is_shared_and_one_of_nobody_stays_none(found: list[dict[str, Any]]) -> None:
    assert [process["lonely"].tolist() for process in found] == [[2.0, 2.0]] * 2
    assert [process["nobodys"] for process in found] == [None, None]


def test_alone_everything_is_the_identity() -> None:
    rows = torch.ones(2, 3, requires_grad=True)
    assert gather_with_gradient(rows) == (rows,)
    assert (all_gather(3), from_main(3), rank(), world_size()) == ([3], 3, 0, 1)
