"""What any learned method must beat on Penn Action: chance, and an untuned SVM on a few statistics of the poses.

export PARTCLIP_DATA=... && python -m benchmarks.penn_baselines

The data page's 96.2 leans on the annotators' guesses of hidden joints, which a store does not keep; the same few lines
without them give 96.3.
"""

import argparse

import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from benchmarks.measure import write_result
from benchmarks.ucla_baselines import resampled
from feeders.dataset import split_index
from feeders.locate import open_store
from feeders.penn import PENN
from feeders.store import Store
from feeders.synthetic import SyntheticConfig


def filled(clip: np.ndarray, is_seen: np.ndarray) -> np.ndarray:
    """(T, V, C) positions, hidden ones put between the frames that show the joint; NaN where none does."""
    whole = np.full(clip.shape, np.nan)
    frames = np.arange(len(clip))
    for joint in np.flatnonzero(is_seen.any(axis=0)):
        seen = np.flatnonzero(is_seen[:, joint])
        for axis in range(clip.shape[2]):
            whole[:, joint, axis] = np.interp(frames, seen, clip[seen, joint, axis])
    return whole


def statistics(clip: np.ndarray, is_seen: np.ndarray) -> np.ndarray:
    """Poses, motion and spread of a clip moved and scaled to one size, and its length."""
    pose = filled(clip, is_seen)
    pose = pose - np.nanmean(pose, axis=(0, 1))
    pose = np.nan_to_num(pose / (np.nanstd(pose) + 1e-6))
    local = pose - pose.mean(axis=1, keepdims=True)
    poses, speed = resampled(pose), np.abs(np.diff(pose, axis=0)).mean(axis=0)
    pieces = (poses, resampled(local), np.diff(poses, axis=0), local.std(axis=0), pose.std(axis=0), speed)
    return np.concatenate([*(piece.ravel() for piece in pieces), [np.log(len(clip))]])


def top1(store: Store) -> dict[str, float]:
    """Percent of the official test clips, by method."""
    clips = [store.clip(number) for number in range(len(store))]
    features = np.stack(
        [statistics(clip.pose[..., 0].astype(np.float64), clip.joint_weight[..., 0] > 0) for clip in clips]
    )
    label, sides = store.index.label, split_index(store.index, PENN.protocol("official"), ())
    learn, test = sides["train"], sides["test"]
    machine = make_pipeline(StandardScaler(), SVC(C=10, gamma="scale")).fit(features[learn], label[learn])
    return {
        "most frequent class": 100 * float((label[test] == np.bincount(label[learn]).argmax()).mean()),
        "RBF-SVM": 100 * float(machine.score(features[test], label[test])),
    }


def main() -> None:
    """Print and keep the baselines' top-1."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    store = open_store(PENN, None, SyntheticConfig())
    result = top1(store)
    clips = {side: int((store.index.setup == number).sum()) for number, side in ((1, "train"), (2, "test"))}
    payload = {
        "command": "python -m benchmarks.penn_baselines",
        "split": "official",
        "clips": clips,
        "top1": result,
    }
    write_result("penn/baselines", payload)
    print(f"Penn Action, official ({clips['train']:,} of 1,258 / {clips['test']:,}; one training video shows nobody)")
    for name, value in result.items():
        print(f"{name:<24}{value:.1f}")


if __name__ == "__main__":
    main()
