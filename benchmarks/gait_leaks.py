"""What leaked in the thesis' gait baseline, and by how much each leak moves Rank-1, on real walks (KinectGait).

    export PARTCLIP_DATA=...                        # the folder that holds kinect_gait/Data
    rm benchmarks/results/gait/tlca-with_size-plain-0.json     # what is kept counts as finished
    python -m benchmarks.gait_runs --only tlca-with_size-plain-0   # the network whose padding is let in below
    python -m benchmarks.gait_leaks

One fault at a time. ``people``: LDA on gait statistics also fitted on some of the test people, as 7 of the thesis' 27
were. ``galleries``: the same embeddings asked to tell fewer people apart. ``crops``: each walk projected as one of ten
cameras of their own scale would crop it; a person is seen by two of them. ``padding``: the thesis' network (T1, T2,
cross-attention, mean over time) fed batches padded with zeros that it takes for frames. All tested on Person101-164.
"""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.gait_baselines import embeddings, shrinkage_lda, statistics
from benchmarks.gait_runs import Run, lda_alone
from benchmarks.measure import environment, write_result
from feeders.kinect_gait import GALLERY_WALK, KINECT_GAIT
from feeders.locate import open_store
from feeders.store import Store
from feeders.synthetic.walkers import WalkersConfig
from model.parts import pool_slots
from recipes.gait_retrieval import GaitRun, gait_loaders, gait_task
from torchlight.checkpoint import load_checkpoint, load_state
from torchlight.config import load_config
from torchlight.embeddings import read_embeddings

Rows = list[dict[str, Any]]

LEAKED_OF_THESIS = 7 / 27
DRAWS = 20
CAMERAS, MARGIN, JITTER = 10, 0.1, 0.02


def rank1(distance: np.ndarray, person: np.ndarray, allowed: np.ndarray) -> float:
    """Percent of the walks whose nearest allowed walk is of the same person; those without a match count for nothing.

    Shapes:
        distance, allowed: (N, N) from probes to gallery; person: (N,)
    """
    allowed = allowed & ~np.eye(len(person), dtype=bool)
    can_match = (allowed & (person[:, None] == person)).any(axis=1)
    nearest = np.where(allowed, distance, np.inf).argmin(axis=1)
    return 100 * float((person[nearest] == person)[can_match].mean())


def between(vector: np.ndarray) -> np.ndarray:
    """(N, N) Euclidean distances of (N, D)."""
    return np.asarray(np.linalg.norm(vector[:, None] - vector[None], axis=-1))


def protocols(person: np.ndarray, walk: np.ndarray) -> dict[str, np.ndarray]:
    """Name -> (N, N) which walks a probe may be found among."""
    everything = np.ones((len(person), len(person)), dtype=bool)
    is_first = walk == GALLERY_WALK
    return {"each walk against all others": everything, "gallery walk 1": ~is_first[:, None] & is_first[None]}


def people(store: Store) -> Rows:
    """LDA fitted on Person001-100 alone, and on some or all of those it is tested on besides."""
    person, walk = store.index.subject, store.index.replication
    pairs = [statistics(store.clip(n).pose[..., 0].astype(np.float64), divide_by_size=False) for n in range(len(store))]
    bones, features = (np.stack(column) for column in zip(*pairs, strict=True))
    tested = person > 100
    strangers = np.unique(person[tested])
    rng = np.random.default_rng(0)
    some = [rng.choice(strangers, round(LEAKED_OF_THESIS * len(strangers)), replace=False) for _ in range(DRAWS)]
    learned = {"nobody": [np.array([])], "7 of 27": some, "all": [strangers]}
    rows: Rows = []
    for title, leaks in learned.items():
        found: dict[str, list[float]] = {}
        for leaked in leaks:
            vector = embeddings(bones, features, person, ~tested | np.isin(person, leaked))["LDA"][tested]
            is_leaked = np.isin(person[tested], leaked)
            for protocol, allowed in protocols(person[tested], walk[tested]).items():
                for who, asked in (
                    ("everyone", np.ones_like(is_leaked)),
                    ("leaked", is_leaked),
                    ("strangers", ~is_leaked),
                ):
                    if asked.any():
                        value = rank1(between(vector), person[tested], allowed & asked[:, None])
                        found.setdefault(f"{protocol}, {who}", []).append(value)
        rows += [{"learned of the test people": title, "asked": asked} | _spread(v) for asked, v in found.items()]
    return rows


