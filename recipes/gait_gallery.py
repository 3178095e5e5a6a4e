"""What a trained gait network is used for: enrol people with names, and say who a walk may be of."""

import json
import logging
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from feeders.gait.loading import EvaluationWalks, GaitPipeline
from feeders.gait.walk_files import depths, store_of_files
from feeders.locate import own_store
from feeders.skeleton import skeleton_named
from recipes.gait_asked import asked
from recipes.gait_retrieval import THRESHOLDS, GaitRun
from torchlight.arrays import some
from torchlight.atomic import write_atomically
from torchlight.config import config_differences, plain_config
from torchlight.distributed import barrier, is_main
from torchlight.evaluation import predict
from torchlight.gallery import Gallery, Match, Threshold, read_gallery, write_gallery
from torchlight.launch import Trained
from torchlight.task import Prediction

logger = logging.getLogger(__name__)

_UNKNOWN = "unknown"
_SHOWN = 20  # answers on the screen; the file has all


def enrol(trained: Trained[GaitRun]) -> None:
    """Make the run's gallery, or add to it: of the files asked for, else of the test split's gallery walks."""
    run = trained.config
    if (learned := trained.checkpoint.config["retrieval"]["false_alarms"]) != run.retrieval.false_alarms:
        raise ValueError(
            f"retrieval.false_alarms: got {run.retrieval.false_alarms}, expected {learned} as when it was trained: the "
            "threshold is fixed at the end of training"
        )
    prediction, names, is_gallery = _walks(trained, run.enrol.walks, "gallery")
    if not is_main():
        return barrier()
    if run.enrol.person is not None:
        names = [run.enrol.person] * len(names)
        ids = tuple(f"{run.enrol.person}/{walk}" for walk in prediction.sample_ids)
        prediction = replace(prediction, sample_ids=ids)
    if _UNKNOWN in names:
        raise ValueError(f"enrol: got a person called {_UNKNOWN}, expected another name, as strangers are called so")
    strangers = () if run.enrol.walks else run.enrol.leave_out
    rows = [row for row in np.flatnonzero(is_gallery) if names[row] not in strangers]
    path = trained.run_dir.gallery
    former = _gallery_in_use(trained, path) if run.enrol.add else None
    said = {name: fact for name, fact in trained.checkpoint.extra.items() if name != THRESHOLDS}
    new = Gallery(
        names=tuple(names[row] for row in rows),
        sample_id=tuple(prediction.sample_ids[row] for row in rows),
        embedding=prediction.outputs["embedding"].numpy()[rows],
        present=prediction.outputs["present"].numpy()[rows],
        distance=run.retrieval.distance,
        checkpoint_sha=trained.sha,
        config=plain_config(run),
        facts={"dataset": trained.loaders.dataset, "modality": trained.loaders.modality, **said},
    )
    gallery = new if former is None else former.joined(new)
    gallery = replace(gallery, threshold=_threshold(trained, max(Counter(gallery.names).values())))
    if former is None and path.exists():
        logger.warning("%s: replaced; enrol.add=true adds to what is there", path)
    write_gallery(path, gallery)
    people = sorted(set(gallery.names))
    _say(
        f"enrolled {len(people)} people ({some(people)}) by {len(gallery.names)} walks in {path}; "
        f"{_told(gallery.threshold)}{_otherwise(run, trained.checkpoint.config)}"
    )
    return barrier()


def identify(trained: Trained[GaitRun]) -> None:
    """Say who is seen in the files asked for, else in the test split's probes: the nearest people, or nobody known."""
    run = trained.config
    path = run.identify.gallery or trained.run_dir.gallery
    gallery = _gallery_in_use(trained, path)
    prediction, names, is_probe = _walks(trained, run.identify.walks, "probes")
    if not is_main():
        return barrier()
    rows = np.flatnonzero(is_probe)
    if not len(rows):
        raise ValueError(
            "identify: got no probes in the test split, expected some; --phase identify FILE ... names walks"
        )
    embedding, present = (prediction.outputs[name].numpy()[rows] for name in ("embedding", "present"))
    nearest = gallery.nearest(embedding, present, run.identify.people, run.identify.index)
    answers = [_answer(gallery, matches) for matches in nearest]
    walks = [prediction.sample_ids[row] for row in rows]
    _say(f"{len(walks)} walks, {len(set(gallery.names))} people in {path}; {_told(gallery.threshold)}")
    kept = trained.run_dir.root / "identified.jsonl"
    each = list(zip(walks, answers, nearest, strict=True))
    lines = [{"walk": walk, "answer": answer, "nearest": list(map(asdict, found))} for walk, answer, found in each]
    write_atomically(kept, "".join(json.dumps(line) + "\n" for line in lines).encode())
    width, wide = max(map(len, walks)), max(map(len, answers))
    for walk, answer, matches in each[:_SHOWN]:
        found = ", ".join(f"{match.name} {match.distance:.4g}" for match in matches)
        _say(f"{walk:<{width}}  {answer:<{wide}}  nearest: {found or 'nobody with a part in common'}")
    if len(walks) > _SHOWN:
        _say(f"... all of them in {kept}")
    if not run.identify.walks:
        _say(_summary(answers, [names[row] for row in rows], set(gallery.names)))
    return barrier()


