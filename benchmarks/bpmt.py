"""BPMT 1.0: parts and pairs one by one against parts and pairs as groups of one product.

    python -m benchmarks.bpmt [--rounds 7] [--threads 2] [--device cuda]

Training steps (forward and backward) of the stage ``pairs`` and of fine-tuning; width 64, 4 heads, 2 layers, 32 clips
of 64 frames and 25 joints. Once with one body in each clip, and once as NTU RGB+D is, where a clip has room for two
bodies and 26 of 32 have one: the plain formulation runs the empty place, ours does not. Each version has a process of
its own for each case, with the allocator hint, and the versions take turns. First the two formulations are held
together, in float32, as the tests hold them in float64.

Beside the time on the clock stands the time on the processor. On a machine that others use, many small parallel loops
wait for their last thread far longer than a few large ones, so the clock then flatters us: with one thread the
processor's time says what the rewrite saves of the work itself.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmarks.measure import environment, interleaved, write_result
from benchmarks.processes import serving
from benchmarks.reference.bpmt import ReferenceBpmt, grouped_state
from feeders.skeleton import NTU25
from model.encoders.bpmt import Bpmt, BpmtConfig
from torchlight.allocator import keep_freed_memory

CLIPS, FRAMES = 32, 64
CONFIG = BpmtConfig(width=64, heads=4, layers=2, dropout=0.0)
BODIES = {"one body": (1, 0), "81 % one body of two": (2, 26)}  # places for bodies, clips in which the second is empty
STAGES = ("pairs", None)
AIM = 4.0
VERSIONS = ("one by one", "batched")


@dataclass(frozen=True)
class Setting:
    """What is measured, and on what."""

    case: str
    stage: str | None
    device: str
    threads: int


def twins() -> tuple[Bpmt, ReferenceBpmt]:
    """The two formulations with the same weights."""
    torch.manual_seed(0)
    parts = {name: part.joints for name, part in NTU25.parts(CONFIG.parts).items()}
    reference = ReferenceBpmt(parts, NTU25.coordinates, CONFIG.width, CONFIG.heads, CONFIG.layers, CONFIG.ffn)
    batched = Bpmt(CONFIG, NTU25)
    batched.load_state_dict(grouped_state(reference, max(len(joints) for joints in parts.values())))
    return batched, reference


def forward(setting: Setting, version: str) -> Callable[[], Tensor]:
    """What a stage computes, (..., present bodies, frames, ...) in the order of the plain formulation."""
    device, stage = torch.device(setting.device), setting.stage
    batched, reference = twins()
    batched.to(device)
    reference.to(device)
    places, empty = BODIES[setting.case]
    body_mask = torch.ones(CLIPS, places, dtype=torch.bool, device=device)
    body_mask[:empty, 1:] = False
    joint_weight = body_mask[:, None, None, :].expand(-1, FRAMES, len(NTU25.joints), -1).float()
    frame_mask = torch.ones(CLIPS, FRAMES, dtype=torch.bool, device=device)
    pose = torch.randn(CLIPS, NTU25.coordinates, FRAMES, len(NTU25.joints), places).to(device)
    pose = pose * joint_weight.unsqueeze(1)
    batched.train().begin(stage)
    by_body = pose.permute(0, 4, 2, 3, 1).flatten(0, 1).contiguous()
    present = body_mask.flatten()

    def one_by_one() -> Tensor:
        if stage is None:
            return reference.tokens(by_body)[present]
        return reference.reconstruct_pairs(by_body)[:, present]

    def together() -> Tensor:
        if stage is None:
            features: Tensor = batched(pose, joint_weight, body_mask, frame_mask).features
            return features.permute(0, 4, 2, 3, 1).flatten(0, 1)[present]
        predicted = batched.reconstruct(stage, pose, joint_weight, body_mask, frame_mask)
        return predicted.permute(0, 1, 5, 3, 4, 2).flatten(1, 2)[:, present]

    return together if version == "batched" else one_by_one


def difference(setting: Setting) -> float:
    """The largest between the two formulations, in units of the values' standard deviation."""
    with torch.no_grad():
        reference, batched = (forward(setting, version)() for version in VERSIONS)
    return float((batched - reference).abs().max() / reference.std())


def make_step(setting: Setting, version: str) -> Callable[[], float]:
    """A training step in a process of its own; returns its seconds on the processor."""
    torch.set_num_threads(setting.threads)
    keep_freed_memory()
    compute = forward(setting, version)

    def step() -> float:
        start = time.process_time()
        compute().square().mean().backward()
        if setting.device != "cpu":
            torch.cuda.synchronize()
        return time.process_time() - start

    return step


def measure(setting: Setting, rounds: int) -> dict[str, tuple[float, float]]:
    """Median seconds of each version, on the clock and on the processor."""
    processor: dict[str, list[float]] = {version: [] for version in VERSIONS}
    with ExitStack() as processes:
        steps = {version: processes.enter_context(serving(make_step, setting, version)) for version in VERSIONS}

        def step(version: str) -> None:
            processor[version].append(steps[version]())

        clock = interleaved({version: partial(step, version) for version in VERSIONS}, rounds)
    return {version: (clock[version], statistics.median(processor[version][1:])) for version in VERSIONS}


def main() -> None:
    """Measure, print the table, keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="timed steps of each version and case")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    print(environment())
    print(
        f"{'case':22}{'stage':13}{'version':12}{'clock ms':>10}{'ratio':>7}{'processor ms':>14}{'ratio':>7}{'apart':>9}"
    )
    for case in BODIES:
        for stage in STAGES:
            setting = Setting(case, stage, arguments.device, arguments.threads)
            apart, seconds = difference(setting), measure(setting, arguments.rounds)
            for version in VERSIONS:
                (clock, processor), plain = seconds[version], seconds["one by one"]
                row = {
                    "case": case,
                    "stage": stage or "fine-tuning",
                    "version": version,
                    "milliseconds": round(1000 * clock, 1),
                    "ratio": round(plain[0] / clock, 2),
                    "processor_milliseconds": round(1000 * processor, 1),
                    "processor_ratio": round(plain[1] / processor, 2),
                    "aim": AIM if version == "batched" else None,
                    "difference_float32": apart,
                }
                rows.append(row)
                print(
                    f"{case:22}{row['stage']:13}{version:12}{row['milliseconds']:10.0f}{row['ratio']:7.2f}"
                    f"{row['processor_milliseconds']:14.0f}{row['processor_ratio']:7.2f}{apart:9.1e}"
                )
    name = "bpmt" if arguments.device == "cpu" else f"bpmt_{arguments.device}"
    print(write_result(name, {"rounds": arguments.rounds, "device": arguments.device, "rows": rows}))


if __name__ == "__main__":
    main()
