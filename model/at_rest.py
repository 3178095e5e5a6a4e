"""A network as it predicts, in the middle of training it."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def at_rest(network: nn.Module) -> Iterator[None]:
    """Within it nothing is dropped out and no running statistic is moved; gradients flow as ever."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
