"""The feeder: the product's batches against the published feeder, sample by sample.

    python -m benchmarks.feeder [--rounds 200]

Training batches of 64 clips of 64 frames: read, crop, resample, rotate, modality, with the same draws on both sides and
one thread. Every call asks for other clips, of 2,048 NTU-like ones (30 to 300 frames, median 75; 15 % with two bodies):
the product reads them from a store, the reference from the padded array in memory. The product's batch has the joint
weights and masks too, which the reference's lacks.
"""

import argparse
import itertools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import environment, interleaved, write_result
from benchmarks.reference import feeder as reference
from feeders.crop import CropConfig
from feeders.draws import between, uniform
from feeders.loading import ActionDataConfig, Pipeline
from feeders.modality import Modality
from feeders.skeleton import NTU25
from feeders.store import Recording, Store, StoreWriter, Track
from feeders.transforms import AugmentConfig
from torchlight.allocator import keep_freed_memory

CLIPS, BATCH, FRAMES, BODIES, LARGEST_ANGLE = 2048, 64, 64, 2, 0.3
MODALITIES: tuple[Modality, ...] = ("joint", "bone", "joint_motion", "bone_motion")
PAIRS = tuple(enumerate(NTU25.parents))
AIM, TOLERANCE = 8.0, 1e-5


@dataclass(frozen=True)
class Clips:
    """The same clips twice: in a store, and as rows of the padded layout."""

    store: Store
    rows: np.ndarray


def make_clips(folder: Path, count: int) -> Clips:
    """Simulated clips whose bodies are there from the first frame to the last; smooth, as people are."""
    draw = np.random.default_rng(0)
    rows = np.zeros((count, 300, BODIES * len(NTU25.joints) * 3), dtype=np.float32)
    facts = {"dataset": "ntu60", "skeleton": NTU25.name, "class_names": ("any",)}
    with StoreWriter(folder / "store", joints=len(NTU25.joints), coordinates=3, **facts) as writer:  # type: ignore[arg-type]
        for clip in range(count):
            frames = int(np.clip(draw.lognormal(np.log(75), 0.4), 30, 300))
            bodies = 2 if clip % 20 < 3 else 1
            start, steps = draw.normal(size=(bodies, 1, 25, 3)), 0.02 * draw.normal(size=(bodies, frames, 25, 3))
            pose = (start + steps.cumsum(axis=1)).astype(np.float32)
            rows[clip, :frames, : 75 * bodies] = pose.transpose(1, 0, 2, 3).reshape(frames, -1)
            tracks = tuple(Track(np.arange(frames), joints) for joints in pose)
            writer.add(Recording(str(clip), 0, frames, tracks))
    return Clips(Store(folder / "store"), rows)


def product(clips: Clips, modality: Modality) -> Pipeline:
    """What makes the training batches of a run."""
    data = ActionDataConfig(
        dataset="ntu60",
        modality=modality,
        frames=FRAMES,
        crop=CropConfig(training=(0.5, 1.0), shortest=64),
        centre="none",
        augment=AugmentConfig(rotation=(float(np.rad2deg(LARGEST_ANGLE)),) * 3),
    )
    return Pipeline(clips.store, NTU25, data, BODIES)


def reference_batch(clips: Clips, modality: Modality, samples: np.ndarray, seeds: np.ndarray) -> Tensor:
    """The same batch's pose, from one sample after the other."""
    draws = uniform(seeds, "crop", 2)
    share, start = 0.5 + 0.5 * draws[:, 0], draws[:, 1]
    angles = LARGEST_ANGLE * between(seeds, "rotation", -1.0, 1.0, 3)
    drawn = zip(samples, share, start, angles, strict=True)
    poses = [reference.sample(clips.rows[n], p, s, turn, modality, PAIRS, FRAMES) for n, p, s, turn in drawn]
    return torch.from_numpy(np.stack(poses))


def main() -> None:
    """Measure, print the table, keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200, help="timed batches of each way and modality")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    keep_freed_memory()
    rows = []
    print(environment())
    print(f"{'modality':14}{'reference ms':>13}{'product ms':>12}{'x':>7}{'aim':>6}{'largest difference':>20}")
    with tempfile.TemporaryDirectory() as folder:
        clips = make_clips(Path(folder), CLIPS)
        batches = np.random.default_rng(1).permutation(CLIPS).reshape(-1, BATCH)
        seeds = np.arange(BATCH, dtype=np.uint64) + 7

        def caller(way: Callable[..., object]) -> Callable[[], object]:
            samples = itertools.cycle(batches)
            return lambda: way(next(samples), seeds)

        for modality in MODALITIES:
            ours, theirs = product(clips, modality).batch, partial(reference_batch, clips, modality)
            difference = max(float((ours(b, seeds).pose - theirs(b, seeds)).abs().max()) for b in batches[:4])
            if difference > TOLERANCE:
                raise ValueError(f"{modality}: got a difference of {difference}, expected at most {TOLERANCE}")
            ways = {"reference": caller(theirs), "product": caller(ours)}
            seconds = interleaved(ways, rounds)
            row = {
                "modality": modality,
                "reference_ms": round(1000 * seconds["reference"], 2),
                "product_ms": round(1000 * seconds["product"], 2),
                "ratio": round(seconds["reference"] / seconds["product"], 2),
                "aim": AIM,
                "largest_difference": difference,
            }
            rows.append(row)
            print(
                f"{modality:14}{row['reference_ms']:13.2f}{row['product_ms']:12.2f}{row['ratio']:7.2f}{AIM:6}"
                f"{difference:20.1e}"
            )
    print(write_result("feeder", {"rounds": rounds, "batch": BATCH, "clips": CLIPS, "rows": rows}))


if __name__ == "__main__":
    main()
