"""Which devices a run uses, one process each."""

from collections.abc import Sequence

import torch


def resolve_devices(names: Sequence[str]) -> tuple[torch.device, ...]:
    """``auto``, ``cpu``, ``mps`` or CUDA indices to devices; what is not there is an error, never a substitute.

    ``auto`` is the first CUDA device, else MPS, else the CPU. ``cpu cpu`` is two processes on the CPU.
    """
    if list(names) == ["auto"]:
        if torch.cuda.is_available():
            return (torch.device("cuda", 0),)
        return (torch.device("mps" if torch.backends.mps.is_available() else "cpu"),)
    devices = tuple(_device(name) for name in names)
    indices = [device for device in devices if device.type != "cpu"]
    if not devices or len(set(indices)) != len(indices):
        raise ValueError(f"device: got {' '.join(names)!r}, expected different devices")
    if len({device.type for device in devices}) > 1:
        raise ValueError(f"device: got {' '.join(names)!r}, expected devices of one kind")
    return devices


def _device(name: str) -> torch.device:
    count = torch.cuda.device_count()
    there = "cpu" + (", mps" if torch.backends.mps.is_available() else "")
    there += f", CUDA 0 to {count - 1}" if count else "; there is no CUDA device here"
    index = name.removeprefix("cuda:")
    if name == "cpu" or (name == "mps" and torch.backends.mps.is_available()):
        return torch.device(name)
    if index.isdecimal() and int(index) < count:
        return torch.device("cuda", int(index))
    raise ValueError(f"device: got {name!r}, expected one of auto, {there}")
