"""Score files: round trips, joins by sample id, and refusal of what is not a score file."""

import os
import pickle
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from torchlight.scores import ScoreFile, align, read_labels, read_scores, with_labels, write_scores


def make(count: int = 12, classes: int = 4, seed: int = 0) -> ScoreFile:
    generator = np.random.default_rng(seed)
    return ScoreFile(
        sample_id=tuple(f"a{row:02d}_ä" for row in range(count)),
        logits=generator.normal(size=(count, classes)).astype(np.float32),
        labels=np.arange(count, dtype=np.int64) % classes,
        class_names=tuple(f"class {index}" for index in range(classes)),
        dataset="ucla",
        split="test",
        modality="joint",
        checkpoint_sha="abc",
        extra={"similarity": generator.normal(size=(count, classes)).astype(np.float32)},
    )


def permuted(scores: ScoreFile, seed: int = 1) -> ScoreFile:
    order = np.random.default_rng(seed).permutation(len(scores.sample_id))
    assert scores.labels is not None
    return replace(
        scores,
        sample_id=tuple(scores.sample_id[row] for row in order),
        logits=scores.logits[order],
        labels=scores.labels[order],
        extra={},
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    scores = make()
    write_scores(tmp_path / "deep" / "test.npz", scores)
    back = read_scores(tmp_path / "deep" / "test.npz")
    for name in ("sample_id", "class_names", "dataset", "split", "modality", "checkpoint_sha"):
        assert getattr(back, name) == getattr(scores, name)
    np.testing.assert_array_equal(back.logits, scores.logits)
    np.testing.assert_array_equal(back.labels, scores.labels)
    np.testing.assert_array_equal(back.extra["similarity"], scores.extra["similarity"])
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["test.npz"]


def test_a_full_disk_leaves_the_old_scores_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "test.npz"
    write_scores(path, make())
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        with pytest.raises(OSError, match="could not be written"):
            write_scores(path, make(count=5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["test.npz"]


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="could not be written"):
        write_scores(tmp_path / "file" / "test.npz", make())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample_id": ("same",) * 12}, "more than once"),
        ({"logits": np.zeros((12, 4))}, "float32"),
        ({"logits": np.zeros((11, 4), np.float32)}, "12 sample ids"),
        ({"logits": np.full((12, 4), np.nan, np.float32)}, "12 samples"),
        ({"class_names": ("a",)}, "1 class names"),
        ({"labels": np.full(12, 4)}, r"expected 0\.\.3"),
        ({"labels": np.zeros(3, np.int64)}, "labels"),
        ({"extra": {"ragged": np.zeros(3)}}, "ragged"),
        ({"extra": {"objects": np.array([None] * 12)}}, "objects"),
    ],
)
def test_scores_that_contradict_themselves_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(make(), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("names", [[f"test_{row}" for row in range(6)], list(range(6)), list(np.arange(6))])
def test_the_predecessors_pickles_are_read(tmp_path: Path, protocol: int, names: list[object]) -> None:
    logits = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    path = tmp_path / "epoch1_test_score.pkl"
    path.write_bytes(pickle.dumps(dict(zip(names, logits, strict=True)), protocol))
    scores = read_scores(path)
    assert scores.sample_id == tuple(str(name) for name in names)
    assert scores.labels is None
    np.testing.assert_array_equal(scores.logits, logits)


class Bomb:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> object:
        return os.system, (f"touch {self.proof}",)


@pytest.mark.parametrize("name", ["bad.npz", "bad.pkl"])
def test_hostile_and_broken_files_are_refused_in_one_line_and_not_run(tmp_path: Path, name: str) -> None:
    proof, path = tmp_path / "proof", tmp_path / name
    write_scores(tmp_path / "good.npz", make())
    good = (tmp_path / "good.npz").read_bytes()
    with np.load(tmp_path / "good.npz") as archive:
        arrays = dict(archive)
    np.savez(tmp_path / "objects.npz", **{**arrays, "logits": np.array([Bomb(proof)], dtype=object)})
    np.savez(tmp_path / "short.npz", **{key: arrays[key] for key in ("sample_id", "logits")})
    np.savez(tmp_path / "numbers.npz", **{**arrays, "sample_id": np.arange(12)})
    np.save(tmp_path / "single.npy", np.zeros(3))
    contents = [
        pickle.dumps({"a": Bomb(proof)}),
        pickle.dumps(np.array([Bomb(proof)], dtype=object)),
        *((tmp_path / other).read_bytes() for other in ("objects.npz", "short.npz", "numbers.npz", "single.npy")),
        good[: len(good) // 2],
        good[:900] + bytes(byte ^ 0x55 for byte in good[900:1200]) + good[1200:],
        b"",
        b"PK\x03\x04",
        *(pickle.dumps(value) for value in ([], {}, {"a": 1}, {"a": np.zeros((2, 2))}, {"a": np.zeros(2, int)})),
        pickle.dumps({"a": np.zeros(2), "b": np.zeros(3)}),
        pickle.dumps({"1": np.zeros(2), 1: np.zeros(2)}),
        pickle.dumps({"a": np.full(2, np.nan)}),
    ]
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=name) as refusal:
            read_scores(path)
        assert "\n" not in str(refusal.value)
        assert not proof.exists()


def test_a_missing_file_says_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="--save-score"):
        read_scores(tmp_path / "test.npz")


