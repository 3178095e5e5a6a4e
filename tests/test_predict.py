"""The door ``predict.py`` and what is behind it: a clip of one's own is told what the run's test says of it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import model.class_texts
import predict
from feeders.demo import demo_data
from feeders.skeleton import NTU25
from feeders.store import Recording, StoreWriter, Track
from feeders.synthetic import CLASS_NAMES, SyntheticConfig, film
from main_bpmt import CHAIN
from recipes.answers import fused
from recipes.clip_action import clip_action
from recipes.predict import Predictor, ask
from tests.feeders.penn_files import write_clips
from torchlight.chain import run_chain
from torchlight.checkpoint import load_checkpoint, save_checkpoint
from torchlight.launch import run
from torchlight.metrics.fusion import normalised
from torchlight.scores import ScoreFile, read_scores

ROOT = Path(__file__).parent.parent
RECIPE = clip_action("config/demo/joint.yaml", "actions")
PEOPLE = SyntheticConfig(people=5, repetitions=1)
SMALL = (
    *("--device", "cpu", "model.encoder.width=8", "text.tower=toy", "train.epochs=1"),
    *("train.schedule.warmup_epochs=0", "data.frames=12", "data.validation_subjects=[2]"),
    *("data.synthetic.people=5", "data.synthetic.repetitions=1"),
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache, a data folder and runs, for all tests here."""
    return tmp_path_factory.mktemp("world")