def galleries() -> Rows:
    """Rank-1 of embeddings that stay as they are, among fewer people."""
    run = Run("ctrgcn", "with_size", "", 0)
    file = read_embeddings(run.scores)
    everyone = np.arange(len(file.table))
    spaces = {"LDA": lda_alone(run, file), "CTR-GCN": file.space()}
    distance = {name: space.between(everyone, everyone).rows(0, len(everyone))[0] for name, space in spaces.items()}
    person = file.table.identity
    walk = np.array([int(name.rpartition("/")[2]) for name in file.table.sample_id])
    rng, rows = np.random.default_rng(0), list[dict[str, Any]]()
    names = np.unique(person)
    for count in (4, 8, 16, 27, 50, len(names)):
        chosen = [rng.choice(names, count, replace=False) for _ in range(10 * DRAWS)]
        for name, far in distance.items():
            values = []
            for few in chosen:
                is_in = np.isin(person, few)
                allowed = protocols(person[is_in], walk[is_in])["gallery walk 1"]
                values.append(rank1(far[np.ix_(is_in, is_in)], person[is_in], allowed))
            rows.append({"people": count, "embeddings": name, "chance": round(100 / count, 1)} | _spread(values))
    return rows


def crops(store: Store) -> Rows:
    """Joints in crop pixels as they are, and normalised; nearest walk of any camera, and of another camera only."""
    person, walk = store.index.subject, store.index.replication
    rng = np.random.default_rng(0)
    scale = 300 * np.exp(0.4 * rng.standard_normal(CAMERAS))
    pairs = {name: rng.choice(CAMERAS, 2, replace=False) for name in np.unique(person).tolist()}
    camera = np.array([pairs[name][0 if number <= 3 else 1] for name, number in zip(person, walk, strict=True)])
    features: dict[str, list[np.ndarray]] = {"crop pixels": [], "normalised": []}
    for number in range(len(store)):
        pose = store.clip(number).pose[..., 0].astype(np.float64)
        # A joint at the sensor itself was not seen.
        pose = pose[(pose[..., 2] > 0).all(axis=1)]
        plane = scale[camera[number]] * pose[..., :2] / pose[..., 2:] * [1.0, -1.0]
        low, high = plane.min(axis=1, keepdims=True), plane.max(axis=1, keepdims=True)
        size = (high - low) * (1 + JITTER * rng.standard_normal((len(plane), 1, 2)))
        in_crop = plane - low + MARGIN * size
        upright = (plane - plane.mean(axis=1, keepdims=True)) / (high - low)[..., 1:]
        for name, seen in (("crop pixels", in_crop), ("normalised", upright)):
            flat = seen.reshape(len(seen), -1)
            features[name].append(np.concatenate([flat.mean(axis=0), flat.std(axis=0)]))
    tested, rows = person > 100, list[dict[str, Any]]()
    other = camera[tested][:, None] != camera[tested][None]
    for name, found in features.items():
        scaled, learned = shrinkage_lda(np.stack(found), person, ~tested)
        for way, vector in (("nearest", scaled), ("LDA", learned)):
            distance = between(vector[tested])
            values = {
                "any camera": rank1(distance, person[tested], np.ones_like(other)),
                "another camera": rank1(distance, person[tested], other),
            }
            same = camera[tested][np.where(np.eye(len(distance), dtype=bool), np.inf, distance).argmin(axis=1)]
            values["nearest walk is of the same camera"] = 100 * float((same == camera[tested]).mean())
            rows.append({"input": name, "found by": way} | {key: round(value, 1) for key, value in values.items()})
    return rows


