"""What any learned method must beat on NW-UCLA: chance, a nearest neighbour, and an untuned SVM on a few statistics.

export PARTCLIP_DATA=... && python -m benchmarks.ucla_baselines
"""

import argparse

import numpy as np
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from benchmarks.measure import write_result
from benchmarks.ucla import SPLITS
from feeders.dataset import split_index
from feeders.locate import open_store
from feeders.synthetic import SyntheticConfig
from feeders.ucla import UCLA

_UP = np.array([0.0, 1.0, 0.0])


def resampled(clip: np.ndarray, frames: int = 16) -> np.ndarray:
    """(T, V, 3) -> (frames, V, 3), linear, first to last frame."""
    at = np.linspace(0, len(clip) - 1, frames)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, len(clip) - 1)
    share = (at - low)[:, None, None]
    return np.asarray(clip[low] * (1 - share) + clip[high] * share)


def statistics(clip: np.ndarray) -> np.ndarray:
    """Poses, motion, spread and extent of a clip turned to face one way, and its length."""
    left, right = UCLA.skeleton.index("left_hip", "right_hip")
    across = (clip[:, left] - clip[:, right]).mean(axis=0)
    across -= _UP * (across @ _UP)
    across /= np.linalg.norm(across) + 1e-6
    body = (clip - clip[:, :1].mean(axis=0)) @ np.stack([across, _UP, np.cross(across, _UP)]).T
    poses = resampled(body)
    speed = np.abs(np.diff(body, axis=0)).mean(axis=0) if len(body) > 1 else np.zeros_like(body[0])
    pieces = (poses, np.diff(poses, axis=0), body.std(axis=0), body.max(axis=0), body.min(axis=0), speed)
    return np.concatenate([*(piece.ravel() for piece in pieces), [np.log(len(clip))]])


def main() -> None:
    """Print and keep the baselines' top-1."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    store = open_store(UCLA, None, SyntheticConfig())
    clips = [store.clip(number).pose[..., 0].astype(np.float64) for number in range(len(store))]
    rooted = np.stack([resampled(clip - clip[:1, :1]).ravel() for clip in clips])
    features = np.stack([statistics(clip) for clip in clips])
    label = store.index.label
    top1: dict[str, dict[str, float]] = {"most frequent class": {}, "nearest neighbour, 16 frames": {}, "RBF-SVM": {}}
    for split in SPLITS:
        sides = split_index(store.index, UCLA.protocol(split), ())
        learn, test = sides["train"], sides["test"]
        frequent = np.bincount(label[learn]).argmax()
        nearest = KNeighborsClassifier(1).fit(rooted[learn], label[learn])
        machine = make_pipeline(StandardScaler(), SVC(C=10, gamma="scale")).fit(features[learn], label[learn])
        top1["most frequent class"][split] = 100 * float((label[test] == frequent).mean())
        top1["nearest neighbour, 16 frames"][split] = 100 * float(nearest.score(rooted[test], label[test]))
        top1["RBF-SVM"][split] = 100 * float(machine.score(features[test], label[test]))
    write_result("ucla/baselines", {"command": "python -m benchmarks.ucla_baselines", "top1": top1})
    for name, values in top1.items():
        print(f"{name:<30}" + "  ".join(f"{split} {value:.1f}" for split, value in values.items()))


if __name__ == "__main__":
    main()
