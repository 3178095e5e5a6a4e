"""What any learned method must beat on KinectGait: bone lengths, and shrinkage LDA on hand-made gait statistics.

    export PARTCLIP_DATA=...                    # the folder that holds kinect_gait/Data
    python -m benchmarks.gait_baselines

Fitted on Person001-100; gallery walk 1 of Person101-164, probes their other walks; and, as choices are made there,
fitted on 001-085 and tried on 086-100. Untuned. LDA's embeddings of all test walks are kept, for a paired bootstrap and
as a stream: ``python ensemble.py --stream joint=RUN --stream lda=benchmarks/results/gait/lda-with_size``.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.preprocessing import StandardScaler

from benchmarks.measure import RESULTS, write_result
from feeders.gait.protocols import protocols_of, walks_of
from feeders.kinect_gait import GALLERY_WALK, KINECT_GAIT
from feeders.locate import open_store
from feeders.store import Store
from feeders.synthetic.walkers import WalkersConfig
from torchlight.embeddings import EmbeddingFile, write_embeddings

FOLDER = RESULTS / "gait"
# As runs call them -> as a table does.
SIZES = {"with_size": "with size", "unit_size": "size divided out"}
_UP = np.array([0.0, 1.0, 0.0])
_STRIDE = 15
_BONES = [(joint, parent) for joint, parent in enumerate(KINECT_GAIT.skeleton.parents) if joint != parent]


def bone_lengths(pose: np.ndarray) -> np.ndarray:
    """(T, V, 3) -> (T, V - 1) metres."""
    child, parent = map(list, zip(*_BONES, strict=True))
    return np.asarray(np.linalg.norm(pose[:, child] - pose[:, parent], axis=-1))


def statistics(pose: np.ndarray, divide_by_size: bool) -> tuple[np.ndarray, np.ndarray]:
    """Median bone lengths of a walk, and those with the spread of poses, their motion and the rhythm of the limbs."""
    index = KINECT_GAIT.skeleton.index
    centre, left, right = index("hip_centre", "left_hip", "right_hip")
    pose = pose - pose[:, [centre]]
    across = pose[:, right] - pose[:, left]
    across[:, 1] = 0
    across = np.stack([np.convolve(across[:, axis], np.ones(_STRIDE) / _STRIDE, "same") for axis in range(3)], axis=1)
    across /= np.linalg.norm(across, axis=1, keepdims=True) + 1e-6
    axes = np.stack([across, np.broadcast_to(_UP, across.shape), np.cross(across, _UP)], axis=1)
    length = bone_lengths(pose)
    size = np.median(length.sum(axis=1)) if divide_by_size else 1.0
    body, length = np.einsum("tij,tvj->tvi", axes, pose) / size, length / size
    parts = [*np.percentile(length, [50, 25, 75], axis=0), body.mean(axis=0), body.std(axis=0)]
    parts += [*np.percentile(body, [10, 90], axis=0), np.diff(body, axis=0).std(axis=0)]
    for joint in index("right_knee", "left_knee", "right_ankle", "left_ankle", "right_hand", "left_hand"):
        ahead = body[:, joint, 2]
        power = np.abs(np.fft.rfft(ahead - ahead.mean(), n=512))[:60].reshape(20, 3).mean(axis=1)
        parts.append(power / (power.sum() + 1e-9))
    return np.median(length, axis=0), np.concatenate([np.ravel(part) for part in parts])


def shrinkage_lda(features: np.ndarray, person: np.ndarray, fit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standardised (N, F) features and their (N, 40) discriminants, fitted on some of the walks."""
    scaled = StandardScaler().fit(features[fit]).transform(features)
    lda = LinearDiscriminantAnalysis(solver="eigen", shrinkage=0.3, n_components=40).fit(scaled[fit], person[fit])
    return scaled, lda.transform(scaled)


def embeddings(bones: np.ndarray, features: np.ndarray, person: np.ndarray, fit: np.ndarray) -> dict[str, np.ndarray]:
    """Baseline name -> one vector a walk, of Euclidean distance, fitted on some of the walks."""
    _, discriminant = shrinkage_lda(features, person, fit)
    return {
        "bone lengths": StandardScaler().fit(bones[fit]).transform(bones),
        "LDA": discriminant / np.linalg.norm(discriminant, axis=1, keepdims=True),
    }


def ranks(vector: np.ndarray, person: np.ndarray, probe: np.ndarray, gallery: np.ndarray) -> dict[str, float]:
    """Rank-1 and Rank-5 in percent."""
    distance = np.linalg.norm(vector[probe][:, None] - vector[gallery][None], axis=-1)
    hit = person[gallery][distance.argsort(axis=1, kind="stable")] == person[probe][:, None]
    return {"rank1": 100 * float(hit[:, 0].mean()), "rank5": 100 * float(hit[:, :5].any(axis=1).mean())}


def lda_file(size: str) -> Path:
    """Where LDA's embeddings of the test walks are kept, of `SIZES`."""
    return FOLDER / f"lda-{size}" / "embeddings" / "test.npz"


def keep_lda(store: Store, size: str, tested: np.ndarray, vector: np.ndarray) -> None:
    """Write (N, D) vectors of the tested walks as a run's embeddings are."""
    walks = walks_of(store, tested)
    file = EmbeddingFile(
        table=walks,
        embedding=vector[:, None].astype(np.float32),
        part_present=np.ones((len(vector), 1), dtype=np.bool_),
        protocols=protocols_of(KINECT_GAIT.name, walks),
        distance="parts/cosine",
        dataset=f"{KINECT_GAIT.name}/{next(iter(KINECT_GAIT.protocols))}",
        split="test",
        modality="gait statistics",
    )
    write_embeddings(lda_file(size), file)


def main() -> None:
    """Print and keep the baselines."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    store = open_store(KINECT_GAIT, None, WalkersConfig())
    index = store.index
    walks = [store.clip(number).pose[..., 0].astype(np.float64) for number in range(len(store))]
    person, is_first = index.subject, index.replication == GALLERY_WALK
    rows: dict[str, dict[str, dict[str, float]]] = {"test": {}, "validation": {}}
    tests = {"test": (person <= 100, person > 100), "validation": (person <= 85, (person > 85) & (person <= 100))}
    for size, shown in SIZES.items():
        pairs = [statistics(walk, divide_by_size=size == "unit_size") for walk in walks]
        bones, features = (np.stack(column) for column in zip(*pairs, strict=True))
        for split, (fit, tried) in tests.items():
            for name, vector in embeddings(bones, features, person, fit).items():
                rows[split][f"{name}, {shown}"] = ranks(vector, person, tried & ~is_first, tried & is_first)
                if (split, name) == ("test", "LDA"):
                    keep_lda(store, size, np.flatnonzero(tried), vector[tried])
    counts = {
        name: {"probes": int((tried & ~is_first).sum()), "gallery": int((tried & is_first).sum())}
        for name, (_, tried) in tests.items()
    }
    payload = {
        "command": "python -m benchmarks.gait_baselines",
        "walks": counts,
        "percent": rows,
        "embeddings": "LDA's: lda-with_size, lda-unit_size",
    }
    write_result("gait/baselines", payload)
    for split, values in rows.items():
        for title, row in values.items():
            print(f"{split:<11}{title:<32}Rank-1 {row['rank1']:.1f}, Rank-5 {row['rank5']:.1f}")


if __name__ == "__main__":
    main()