def padding() -> Rows:
    """A trained TLCA's embeddings of whole walks alone, and in shuffled batches whose zeros it takes for frames."""
    run = Run("tlca", "with_size", "", 0)
    weights = run.folders[-1] / "last.pt"
    if not weights.exists():
        raise FileNotFoundError(
            f"{weights}: not there; make it: delete {run.result}, then python -m benchmarks.gait_runs --only {run.name}"
        )
    config = load_config(GaitRun, [run.folders[-1] / "config.yaml"], [])
    checkpoint = load_checkpoint(weights)
    loaders = gait_loaders(config, ["test"])
    task = gait_task(config, loaders, checkpoint)
    load_state(task, checkpoint.weights, str(weights))
    task.eval()
    pipeline, samples = loaders.evaluation["test"].pipeline, loaders.evaluation["test"].samples  # type: ignore[attr-defined]
    walks = [
        pipeline.evaluation(samples[n : n + 1], int(pipeline.store.index.frames[sample]))
        for n, sample in enumerate(samples)
    ]
    person, walk = pipeline.store.index.subject[samples], pipeline.store.index.replication[samples]
    embed = _embedder(task.network, walks)
    rng, rows = np.random.default_rng(0), list[dict[str, Any]]()
    alone = embed([[n] for n in range(len(walks))])
    for size in (1, 4, 16):
        values: dict[str, list[float]] = {}
        for _ in range(1 if size == 1 else DRAWS // 4):
            order = rng.permutation(len(walks))
            vector = embed([order[start : start + size].tolist() for start in range(0, len(order), size)])
            moved = np.linalg.norm(vector - alone, axis=1) / np.linalg.norm(alone, axis=1)
            values.setdefault("moved by, % of its length", []).append(100 * float(np.median(moved)))
            for protocol, allowed in protocols(person, walk).items():
                values.setdefault(protocol, []).append(rank1(between(vector), person, allowed))
        rows += [{"walks in a batch": size, "measured": name} | _spread(found) for name, found in values.items()]
    return rows


def _embedder(network: Any, walks: list[Any]) -> Callable[[list[list[int]]], np.ndarray]:
    """Batches of walk numbers -> the whole body's vector of each walk, padded frames taken for frames."""

    def embed(batches: list[list[int]]) -> np.ndarray:
        vectors: dict[int, np.ndarray] = {}
        for batch in batches:
            longest = max(walks[n].pose.shape[2] for n in batch)
            pose = torch.zeros(len(batch), walks[0].pose.shape[1], longest, *walks[0].pose.shape[3:])
            for row, n in enumerate(batch):
                pose[row, :, : walks[n].pose.shape[2]] = walks[n].pose[0]
            there = torch.ones(len(batch), longest, dtype=torch.bool)
            weight = torch.ones(len(batch), longest, *pose.shape[3:])
            with torch.no_grad():
                tokens = network.encoder(pose, weight, torch.ones(len(batch), 1, dtype=torch.bool), there)
                whole = network.whole_projection(pool_slots(tokens).whole())
            vectors |= {n: vector.numpy() for n, vector in zip(batch, whole, strict=True)}
        return np.stack([vectors[n] for n in range(len(walks))])

    return embed


def _spread(values: list[float]) -> dict[str, float]:
    return {"mean": round(float(np.mean(values)), 1), "spread": round(float(np.std(values)), 1)}


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("people", "galleries", "crops", "padding"), help="one of the faults")
    only = parser.parse_args().only
    store = open_store(KINECT_GAIT, None, WalkersConfig())
    ways: dict[str, Callable[[], Rows]] = {
        "people": lambda: people(store),
        "galleries": galleries,
        "crops": lambda: crops(store),
        "padding": padding,
    }
    print(environment())
    found = {}
    for name, measure in ways.items():
        if only in (None, name):
            found[name] = measure()
            print(name)
            for row in found[name]:
                print("  " + ", ".join(f"{key} {value}" for key, value in row.items()))
    if only is None:
        print(write_result("gait_leaks", found))


if __name__ == "__main__":
    main()