@pytest.fixture(autouse=True)
def _environment(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTCLIP_CACHE", str(world / "cache"))
    monkeypatch.setenv("PARTCLIP_DATA", str(world / "data"))


@pytest.fixture(scope="module")
def trained(world: Path) -> Callable[..., Path]:
    """A run by name, trained when it is first asked for."""

    def train(name: str, *words: str) -> Path:
        folder = world / "runs" / name
        if not folder.exists():
            assert run(RECIPE, ["--work-dir", str(folder), *SMALL, *words]) == 0
        return folder

    return train


@pytest.fixture
def joint(trained: Callable[..., Path]) -> Path:
    return trained("joint", "inference.text_weight=0.5")


@pytest.fixture
def bone(trained: Callable[..., Path]) -> Path:
    return trained("bone", "data.modality=bone", "inference.mirror=true")


@pytest.fixture
def recordings(world: Path, joint: Path) -> Path:
    """The demo's raw files."""
    (folder,) = (path for path in (world / "cache/recordings").iterdir() if path.is_dir())
    return folder


def said_of(scores: ScoreFile, clips: tuple[str, ...]) -> np.ndarray:
    """What a test said of clips, by the stems of their names."""
    row = {name: number for number, name in enumerate(scores.sample_id)}
    return np.stack([scores.logits[row[Path(clip).stem]] for clip in clips])


def door(world: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """The door as a stranger calls it, who has no data and no cache."""
    nothing = str(world / "nothing")
    environment = {**os.environ, "PARTCLIP_CACHE": nothing, "PARTCLIP_DATA": nothing, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "predict.py", *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert not Path(nothing).exists()
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize("stream", ["joint", "bone"])
def test_a_test_clip_is_told_what_the_runs_test_says_alone_or_among_others(
    stream: str, request: pytest.FixtureRequest, recordings: Path
) -> None:
    folder = request.getfixturevalue(stream)
    predictor, scores = Predictor.load(folder), read_scores(folder / "scores/test.npz")
    clips = predictor.read([recordings / f"{name}.skeleton" for name in scores.sample_id])
    everything = predictor.scores(clips)
    np.testing.assert_allclose(everything.logits, said_of(scores, everything.clips), atol=1e-5)
    for clip in clips[:3]:
        np.testing.assert_allclose(predictor.scores([clip]).logits, everything.logits[[clips.index(clip)]], atol=1e-5)
    turned = predictor.scores(clips[::-1])
    assert turned.clips == everything.clips[::-1]
    np.testing.assert_allclose(turned.logits[::-1], everything.logits, atol=1e-5)


@pytest.fixture
def own(world: Path, trained: Callable[..., Path]) -> Path:
    """A run on a store of somebody's own."""
    if not (world / "data/mine").exists():
        facts = {"dataset": "mine", "skeleton": NTU25.name, "class_names": CLASS_NAMES}
        with StoreWriter(world / "data/mine", joints=25, coordinates=3, **facts) as writer:
            for name, bodies in film(PEOPLE):
                tracks = tuple(Track(np.arange(len(joints)), joints) for joints in bodies)
                label, subject = int(name[-3:]) - 1, int(name[9:12])
                writer.add(Recording(name, label, bodies.shape[1], tracks, subject=subject))
    words = ("data.dataset=store", "data.root=mine", "data.test_on={subject: [5]}", "text.tower=none")
    return trained("own", *words)


def test_a_run_on_an_own_store_needs_it_no_more(world: Path, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = read_scores(own / "scores/test.npz")
    of_store = ask([Predictor.load(own)], [world / "data/mine"])
    kept = [row for row, clip in enumerate(of_store.clips) if Path(clip).stem in scores.sample_id]
    clips = tuple(of_store.clips[row] for row in kept)
    np.testing.assert_allclose(of_store.logits[kept], said_of(scores, clips), atol=1e-5)
    monkeypatch.setenv("PARTCLIP_DATA", str(world / "nothing"))
    predictor = Predictor.load(own)
    arrays = [
        predictor.clip(name, bodies.transpose(1, 0, 2, 3)) for name, bodies in film(PEOPLE) if name in scores.sample_id
    ]
    of_arrays = predictor.scores(arrays)
    np.testing.assert_allclose(of_arrays.logits, said_of(scores, of_arrays.clips), atol=1e-5)
    assert of_arrays.answers()[0].parts == {}
    with pytest.raises(ValueError, match="text.tower=none"):
        predictor.embeddings(arrays)


def test_a_run_folder_is_all_there_is_to_a_run(
    tmp_path: Path, joint: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(joint / "last.pt", tmp_path / "last.pt")

    def refuse(*_: object) -> None:
        raise AssertionError("a text model was built")

    monkeypatch.setattr(model.class_texts, "build_tower", refuse)
    monkeypatch.setenv("PARTCLIP_DATA", str(tmp_path / "nothing"))
    monkeypatch.setenv("PARTCLIP_CACHE", str(tmp_path / "nothing"))
    clip = next(iter(sorted(recordings.glob("*.skeleton"))))
    one, other = (ask([Predictor.load(folder)], [clip]) for folder in (joint, tmp_path))
    np.testing.assert_array_equal(one.logits, other.logits)
    assert not (tmp_path / "nothing").exists()


def test_each_part_says_the_text_it_is_nearest_to(joint: Path, recordings: Path) -> None:
    predictor = Predictor.load(joint)
    clips = predictor.read(sorted(recordings.glob("*.skeleton"))[:4])
    scores, embeddings = predictor.scores(clips), predictor.embeddings(clips)
    assert embeddings.slots == scores.slots == ("whole", "torso", "arms", "legs")
    assert embeddings.embedding.shape[:2] == (4, 4)
    assert embeddings.present.all()
    assert predictor.task.texts is not None
    texts = predictor.task.texts.per_class().numpy()
    unit = embeddings.embedding / np.linalg.norm(embeddings.embedding, axis=2, keepdims=True)
    cosine = np.einsum("nsd,ksd->nsk", unit, texts)
    np.testing.assert_allclose(scores.similarity, cosine, atol=1e-5)
    for row, answer in enumerate(scores.answers(top=3)):
        probability = normalised(scores.logits, "softmax")[row]
        assert [each.probability for each in answer.classes] == sorted(probability, reverse=True)[:3]
        for slot, name in enumerate(embeddings.slots):
            said = answer.parts[name]
            assert said is not None
            assert said.cosine == pytest.approx(cosine[row, slot].max(), abs=1e-5)
            assert said.name == CLASS_NAMES[cosine[row, slot].argmax()]


def test_a_part_that_is_not_seen_says_nothing(joint: Path) -> None:
    predictor = Predictor.load(joint)
    joints = np.random.default_rng(0).normal(size=(9, 25, 3))
    joints[:, list(NTU25.parts("torso_arms_legs")["legs"].joints)] = np.nan
    clip = predictor.clip("legless", joints)
    (answer,) = predictor.scores([clip]).answers()
    assert answer.parts["legs"] is None
    assert answer.parts["arms"] is not None
    assert predictor.embeddings([clip]).present.tolist() == [[True, True, True, False]]
    assert sum(each.probability for each in predictor.scores([clip]).answers(top=99)[0].classes) == pytest.approx(1)


@pytest.mark.parametrize("frames", [1, 2, 1000])
def test_clips_of_any_length_are_answered_the_same_alone_or_among_others(joint: Path, frames: int) -> None:
    predictor, draw = Predictor.load(joint), np.random.default_rng(0)
    clip = predictor.clip("clip", draw.normal(0, 0.3, size=(frames, 25, 3)))
    hidden = draw.normal(0, 0.3, size=(7, 2, 25, 3))
    hidden[2:5, 1] = np.nan
    hidden[:, 0, 4] = np.nan
    others = [predictor.clip("hidden", hidden), predictor.clip("other", draw.normal(0, 0.3, size=(30, 2, 25, 3)))]
    batches = replace(
        predictor,
        run=predictor.run.model_copy(
            update={"train": predictor.run.train.model_copy(update={"evaluation_batch_size": 1})}
        ),
    )
    together = predictor.scores([others[0], clip, others[1]]).logits
    assert np.isfinite(together).all()
    np.testing.assert_allclose(predictor.scores([clip]).logits[0], together[1], rtol=1e-6, atol=1e-5)
    one_by_one = batches.scores([others[0], clip, others[1]]).logits
    np.testing.assert_allclose(one_by_one, together, rtol=1e-6, atol=1e-5)


def test_people_beyond_those_that_are_looked_at_are_said(joint: Path, caplog: pytest.LogCaptureFixture) -> None:
    predictor = Predictor.load(joint)
    crowd = np.random.default_rng(0).normal(size=(5, 3, 25, 3))
    pair = predictor.scores([predictor.clip("pair", crowd[:, :2])])
    assert not caplog.messages
    np.testing.assert_array_equal(predictor.scores([predictor.clip("crowd", crowd)]).logits, pair.logits)
    assert "1 clips show more people than the 2 that are looked at, the first: crowd" in caplog.text


def test_the_door_answers_in_a_table_and_in_a_file(
    tmp_path: Path, world: Path, joint: Path, bone: Path, recordings: Path
) -> None:
    first, second, *_ = sorted(recordings.glob("*.skeleton"))
    np.save(tmp_path / "own.npy", np.random.default_rng(0).normal(size=(1, 25, 3)))
    (tmp_path / "broken.skeleton").write_bytes(b"garbage")
    words = (second, tmp_path / "broken.skeleton", first, tmp_path / "own.npy", "--top", "2", "--work-dir", joint)
    done = door(world, *words)
    assert done.returncode == 0, done.stderr
    (warning,) = done.stderr.strip().splitlines()
    assert warning.startswith(f"warning: left out, {tmp_path / 'broken.skeleton'}: got")
    lines = [json.loads(line) for line in (joint / "predicted.jsonl").read_text().splitlines()]
    assert [line["clip"] for line in lines] == [str(second), str(first), str(tmp_path / "own.npy")]
    for line in lines:
        best, *_ = line["classes"]
        assert f"{line['clip']}" in done.stdout
        assert f"{best['name']} {100 * best['probability']:.1f}" in done.stdout
        assert len(line["classes"]) == 2
        assert list(line["parts"]) == ["whole", "torso", "arms", "legs"]
        assert f"arms: {line['parts']['arms']['name']} {line['parts']['arms']['cosine']:.2f}" in done.stdout
    both = door(world, first, "--work-dir", joint, "--work-dir", bone, "--out", tmp_path / "both.jsonl")
    assert both.returncode == 0, both.stderr
    (line,) = (json.loads(line) for line in (tmp_path / "both.jsonl").read_text().splitlines())
    each = [normalised(said_of(read_logits(folder, first), (str(first),)), "softmax")[0] for folder in (joint, bone)]
    expected = np.mean(each, axis=0)
    assert line["classes"][0]["name"] == CLASS_NAMES[expected.argmax()]
    assert line["classes"][0]["probability"] == pytest.approx(expected.max(), abs=1e-5)


def read_logits(folder: Path, clip: Path) -> ScoreFile:
    """What a run says of a clip, as a score file."""
    scores = ask([Predictor.load(folder)], [clip])
    return ScoreFile((clip.stem,), scores.logits, np.zeros(1, dtype=np.int64), scores.class_names)


def test_bad_input_is_one_clear_line(tmp_path: Path, joint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    none = tmp_path / "none"
    clip = tmp_path / "clip.npy"
    np.save(clip, np.zeros((4, 20, 3)))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/last.pt").write_bytes(b"garbage")
    train = f"python main_clip_ntu.py --config config/demo/joint.yaml --work-dir {none}"
    cases: dict[tuple[str | Path, ...], str] = {
        (clip, "--work-dir", none): f"{none}: got no trained run, expected a folder with one; train it: {train}",
        (clip,): "--work-dir",
        ("--work-dir", joint): "FILE",
        (clip, "--work-dir", joint, "--top", "0"): "--top",
        (clip, "--work-dir", joint, "--device", "gpu"): "device: got 'gpu'",
        (clip, "--work-dir", joint, "--image-size", "9", "9"): "--image-size: got it for NTU25",
        (clip, "--work-dir", tmp_path / "damaged"): "last.pt",
    }
    for words, says in cases.items():
        assert predict.main(list(map(str, words))) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert line.startswith("error: "), words
        assert says in line
    assert not none.exists()


def test_where_no_clip_is_left_the_door_says_so_after_the_reasons(tmp_path: Path, world: Path, joint: Path) -> None:
    clip = tmp_path / "clip.npy"
    np.save(clip, np.zeros((4, 20, 3)))
    done = door(world, clip, tmp_path / "nowhere.npy", "--work-dir", joint, "--out", tmp_path / "out.jsonl")
    assert done.returncode == 2
    of_clip, of_nothing, error = done.stderr.strip().splitlines()
    assert of_clip.startswith(f"warning: left out, {clip}: got float64 of shape (4, 20, 3), expected numbers of shape")
    assert of_clip.endswith("right_hand_tip, right_thumb")
    assert "no such file or folder" in of_nothing
    assert error == f"error: {clip}: got no clip that can be read, expected one at least"
    assert not (tmp_path / "out.jsonl").exists()


def test_runs_that_tell_other_things_apart_are_not_asked_together(
    tmp_path: Path, joint: Path, recordings: Path
) -> None:
    checkpoint = load_checkpoint(joint / "last.pt")
    names = tuple(reversed(checkpoint.class_names))
    extra = {**checkpoint.extra, "class_names": list(names)}
    save_checkpoint(tmp_path / "last.pt", replace(checkpoint, class_names=names, extra=extra))
    predictors = [Predictor.load(folder) for folder in (joint, tmp_path)]
    with pytest.raises(ValueError, match="expected the same classes and skeleton"):
        ask(predictors, [recordings])
    one = predictors[0].scores([predictors[0].clip("clip", np.ones((3, 25, 3)))])
    with pytest.raises(ValueError, match="different clips or classes"):
        fused([one, replace(one, clips=("another",))])


def test_runs_of_other_kinds_are_refused_by_name(tmp_path: Path, joint: Path) -> None:
    checkpoint = load_checkpoint(joint / "last.pt")
    for key, says in (
        ("walks_each", "main_gait.py --phase identify"),
        ("stage", "a stage of pretraining"),
        ("dta", "got config dta 1"),
    ):
        save_checkpoint(tmp_path / "last.pt", replace(checkpoint, config={**checkpoint.config, key: 1}))
        with pytest.raises(ValueError, match=says):
            Predictor.load(tmp_path)
    train = {**checkpoint.config["train"], "select": {"name": "best", "metric": "val/top1"}}
    save_checkpoint(tmp_path / "last.pt", replace(checkpoint, config={**checkpoint.config, "train": train}))
    with pytest.raises(FileNotFoundError, match="best.pt"):
        Predictor.load(tmp_path)


def test_a_chain_of_transformers_and_a_zero_shot_run_answer_as_they_are_tested(
    world: Path, trained: Callable[..., Path], recordings: Path
) -> None:
    words = ("--config", str(ROOT / "config/demo/iip.yaml"), "model.encoder.heads=2", "model.encoder.layers=1")
    assert run_chain(CHAIN, [*words, "--work-dir", str(world / "runs/iip"), *SMALL]) == 0
    unseen = ("data.zero_shot=demo_12_4", "--phase", "train", "zeroshot")
    for folder, place in ((world / "runs/iip", "finetune"), (trained("zero_shot", *unseen), ".")):
        scores = read_scores(folder / place / "scores/test.npz")
        said = ask([Predictor.load(folder)], [recordings / f"{name}.skeleton" for name in scores.sample_id])
        assert said.class_names == demo_data(PEOPLE).class_names
        np.testing.assert_allclose(said.logits, said_of(scores, said.clips), atol=1e-5)


def test_hidden_joints_in_images_go_the_runs_own_way(
    tmp_path: Path, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = world / "data/penn_action/labels"
    write_clips(raw, clips=27)
    config = ("--config", str(ROOT / "config/penn-action/lst_joint.yaml"))
    small = [word for word in SMALL if not word.startswith("data.v")]
    assert run(RECIPE, [*config, "--work-dir", str(tmp_path), *small, "train.batch_size=8"]) == 0
    scores = read_scores(tmp_path / "scores/test.npz")
    monkeypatch.setenv("PARTCLIP_DATA", str(tmp_path / "nothing"))
    said = ask([Predictor.load(tmp_path)], [raw / f"{name}.mat" for name in scores.sample_id])
    np.testing.assert_allclose(said.logits, said_of(scores, said.clips), atol=1e-5)


def test_a_file_over_which_its_reader_dies_is_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from feeders import clip_files
    from feeders.prepare import penn
    from feeders.skeleton import PENN13

    monkeypatch.setattr(clip_files.penn, "SOURCE", replace(penn.SOURCE, unlabelled=_die))
    reader = clip_files.ClipReader(PENN13, clip_files.penn.SOURCE)
    (tmp_path / "deadly.mat").write_bytes(b"deadly")
    assert reader.read([tmp_path / "deadly.mat"]) == []
    assert "deadly.mat: got a file over which its reader died" in caplog.text


def _die(name: str, content: bytes) -> None:
    os._exit(1)


def test_loading_a_run_leaves_no_gradient_and_no_training_mode(joint: Path) -> None:
    predictor = Predictor.load(joint)
    assert not predictor.task.training
    before = torch.are_deterministic_algorithms_enabled()
    embeddings = predictor.embeddings([predictor.clip("clip", np.ones((3, 25, 3)))])
    assert embeddings.embedding.dtype == np.float32
    assert torch.are_deterministic_algorithms_enabled() == before