def _gallery_in_use(trained: Trained[GaitRun], path: Path) -> Gallery:
    """A gallery made by these weights with these settings; any other is refused."""
    gallery = read_gallery(path)
    gallery.refuse_others(trained.sha, str(path))
    if differs := _otherwise(trained.config, gallery.config):
        raise ValueError(f"{path}: got a gallery enrolled with other settings{differs}; enrol again (--phase enrol)")
    return gallery


def _walks(trained: Trained[GaitRun], files: Sequence[Path], side: str) -> tuple[Prediction, list[str], np.ndarray]:
    """Embeddings, whose walks these are said to be, and (N,) bool which count: files all, else a protocol's side."""
    run, precision = trained.config, trained.config.train.precision
    if not files:
        prediction = predict(trained.task, trained.loaders.evaluation["test"], side, trained.device, precision)
        test = asked(trained.loaders, "test")
        counts = np.zeros(len(prediction), dtype=np.bool_)
        counts[test.order(prediction)[getattr(test.protocols[0], side)]] = True
        names = trained.loaders.extra["identities"]
    else:
        with TemporaryDirectory() as folder:
            own = own_store(run.data.root) if run.data.dataset == "store" else None
            if own and side == "gallery" and run.enrol.person is None and len(depths(own)) > 1:
                raise ValueError(
                    f"{files[0]}: got a path whose person is anybody's guess, as names in {own.folder} are of "
                    f"{' or '.join(map(str, sorted(depths(own))))} parts; expected enrol.person=NAME"
                )
            store = store_of_files(own.header.dataset if own else run.data.dataset, files, Path(folder), own)
            if store.header.skeleton != trained.loaders.skeleton:
                raise ValueError(
                    f"{files[0]}: got walks of {store.skeleton.name}, expected "
                    f"{skeleton_named(trained.loaders.skeleton).name} as learned"
                )
            pipeline = GaitPipeline(store, store.skeleton, run.data)
            loader = EvaluationWalks(pipeline, np.arange(len(store)), run.train.evaluation_batch_size)
            prediction = predict(trained.task, loader, side, trained.device, precision)
        counts, names = np.ones(len(prediction), dtype=np.bool_), store.header.class_names
    return prediction, [names[label] for label in prediction.labels.tolist()], counts


def _threshold(trained: Trained[GaitRun], walks: int) -> Threshold | None:
    """What was fixed on validation people, where some were held out, for so many walks of each or as many as they have.

    None too where embeddings or distances are not those that it was fixed for.
    """
    fixed = trained.checkpoint.extra.get(THRESHOLDS)
    if not fixed or _otherwise(trained.config, trained.checkpoint.config):
        return None
    return Threshold(**fixed[min(walks, len(fixed)) - 1])


def _otherwise(run: GaitRun, saved: Mapping[str, Any]) -> str:
    """What a saved config says otherwise of how a walk becomes an embedding, and of distances; empty for nothing."""
    differences = config_differences(run, saved).items()
    told = [
        f"{key}: {now!r} now, {then!r} then"
        for key, (now, then) in differences
        if key.startswith(run.acts_on_embeddings)
    ]
    return f" ({'; '.join(told)})" if told else ""


def _told(threshold: Threshold | None) -> str:
    if threshold is None:
        return (
            "nobody is called a stranger, as no threshold was fixed: train with validation people, and enrol as trained"
        )
    return (
        f"beyond {threshold.distance:.4g} nobody is known: with {threshold.walks} of the walks of each of "
        f"{threshold.people} validation people enrolled this found {100 * threshold.detected:.1f} % of their other "
        f"{threshold.probes}, and took {100 * threshold.false_alarms:.1f} % of these for somebody else when their own "
        "person was not enrolled, chosen on these very walks"
    )


def _answer(gallery: Gallery, matches: Sequence[Match]) -> str:
    return _UNKNOWN if gallery.is_stranger(matches) or not matches else matches[0].name


def _summary(answers: Sequence[str], truth: Sequence[str], enrolled: set[str]) -> str:
    """How many walks of enrolled people, and of strangers, were told right."""
    of_enrolled = [(answer, name) for answer, name in zip(answers, truth, strict=True) if name in enrolled]
    of_strangers = [answer for answer, name in zip(answers, truth, strict=True) if name not in enrolled]
    found = sum(answer == name for answer, name in of_enrolled)
    unknown = sum(answer == _UNKNOWN for answer, _ in of_enrolled)
    return (
        f"of {len(of_enrolled)} walks of people enrolled {found} were found, {unknown} called unknown and "
        f"{len(of_enrolled) - found - unknown} taken for another; of {len(of_strangers)} walks of strangers "
        f"{of_strangers.count(_UNKNOWN)} were called unknown"
    )


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
