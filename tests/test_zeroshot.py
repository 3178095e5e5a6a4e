"""The phase ``zeroshot`` of the action door, on a small simulation with the toy text tower."""

import json
from pathlib import Path

import pytest

from feeders.demo import demo_data
from feeders.synthetic import CLASS_NAMES, SyntheticConfig
from recipes.clip_action import clip_action
from torchlight.checkpoint import load_checkpoint
from torchlight.launch import run
from torchlight.scores import read_scores

RECIPE = clip_action("config/demo/zeroshot.yaml", "zero-shot")
SMALL = (
    *("--device", "cpu", "model.encoder.width=8", "data.frames=8", "data.synthetic.people=5", "text.tower=toy"),
    *("data.synthetic.repetitions=1", "data.validation_subjects=[2]", "train.epochs=1"),
    "train.schedule.warmup_epochs=0",
)
UNSEEN = {"clap", "shake head", "stamp foot", "high five"}
PLAIN = ("data.zero_shot=null", "--phase", "train", "test")


def door(work_dir: Path, *words: str | Path) -> int:
    return run(RECIPE, [*SMALL, "--work-dir", str(work_dir), *map(str, words)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("zeroshot")


@pytest.fixture(scope="module", autouse=True)
def _cache(folder: Path) -> pytest.MonkeyPatch:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARTCLIP_CACHE", str(folder / "cache"))
        yield patch


@pytest.fixture(scope="module")
def zero_shot(folder: Path) -> Path:
    assert door(folder / "run") == 0
    return folder / "run"


@pytest.fixture(scope="module")
def plain(folder: Path) -> Path:
    assert door(folder / "plain", *PLAIN) == 0
    return folder / "plain"


def test_unseen_classes_have_a_neighbour_that_is_learned_from() -> None:
    unseen = demo_data(SyntheticConfig()).unseen_classes("demo_12_4")
    assert {CLASS_NAMES[number] for number in unseen} == UNSEEN


def test_the_row_has_every_number_with_its_interval_and_chance(zero_shot: Path) -> None:
    (row,) = (json.loads(line) for line in (zero_shot / "metrics.jsonl").read_text().splitlines() if "zsl" in line)
    measured = ("zsl_top1", "seen_top1", "gzsl_seen", "gzsl_unseen", "harmonic", "plain_harmonic")
    for name in measured:
        assert 0 <= row[f"test/{name}_low"] <= row[f"test/{name}"] <= row[f"test/{name}_high"] <= 100
    assert (row["test/zsl_chance"], row["test/gzsl_chance"]) == (25, 6.25)
    assert "test/top1" not in row


def test_training_saw_seen_classes_only_and_the_checkpoint_knows_all(zero_shot: Path) -> None:
    checkpoint = load_checkpoint(zero_shot / "last.pt")
    assert checkpoint.class_names == CLASS_NAMES
    assert set(checkpoint.extra["learned_classes"]) == set(CLASS_NAMES) - UNSEEN
    assert checkpoint.task["network.classifier.weight"].shape[0] == 12
    assert checkpoint.task["texts.pool"].shape[0] == 16
    assert "demo/unseen_people_and_cameras: train 48, val 24, test 32" in (zero_shot / "log.txt").read_text()
    scores = read_scores(zero_shot / "scores" / "test.npz")
    assert scores.logits.shape == (32, 16)
    assert {CLASS_NAMES[label] for label in scores.labels} == set(CLASS_NAMES)


def test_the_phase_alone_repeats_the_numbers(zero_shot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (zero_shot / "metrics.jsonl").read_text()
    assert door(zero_shot, "--phase", "zeroshot") == 0
    assert (zero_shot / "metrics.jsonl").read_text() == before
    said = capsys.readouterr().out
    for expected in (
        "zsl_top1",
        "harmonic",
        "unseen classes of demo_12_4 among themselves, chance 25.00 %",
        "chance 6.25",
    ):
        assert expected in said


def fails(capsys: pytest.CaptureFixture[str], work_dir: Path, *words: str | Path) -> str:
    assert door(work_dir, *words) == 2
    *_, line = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    return line


def test_a_checkpoint_that_has_learned_unseen_classes_is_refused(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for phase in (("zeroshot",), ("train", "zeroshot")):
        line = fails(capsys, tmp_path, "--phase", *phase, "--weights", plain / "last.pt")
        assert "has learned from clap, high five, shake head, stamp foot (4 classes" in line
        assert "demo_12_4 keeps unseen" in line


def test_zero_shot_weights_are_not_tested_as_if_they_knew_every_class(
    zero_shot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = fails(capsys, tmp_path, "data.zero_shot=null", "--phase", "test", "--weights", zero_shot / "last.pt")
    assert "has not learned clap, high five, shake head, stamp foot" in line


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("text.tower=none",), "text.tower: got none with data.zero_shot=demo_12_4"),
        (("inference.text_weight=1",), "inference.text_weight: got 1.0 with data.zero_shot=demo_12_4"),
        (("--phase", "train", "test"), "expected phase zeroshot in its place"),
        (("data.zero_shot=null",), "data.zero_shot: got null with phase zeroshot, expected one of demo_12_4"),
        (("data.zero_shot=ntu60_55_5",), "data.zero_shot: got 'ntu60_55_5', expected one of ['demo_12_4'] for demo"),
    ],
)
def test_what_cannot_be_is_one_line(
    words: tuple[str, ...], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in fails(capsys, tmp_path, *words)