def test_streams_join_by_sample_id_whatever_their_order() -> None:
    first, second = make(seed=0), make(seed=1)
    straight, shuffled = align([first, second]), align([first, permuted(second)])
    assert straight.sample_id == shuffled.sample_id == first.sample_id
    np.testing.assert_array_equal(straight.logits, shuffled.logits)
    np.testing.assert_array_equal(straight.labels, shuffled.labels)
    for row, name in enumerate(straight.sample_id):
        np.testing.assert_array_equal(straight.logits[1, row], second.logits[second.sample_id.index(name)])


def test_labels_come_from_the_stream_that_has_them() -> None:
    known = make()
    unknown = replace(permuted(known), labels=None, class_names=(), dataset="", split="")
    for files in ([known, unknown], [unknown, known]):
        aligned = align(files)
        assert aligned.labels is not None
        assert dict(zip(aligned.sample_id, aligned.labels, strict=True)) == dict(
            zip(known.sample_id, known.labels, strict=True)  # type: ignore[arg-type]
        )
        assert (aligned.class_names, aligned.dataset, aligned.split) == (known.class_names, "ucla", "test")
    assert align([unknown]).labels is None


def test_samples_that_do_not_join_are_named_five_per_side() -> None:
    first = make()
    renamed = replace(first, sample_id=tuple(f"b{row}" for row in range(12)))
    with pytest.raises(
        ValueError, match=r"12 only in the first stream \(a00_ä, .*a04_ä, \.\.\.\), 12 only in .*b4, \.\.\.\)"
    ) as error:
        align([first, renamed])
    assert "a05" not in str(error.value)
    with pytest.raises(ValueError, match="0 only in"):
        align([make(count=8), make(count=12)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.zeros(12, np.int64)}, "other labels for 9 samples"),
        ({"class_names": ("a", "b", "c", "d")}, "class names"),
        ({"dataset": "ntu"}, "data sets"),
        ({"split": "val"}, "splits"),
        ({"logits": np.zeros((12, 5), np.float32), "class_names": (), "extra": {}}, "5 classes"),
    ],
)
def test_streams_that_disagree_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        align([make(), replace(make(), **changes)])  # type: ignore[arg-type]


def test_labels_are_read_from_scores_from_ctrgcn_and_from_lines(tmp_path: Path) -> None:
    scores = make()
    assert scores.labels is not None
    write_scores(tmp_path / "ours.npz", scores)
    expected = dict(zip(scores.sample_id, scores.labels.tolist(), strict=True))
    assert read_labels(tmp_path / "ours.npz") == expected
    np.savez(tmp_path / "padded.npz", x_test=np.zeros((2, 3)), y_test=np.eye(4)[[2, 0]], y_train=np.eye(4)[[1]])
    assert read_labels(tmp_path / "padded.npz") == {"test_0": 2, "test_1": 0, "train_0": 1}
    (tmp_path / "lines.csv").write_text("".join(f"{name},{label}\n" for name, label in expected.items()))
    assert read_labels(tmp_path / "lines.csv") == expected
    labelled = with_labels(replace(scores, labels=None), expected)
    np.testing.assert_array_equal(labelled.labels, scores.labels)
    with pytest.raises(ValueError, match="a11_ä"):
        with_labels(scores, {name: 0 for name in scores.sample_id[:-1]})


def test_two_labels_for_one_sample_are_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("a,0\nb,1\na,2\n")
    with pytest.raises(ValueError, match="got labels 0 and 2 for a"):
        read_labels(tmp_path / "labels.csv")


@pytest.mark.parametrize("content", ["a,b\n", "a\n", b"\xff\xfe,\x00"])
def test_label_lines_that_are_none_are_refused(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=r"labels\.csv"):
        read_labels(path)
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(ValueError, match="neither"):
        read_labels(tmp_path / "other.npz")
