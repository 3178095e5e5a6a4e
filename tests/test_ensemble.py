"""The door ``ensemble.py``, end to end."""

import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ensemble
from torchlight.embeddings import EmbeddingFile, read_embeddings, write_embeddings
from torchlight.metrics.protocol import RetrievalProtocol, SampleTable, roles
from torchlight.scores import ScoreFile, read_scores, write_scores

ROOT = Path(__file__).resolve().parents[1]
MODALITIES = ("joint", "bone", "joint_motion", "bone_motion")
STREAMS = [part for name in MODALITIES for part in (f"--{name.replace('_', '-')}-dir", name)]


def scores(modality: str, split: str, strength: float, seed: int, count: int = 60) -> ScoreFile:
    generator = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % 6
    logits = generator.normal(size=(count, 6)) + strength * np.eye(6)[labels]
    order = generator.permutation(count)
    return ScoreFile(
        sample_id=tuple(f"{split}-{row}" for row in order),
        logits=logits[order].astype(np.float32),
        labels=labels[order],
        class_names=("a", "b", "c", "d", "e", "f"),
        dataset="ucla",
        split=split,
        modality=modality,
        checkpoint_sha=f"{seed}",
    )


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for seed, (modality, strength) in enumerate(zip(MODALITIES, (3.0, 2.0, 0.5, 0.0), strict=True)):
        for split in ("val", "test"):
            write_scores(tmp_path / modality / "scores" / f"{split}.npz", scores(modality, split, strength, seed))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fails(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert ensemble.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_four_folders_fuse_from_the_command_line(runs: Path) -> None:
    command = [sys.executable, str(ROOT / "ensemble.py"), *STREAMS, "--datasets", "ucla"]
    done = subprocess.run(command, cwd=runs, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for expected in ("ucla, split test: 60 samples, 6 classes", "weights: equal", "bone_motion", "fused", "mean_class"):
        assert expected in done.stdout
    fused = read_scores(runs / "work_dir" / "ensemble" / "test.npz")
    assert (fused.dataset, fused.split, fused.modality) == ("ucla", "test", "+".join(MODALITIES))
    naive = {name: 0.0 for name in fused.sample_id}
    for modality in MODALITIES:
        stream = read_scores(runs / modality / "scores" / "test.npz")
        for name, row in zip(stream.sample_id, stream.logits.astype(float), strict=True):
            naive[name] = naive[name] + np.exp(row) / np.exp(row).sum() / 4
    np.testing.assert_allclose(np.exp(fused.logits), [naive[name] for name in fused.sample_id], rtol=1e-5)


def test_bad_input_from_the_command_line_is_one_line_and_exit_code_2(runs: Path) -> None:
    command = [sys.executable, str(ROOT / "ensemble.py"), "--joint-dir", "nowhere"]
    done = subprocess.run(command, cwd=runs, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: nowhere: ")
    assert done.stderr.count("\n") == 1
    assert not (runs / "work_dir").exists()


def test_a_single_stream_and_a_file_instead_of_a_folder_keep_their_predictions(runs: Path) -> None:
    assert ensemble.main(["--joint-dir", "joint/scores/test.npz", "--out", "fused.npz"]) == 0
    fused, joint = read_scores(runs / "fused.npz"), read_scores(runs / "joint" / "scores" / "test.npz")
    assert fused.sample_id == joint.sample_id
    np.testing.assert_array_equal(fused.logits.argsort(axis=1), joint.logits.argsort(axis=1))


@pytest.mark.parametrize("how", [["--weights", "0.6", "0.2"], ["--weight", "other=1", "--weight", "joint=3"]])
def test_given_weights_reach_their_streams(runs: Path, capsys: pytest.CaptureFixture[str], how: list[str]) -> None:
    argv = ["--stream", "other=bone", "--joint-dir", "joint", "--normalise", "none", "--out", "fused.npz", *how]
    assert ensemble.main(argv) == 0
    fused = read_scores(runs / "fused.npz")
    joint, bone = (
        dict(zip(stream.sample_id, stream.logits, strict=True))
        for stream in (read_scores(runs / name / "scores" / "test.npz") for name in ("joint", "bone"))
    )
    expected = [0.75 * joint[name] + 0.25 * bone[name] for name in fused.sample_id]
    np.testing.assert_allclose(fused.logits, expected, rtol=1e-5, atol=1e-6)
    assert "given" in capsys.readouterr().out


def test_the_search_sees_validation_scores_only(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ensemble.main([*STREAMS, "--search"]) == 0
    before = capsys.readouterr().out
    assert "searched on val scores (60 samples" in before
    weights = [line.split()[1] for line in before.splitlines() if line.split()[0] in MODALITIES]
    assert weights != ["0.250"] * 4
    for modality in MODALITIES:
        path = runs / modality / "scores" / "test.npz"
        write_scores(path, replace(read_scores(path), logits=np.roll(read_scores(path).logits, 1, axis=1)))
    assert ensemble.main([*STREAMS, "--search"]) == 0
    after = capsys.readouterr().out
    assert weights == [line.split()[1] for line in after.splitlines() if line.split()[0] in MODALITIES]


def test_the_search_may_look_at_the_validation_scores_of_other_runs(runs: Path) -> None:
    for modality in MODALITIES[:2]:
        (runs / modality / "scores" / "val.npz").rename(runs / f"{modality}_val.npz")
    argv = ["--joint-dir", "joint", "--bone-dir", "bone", "--search"]
    assert ensemble.main(argv) == 2
    assert ensemble.main([*argv, "--search-dirs", "joint_val.npz", "bone_val.npz"]) == 0


def test_the_search_never_takes_test_scores(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "expected a validation split" in fails(capsys, *STREAMS, "--search", "test")
    assert "expected a validation split" in fails(capsys, *STREAMS, "--split", "val", "--search")
    path = runs / "joint" / "scores" / "val.npz"
    test = read_scores(runs / "joint" / "scores" / "test.npz")
    write_scores(path, test)
    assert "got split 'test', expected 'val'" in fails(capsys, "--joint-dir", "joint", "--search")
    write_scores(path, replace(test, split="val"))
    assert "60 samples that are in both val and test" in fails(capsys, "--joint-dir", "joint", "--search")
    path.unlink()
    assert "found no validation scores" in fails(capsys, *STREAMS, "--search")
    assert not (runs / "work_dir").exists()


def test_streams_that_are_not_what_they_are_given_for_are_refused(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "got modality 'bone', expected 'joint'" in fails(capsys, "--joint-dir", "bone")
    assert "got data set 'ucla', expected 'ntu60'" in fails(capsys, "--joint-dir", "joint", "--dataset", "ntu")
    assert "got split 'test', expected 'val'" in fails(capsys, "--joint-dir", "joint/scores/test.npz", "--split", "val")
    bone = runs / "bone" / "scores" / "test.npz"
    write_scores(bone, scores("bone", "test", 2.0, 1, count=30))
    assert "30 only in joint (test-" in fails(capsys, "--joint-dir", "joint", "--bone-dir", "bone")
    write_scores(bone, scores("joint", "test", 2.0, 1, count=30))
    assert "30 only in the first stream (test-" in fails(capsys, "--joint-dir", "joint", "--stream", "b=bone")
    write_scores(bone, replace(scores("bone", "test", 2.0, 1), dataset="penn/official"))
    line = fails(capsys, "--joint-dir", "joint", "--bone-dir", "bone")
    assert "bone/scores/test.npz: got data set 'penn/official', expected 'ucla'" in line


def test_weights_that_were_chosen_on_test_are_labelled(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    how = "best test/top1 = 90.00 at epoch 3 of 9; chosen on TEST"
    path = runs / "joint" / "scores" / "test.npz"
    write_scores(path, replace(read_scores(path), chosen_by=how))
    last = runs / "bone" / "scores" / "test.npz"
    write_scores(last, replace(read_scores(last), chosen_by="last: after 9 of 9 epochs, nothing chosen"))
    assert ensemble.main(["--joint-dir", "joint", "--bone-dir", "bone", "--out", "fused.npz"]) == 0
    said = capsys.readouterr().out
    assert f"joint: {how}" in said
    assert "bone: last" not in said
    assert read_scores(runs / "fused.npz").chosen_by == f"joint: {how}"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("ntu/xsub", "ntu60/cross_subject"),
        ("ntu60/xview", "ntu60/cross_view"),
        ("ntu120/xsub", "ntu120/cross_subject"),
        ("NTU120/XSet", "ntu120/cross_setup"),
        ("NW-UCLA", "ucla/published"),
        ("ucla", "ucla/without_copies"),
        ("ntu120/cross_subject", "ntu120/cross_subject"),
        ("ntu120/xsub", "ntu120"),
    ],
)
def test_a_data_set_and_protocol_are_asked_for_by_the_papers_names(runs: Path, asked: str, said: str) -> None:
    path = runs / "joint" / "scores" / "test.npz"
    write_scores(path, replace(read_scores(path), dataset=said))
    assert ensemble.main(["--joint-dir", "joint", "--datasets", asked, "--out", "fused.npz"]) == 0
    assert read_scores(runs / "fused.npz").dataset == said


def test_scores_of_another_protocol_are_refused(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = runs / "joint" / "scores" / "test.npz"
    write_scores(path, replace(read_scores(path), dataset="ntu120/cross_setup"))
    said = fails(capsys, "--joint-dir", "joint", "--datasets", "ntu120/xsub")
    assert "joint/scores/test.npz: got data set 'ntu120/cross_setup', expected 'ntu120/cross_subject'" in said
    assert "got data set 'ntu120/cross_setup'" in fails(capsys, "--joint-dir", "joint", "--datasets", "ntu/xsub")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "no streams"),
        (["--joint-dir", "joint", "--weights", "1", "2"], "weights: got 1 2, expected 1"),
        (["--joint-dir", "joint", "--weights", "0"], "not all zero"),
        (["--joint-dir", "joint", "--weights", "x"], "invalid float value"),
        (["--joint-dir", "joint", "--weight", "bone=1"], "--weight: got bone, expected one for each of joint"),
        (["--joint-dir", "joint", "--weight", "joint=x"], "--weight: got joint=x, expected numbers"),
        (["--joint-dir", "joint", "--weights", "1", "--search"], "not allowed with"),
        (["--joint-dir", "joint", "--search-dirs", "joint"], "without --search"),
        (["--joint-dir", "joint", "--search", "--search-dirs", "joint", "bone"], "got 2"),
        (["--stream", "joint"], "expected NAME=VALUE"),
        (["--stream", "a=joint", "--stream", "a=bone"], "each name once"),
        (["--stream", "joint=bone", "--joint-dir", "joint"], "a second time"),
        (["--joint-dir", "joint", "--normalise", "max"], "invalid choice"),
        (["--joint-dir", "joint", "--colour", "red"], "unrecognized"),
        (["--joint-dir", "joint", "--labels", "nowhere"], "no such label file"),
        (["--joint-dir", "joint", "--out", "fused.txt"], "ends in .npz"),
        (["--joint-dir", "joint", "--out", "joint/scores/test.npz/fused.npz"], "could not be written"),
    ],
)
def test_bad_arguments_are_one_line(
    runs: Path, capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    assert message in fails(capsys, *argv)


def test_the_predecessors_folders_fuse_with_labels_from_a_file(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    for name in ("old_joint", "old_bone"):
        logits = generator.normal(size=(20, 4)).astype(np.float32)
        (runs / name).mkdir()
        (runs / name / "epoch1_test_score.pkl").write_bytes(
            pickle.dumps({f"test_{row}": values for row, values in enumerate(logits)})
        )
    argv = ["--joint-dir", "old_joint", "--bone-dir", "old_bone"]
    assert "--labels" in fails(capsys, *argv)
    np.savez(runs / "NTU60_CS.npz", y_test=np.eye(4)[np.arange(20) % 4])
    assert ensemble.main([*argv, "--labels", "NTU60_CS.npz"]) == 0
    np.testing.assert_array_equal(read_scores(runs / "work_dir/ensemble/test.npz").labels, np.arange(20) % 4)


class Bomb:
    def __reduce__(self) -> object:
        return os.system, ("touch proof",)


def test_a_malicious_score_file_is_refused_and_not_run(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "bad.pkl").write_bytes(pickle.dumps({"test_0": Bomb()}))
    assert "it was not run" in fails(capsys, "--joint-dir", "bad.pkl")
    (runs / "bad.npz").write_bytes(pickle.dumps({"test_0": Bomb()}))
    assert "it was not run" in fails(capsys, "--joint-dir", "bad.npz")
    assert not (runs / "proof").exists()


def embeddings(modality: str, noise: float, seed: int, people: int = 12) -> EmbeddingFile:
    generator = np.random.default_rng(seed)
    count = 4 * people
    identity = np.arange(count) % people
    center = np.random.default_rng(100).normal(size=(people, 2, 3))[identity]
    order = generator.permutation(count)
    first = np.arange(count) < people
    file = EmbeddingFile(
        table=SampleTable(tuple(f"walk {n}" for n in range(count)), identity),
        embedding=(center + noise * generator.normal(size=center.shape)).astype(np.float32),
        part_present=np.ones((count, 2), dtype=np.bool_),
        protocols=(
            RetrievalProtocol("first_walk", roles(~first, first)),
            RetrievalProtocol("leave_one_out", np.full(count, 2, np.int8)),
        ),
        distance="parts/cosine",
        dataset="kinect_gait",
        split="test",
        modality=modality,
    )
    return file.take(order)


@pytest.fixture
def gait_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for seed, (modality, noise) in enumerate({"joint": 0.6, "bone": 0.9}.items()):
        write_embeddings(tmp_path / modality / "embeddings" / "test.npz", embeddings(modality, noise, seed))
    monkeypatch.chdir(tmp_path)
    return tmp_path


GAIT_STREAMS = ["--stream", "joint=joint", "--stream", "bone=bone"]


def test_embeddings_fuse_under_the_protocols_that_they_carry(gait_runs: Path) -> None:
    command = [sys.executable, "-X", "importtime", str(ROOT / "ensemble.py"), *GAIT_STREAMS]
    done = subprocess.run(command, cwd=gait_runs, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not any(line.endswith((" torch", " feeders")) for line in done.stderr.splitlines())
    for expected in (
        "kinect_gait, split test: 48 samples",
        "weights: equal, over spread; fused: distances, parts/cosine; percent with 95 % bootstrap intervals over ident",
        "protocol first_walk: 36 probes, 12 in the gallery; trials without a match: 0, left out",
        "protocol leave_one_out: 48 probes, 48 in the gallery",
    ):
        assert expected in done.stdout
    for start in ("joint ", "bone ", "fused ", "fused - joint", "fused - bone"):
        assert sum(line.startswith(start) for line in done.stdout.splitlines()) >= 2
    assert not (gait_runs / "work_dir").exists()


def test_embeddings_are_known_by_what_they_hold_and_those_of_another_data_set_refused(
    gait_runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (gait_runs / "joint" / "embeddings" / "test.npz").rename(gait_runs / "kept.npz")
    assert ensemble.main(["--stream", "joint=kept.npz", "--stream", "bone=bone"]) == 0
    capsys.readouterr()
    write_embeddings(gait_runs / "kept.npz", replace(embeddings("joint", 0.6, 0), dataset="grew"))
    line = fails(capsys, "--stream", "bone=bone", "--stream", "joint=kept.npz")
    assert "kept.npz: got data set 'grew', expected 'kinect_gait'" in line


@pytest.mark.parametrize(("made", "kind"), [("runs", "scores"), ("gait_runs", "embeddings")])
def test_a_chains_folder_stands_for_its_last_run(
    request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str], made: str, kind: str
) -> None:
    folder = request.getfixturevalue(made)
    (folder / "chain" / "finetune").mkdir(parents=True)
    (folder / "joint" / kind).rename(folder / "chain" / "finetune" / kind)
    assert ensemble.main(["--stream", "last=chain", "--out", "fused.npz"]) == 0
    assert any(line.startswith("last ") for line in capsys.readouterr().out.splitlines())


def test_a_stream_of_no_weight_changes_nothing(gait_runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for fuse in ("distances", "vectors"):
        assert ensemble.main([*GAIT_STREAMS, "--weight", "joint=1", "--weight", "bone=0", "--fuse", fuse]) == 0
        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        joint, fused = ([line for line in lines if line[:1] == [name]] for name in ("joint", "fused"))
        if fuse == "distances":
            assert [line[2:] for line in joint] == [line[1:] for line in fused if line[1] != "-"]
        assert any(line[:2] == ["fused", "-"] for line in lines)


def test_a_stream_weighs_the_same_however_far_apart_it_holds_its_walks(
    gait_runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = ("--distance", "vector/euclidean")

    def told(*words: str) -> list[str]:
        assert ensemble.main([*GAIT_STREAMS, "--distance", "parts/euclidean", *words]) == 0
        return [line for line in capsys.readouterr().out.splitlines() if line.startswith("fused ")]

    fused, as_they_are, vectors = told(), told("--scale", "none"), told("--fuse", "vectors", *whole)
    path = gait_runs / "bone" / "embeddings" / "test.npz"
    file = read_embeddings(path)
    write_embeddings(path, replace(file, embedding=16 * file.embedding))
    assert told() == fused
    assert told("--fuse", "vectors", *whole) == vectors
    assert told("--scale", "none") != as_they_are


def test_a_stream_that_tells_nobody_apart_is_one_line(gait_runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = gait_runs / "bone" / "embeddings" / "test.npz"
    file = read_embeddings(path)
    write_embeddings(path, replace(file, embedding=np.ones_like(file.embedding)))
    assert "expected distances that differ in every stream; or --scale none" in fails(capsys, *GAIT_STREAMS)
    assert ensemble.main([*GAIT_STREAMS, "--scale", "none"]) == 0


def test_fused_vectors_are_written_and_can_be_fused_again(gait_runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ensemble.main([*GAIT_STREAMS, "--fuse", "vectors", "--weights", "3", "1", "--scale", "none"]) == 0
    fused = read_embeddings(gait_runs / "work_dir" / "ensemble" / "embeddings" / "test.npz")
    assert (fused.embedding.shape, fused.distance, fused.modality) == ((48, 1, 12), "vector/euclidean", "joint+bone")
    joint = read_embeddings(gait_runs / "joint" / "embeddings" / "test.npz")
    assert fused.table.sample_id == joint.table.sample_id
    np.testing.assert_allclose(fused.embedding[:, 0, :6], np.sqrt(0.75 / 2) * joint.space().vectors, rtol=1e-5)
    first = capsys.readouterr().out
    assert ensemble.main(["--stream", "both=work_dir/ensemble"]) == 0
    row = next(line for line in first.splitlines() if line.startswith("fused  ")).split()[1:]
    assert row == next(line for line in capsys.readouterr().out.splitlines() if line.startswith("both ")).split()[2:]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([*GAIT_STREAMS, "--search"], "they are about scores"),
        ([*GAIT_STREAMS, "--normalise", "none"], "they are about scores"),
        ([*GAIT_STREAMS, "--stream", "scored=scored"], "none of scored"),
        ([*GAIT_STREAMS, "--dataset", "gait3d"], "got data set 'kinect_gait', expected 'gait3d'"),
        (["--joint-dir", "bone"], "got modality 'bone', expected 'joint'"),
        ([*GAIT_STREAMS, "--weights", "1"], "weights: got 1, expected 2"),
        ([*GAIT_STREAMS, "--weights", "-1", "1"], "not all zero"),
        ([*GAIT_STREAMS, "--distance", "far"], "invalid choice"),
        (["--joint-dir", "scored", "--fuse", "vectors"], "they are about embeddings"),
        (["--stream", "a=joint/embeddings/test.npz", "--split", "val"], "got split 'test', expected 'val'"),
    ],
)
def test_what_does_not_fit_embeddings_is_one_line(
    gait_runs: Path, capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    write_scores(gait_runs / "scored" / "scores" / "test.npz", scores("joint", "test", 1.0, 0))
    assert message in fails(capsys, *argv)
    assert not (gait_runs / "work_dir").exists()
