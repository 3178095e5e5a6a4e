"""The skeleton encoder: the published operation order against the fused formulation.

    python -m benchmarks.encoder [--rounds 7]

16 clips of 64 frames and 25 joints, `published` mode, two threads, training (forward and backward) and inference, once
with 81 % single-body clips (13 of 16) and once with two bodies everywhere. Each version has a fresh process for each
case, as memory that another case left behind makes the next one faster, and the versions take turns. The allocator hint
is one of the rewrites, so the ratios that are held to the targets are against the reference in the process it was
published for, without the hint; the reference with the hint stands beside it.
"""

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import torch

from benchmarks.measure import environment, interleaved, write_result
from benchmarks.processes import serving
from benchmarks.reference.ctrgcn import ReferenceCtrGcn
from feeders.skeleton import NTU25
from model.adjacency import spatial_graph
from model.encoders.contract import Tokens
from model.encoders.ctrgcn import CtrGcn, CtrGcnConfig
from torchlight.allocator import keep_freed_memory

CLIPS, FRAMES, BODIES, THREADS = 16, 64, 2, 2
SINGLE = {"81 % one body": 13, "two bodies": 0}
AIMS = {
    ("81 % one body", "training"): 2.5,
    ("81 % one body", "inference"): 2.4,
    ("two bodies", "training"): 1.8,
    ("two bodies", "inference"): 1.6,
}


@dataclass(frozen=True)
class Version:
    """One way to run the encoder."""

    name: str
    is_fused: bool
    keeps_memory: bool
    is_bf16: bool = False


REFERENCE = Version("reference", is_fused=False, keeps_memory=False)
VERSIONS = (
    REFERENCE,
    Version("reference + allocator hint", is_fused=False, keeps_memory=True),
    Version("fused", is_fused=True, keeps_memory=True),
    Version("fused, bf16", is_fused=True, keeps_memory=True, is_bf16=True),
)


def make_step(version: Version, case: str, mode: str) -> Callable[[], None]:
    """One step of a case, in a process of its own."""
    torch.set_num_threads(THREADS)
    if version.keeps_memory:
        keep_freed_memory()
    torch.manual_seed(0)
    pose = torch.randn(CLIPS, 3, FRAMES, len(NTU25.joints), BODIES)
    frame_mask = torch.ones(CLIPS, FRAMES, dtype=torch.bool)
    joint_weight = torch.ones(CLIPS, FRAMES, len(NTU25.joints), BODIES)
    fused = CtrGcn(CtrGcnConfig(absent_bodies="published"), NTU25, bodies=BODIES)
    reference = ReferenceCtrGcn(60, spatial_graph(NTU25), bodies=BODIES)
    network = (fused if version.is_fused else reference).train(mode == "training")
    body_mask = torch.ones(CLIPS, BODIES, dtype=torch.bool)
    body_mask[: SINGLE[case], 1] = False

    def forward() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=version.is_bf16):
            if not version.is_fused:
                return reference.tokens(pose, body_mask)
            tokens: Tokens = fused(pose, joint_weight, body_mask, frame_mask)
            return tokens.features

    def step() -> None:
        if network.training:
            forward().float().square().mean().backward()
            network.zero_grad()
        else:
            with torch.no_grad():
                forward()

    return step


def measure(case: str, mode: str, rounds: int) -> dict[str, float]:
    """Median seconds of each version, by its name."""
    with ExitStack() as processes:
        steps = {v.name: processes.enter_context(serving(make_step, v, case, mode)) for v in VERSIONS}
        return interleaved(steps, rounds)


def main() -> None:
    """Measure, print the table, keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="timed calls of each version and case")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(THREADS)
    rows = []
    print(environment())
    print(f"{'case':16}{'mode':11}{'version':28}{'ms':>8}{'x reference':>13}{'x with hint':>13}{'aim':>6}")
    for (case, mode), aim in AIMS.items():
        seconds = measure(case, mode, rounds)
        for version in VERSIONS:
            ratio, with_hint = (seconds[other.name] / seconds[version.name] for other in VERSIONS[:2])
            wanted = aim if version.is_fused and not version.is_bf16 else None
            rows.append(
                {
                    "case": case,
                    "mode": mode,
                    "version": version.name,
                    "milliseconds": round(1000 * seconds[version.name], 1),
                    "ratio": round(ratio, 2),
                    "ratio_with_hint": round(with_hint, 2),
                    "aim": wanted,
                }
            )
            print(
                f"{case:16}{mode:11}{version.name:28}{1000 * seconds[version.name]:8.0f}{ratio:13.2f}{with_hint:13.2f}"
                f"{wanted or '':>6}"
            )
    print(write_result("encoder", {"rounds": rounds, "rows": rows}))


if __name__ == "__main__":
    main()
