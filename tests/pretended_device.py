"""A device that only says it is one, so that what a run on a GPU gets wrong is seen where there is none.

    python tests/pretended_device.py REPORT.json main_clip_ntu --config config/demo/joint.yaml ...

runs a door on it, in this process. Its tensors are CPU tensors in a wrapper that says it is elsewhere: a product of one
of them with a tensor that was left on the CPU is the error that CUDA makes of it, and whatever would make a GPU's queue
run dry, as the program waits for an answer, is noted with the line that asks. Mixed precision and several devices
cannot be pretended.
"""

import importlib
import json
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.library import Library
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from torchlight import launch
from torchlight.chain import Chain, run_chain
from torchlight.engine import Engine

DEVICE = "pretended"
ROOT = Path(__file__).parent.parent
aten = torch.ops.aten
TRANSFERS = {aten.copy_.default, aten._to_copy.default}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}  # may have indices on the CPU
ANSWERS = {
    aten._local_scalar_dense.default,
    aten.equal.default,
    aten.masked_select.default,
    aten.nonzero.default,
    aten._unique2.default,
    aten.unique_dim.default,
    aten.repeat_interleave.Tensor,
}


class Pretended(Tensor):
    """A tensor that is ``held`` by the CPU and says that it is not."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "Pretended":
        facts = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        tensor = Tensor._make_wrapper_subclass(cls, held.shape, device=torch.device(DEVICE, 0), **facts)
        tensor.held = held
        return tensor

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(operation, args, kwargs or {})

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __reduce_ex__(self, protocol: Any) -> Any:
        # In a file it has no device, as whoever reads one maps it to the CPU.
        return self.held.__reduce_ex__(protocol)


class _Everywhere(TorchDispatchMode):
    """Also what is made from nothing, and what comes from the CPU."""

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(operation, args, kwargs or {})


class Steps:
    """The training steps of a run.

    Attributes:
        waits: the line of ours that asks the device -> how often.
    """

    count = 0
    is_inside = False
    waits: Counter[str] = Counter()


@contextmanager
def pretended_device() -> Iterator[None]:
    """Let there be a device named ``pretended``; for good, as a process has one backend of this kind."""
    backend_registration._setup_privateuseone_for_python_backend(DEVICE, backend_module=_Backend())
    library = Library("aten", "IMPL")
    # Lists as indices become tensors below where Python is asked.
    library.impl("empty_strided", _empty_strided, "PrivateUse1")
    library.impl("_copy_from", _copy_from, "PrivateUse1")
    with _Everywhere(), torch.autograd.set_multithreading_enabled(False):
        yield


class _Backend:
    """What torch asks of a device's module."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        """The CPU draws."""


def _empty_strided(size: Sequence[int], stride: Sequence[int], *, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
    return Pretended(torch.empty_strided(size, stride, dtype=dtype))


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    _held(target).copy_(_held(source))
    return target


def _held(value: Any) -> Any:
    if isinstance(value, torch.device):
        return torch.device("cpu")
    return value.held if isinstance(value, Pretended) else value


def _call(operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Do on the CPU what is asked of the device."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = [tensor for tensor in tensors if isinstance(tensor, Pretended)]
    target = kwargs.get("device")
    is_there = bool(there) if target is None else torch.device(target).type == DEVICE
    if operation is aten.copy_.default:
        is_there = isinstance(args[0], Pretended)
    elif there and operation not in TRANSFERS:
        _refuse_strangers(operation, args, tensors)
    if there and _waits(operation, args, is_there) and Steps.is_inside:
        Steps.waits[_line_of_ours()] += 1
    if operation is aten._fused_sdp_choice.default:
        return 0  # the plain formulation
    known = {id(tensor.held): tensor for tensor in there}

    def lifted(value: Any) -> Any:
        if not isinstance(value, Tensor) or not is_there:
            return value
        return known[id(value)] if id(value) in known else Pretended(value)

    return tree_map(lifted, operation(*tree_map(_held, args), **tree_map(_held, kwargs)))


def _refuse_strangers(operation: Any, args: Sequence[Any], tensors: Sequence[Tensor]) -> None:
    # As in CUDA, a number on the CPU is welcome, but among what is stacked or joined.
    is_strict = operation in (aten.cat.default, aten.stack.default)
    indices = args[1] if operation in INDEXING else ()
    strangers = [
        tuple(tensor.shape)
        for tensor in tensors
        if not isinstance(tensor, Pretended)
        and (tensor.dim() > 0 or is_strict)
        and not any(tensor is index for index in indices)
    ]
    if strangers:
        raise RuntimeError(f"{operation}: got tensors of shapes {strangers} on the CPU, expected all on {DEVICE}")


def _waits(operation: Any, args: Sequence[Any], is_there: bool) -> bool:
    if operation in INDEXING:
        return any(index is not None and index.dtype == torch.bool for index in args[1])
    return operation in ANSWERS or (operation in TRANSFERS and not is_there)


def _line_of_ours() -> str:
    frames = (frame for frame in reversed(traceback.extract_stack()) if Path(frame.filename) != Path(__file__))
    ours = next(frame for frame in frames if "site-packages" not in frame.filename and str(ROOT) in frame.filename)
    return f"{Path(ours.filename).relative_to(ROOT)}:{ours.lineno}"


def _counted(backward: Callable[..., None]) -> Callable[..., None]:
    def step(*args: Any) -> None:
        Steps.count += 1
        Steps.is_inside = True
        backward(*args)
        Steps.is_inside = False

    return step


def main(report: str, door: str, *words: str) -> int:
    """Run a door and leave a report of its training steps."""
    module = importlib.import_module(door)
    launch.resolve_devices = lambda names: (torch.device(DEVICE, 0),)
    Engine._backward = _counted(Engine._backward)  # type: ignore[method-assign]
    chain: Chain[Any] | None = getattr(module, "CHAIN", None)
    with pretended_device():
        code = launch.run(module.RECIPE, words) if chain is None else run_chain(chain, words)
    Path(report).write_text(json.dumps({"steps": Steps.count, "waits": Steps.waits}))
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
