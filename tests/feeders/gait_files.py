"""Small raw gait data sets in their published layouts."""

import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from feeders.prepare.kinect_gait import _JOINTS

COCO = 17


def person(seed: int, joints: int = COCO) -> np.ndarray:
    """(V, 3) x, y, confidence of somebody, as pose estimators write them."""
    draw = np.random.default_rng(seed)
    return np.column_stack(
        [draw.uniform(0, 100, size=(joints, 2)).round(2), draw.uniform(0.3, 1, size=joints).round(3)]
    )


def cells(values: np.ndarray) -> str:
    return ",".join(f"{value:g}" for value in np.ravel(values))


def write_crops(folder: Path, frames: Sequence[int], prefix: str = "human_crop_f", suffix: str = ".txt") -> np.ndarray:
    """Gait3D's and GREW's frame files, (F, 17, 3); width and height change with the frame."""
    folder.mkdir(parents=True, exist_ok=True)
    people = np.stack([person(frame) for frame in frames])
    for frame, seen in zip(frames, people, strict=True):
        (folder / f"{prefix}{frame}{suffix}").write_text(f"{80 + frame},{200 + frame},{cells(seen)}")
    return people


def write_gait3d(raw: Path, frames: Sequence[int] = (3, 4, 5)) -> Path:
    """People 0000, 0001 to learn from and 0002 to be found, whose second walk is the probe."""
    for walk in ("0000/camid0_videoid2/seq0", "0001/camid7_videoid1/seq3", "0002/camid0_videoid0/seq0"):
        write_crops(raw / walk, frames)
    write_crops(raw / "0002/camid1_videoid0/seq1", frames)
    write_partition(raw / "Gait3D.json")
    return raw


def write_partition(path: Path, **change: list[str]) -> None:
    sides = {"TRAIN_SET": ["0000", "0001"], "TEST_SET": ["0002"], "PROBE_SET": ["0002-camid1_videoid0-seq1"]}
    path.write_text(json.dumps(sides | change))


def write_pickle(path: Path, frames: int, joints: int = COCO) -> np.ndarray:
    """An OpenGait pickle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.stack([person(frame, joints) for frame in range(frames)]).astype(np.float32)
    path.write_bytes(pickle.dumps(array))
    return array


def write_casia_rows(path: Path, rows: Sequence[tuple[str, int]], joints: int = COCO) -> None:
    """GaitGraph's CSV of (walk, frame) rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = ",".join(f"j{joint}_{what}" for joint in range(joints) for what in ("x", "y", "conf"))
    lines = [f"data/{walk}/{frame:05d}.jpg,{cells(person(frame, joints))}" for walk, frame in rows]
    path.write_text("\n".join([f"image_name,{header}", *lines]) + "\n")


def write_openpose(folder: Path, frames: dict[int, list[np.ndarray]], pattern: str = "{:04d}_keypoints.json") -> None:
    """OpenPose's JSON files, people by frame."""
    folder.mkdir(parents=True, exist_ok=True)
    for frame, people in frames.items():
        seen = [{"pose_keypoints_2d": np.ravel(one).tolist()} for one in people]
        (folder / pattern.format(frame)).write_text(json.dumps({"version": 1.1, "people": seen}))


def write_kinect(raw: Path, name: str, frames: int = 4, seed: int = 0) -> Path:
    """A KinectGait file of random positions."""
    path = raw / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    lines = [
        f"{joint};" + ";".join(f"{v:.3f}" for v in draw.normal(size=3)) for _ in range(frames) for joint in _JOINTS
    ]
    path.write_text("\n".join(lines) + "\n")
    return path
