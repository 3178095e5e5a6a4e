"""Embeddings files: round trips, joins by sample id, and refusal of what is not one."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from torchlight.embeddings import EmbeddingFile, align_embeddings, concatenated, read_embeddings, write_embeddings
from torchlight.metrics.distance import EmbeddingSpace
from torchlight.metrics.protocol import RetrievalProtocol, SampleTable


def make(seed: int = 0, count: int = 12, modality: str = "joint") -> EmbeddingFile:
    draw = np.random.default_rng(seed)
    identity = np.arange(count) % 4
    table = SampleTable(
        tuple(f"walk {n} ä" for n in range(count)),
        identity,
        {"camera": np.arange(count) % 3, "condition": np.arange(count) % 2},
        ("anna", "ben", "chen", "dora"),
        {"condition": ("nm", "bg")},
    )
    role = (np.arange(count) >= count // 2).astype(np.int8)
    return EmbeddingFile(
        table=table,
        embedding=draw.normal(size=(count, 3, 5)).astype(np.float32),
        part_present=draw.random((count, 3)) < 0.9,
        protocols=(
            RetrievalProtocol("first", role, (("camera",), ("identity", "camera")), "condition", "camera", "missed"),
            RetrievalProtocol("all", np.full(count, 2, np.int8)),
        ),
        dataset="casia_b",
        split="test",
        modality=modality,
        checkpoint_sha="abc",
    )


def assert_equal(one: EmbeddingFile, other: EmbeddingFile) -> None:
    for name in ("distance", "dataset", "split", "modality", "checkpoint_sha"):
        assert getattr(one, name) == getattr(other, name)
    for name in ("sample_id", "identity_names", "column_names"):
        assert getattr(one.table, name) == getattr(other.table, name)
    assert [p.rules() for p in one.protocols] == [p.rules() for p in other.protocols]
    for this, that in zip(one.protocols, other.protocols, strict=True):
        np.testing.assert_array_equal(this.role, that.role)
    for name in ("embedding", "part_present"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_array_equal(one.table.identity, other.table.identity)
    assert one.table.columns.keys() == other.table.columns.keys()
    for name, value in one.table.columns.items():
        np.testing.assert_array_equal(value, other.table.columns[name])


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "embeddings" / "test.npz"
    write_embeddings(path, make())
    assert_equal(read_embeddings(path), make())
    assert [file.name for file in path.parent.iterdir()] == ["test.npz"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embedding": np.zeros((12, 3, 5))}, "float32"),
        ({"embedding": np.zeros((11, 3, 5), np.float32)}, "12 sample ids"),
        ({"embedding": np.full((12, 3, 5), np.inf, np.float32)}, "12 samples"),
        ({"part_present": np.ones((12, 2), bool)}, "part_present"),
        ({"distance": "manhattan"}, "distance 'manhattan'"),
        ({"protocols": ()}, "at least one"),
        ({"protocols": make().protocols[:1] * 2}, "each name once"),
        ({"protocols": make(count=8).protocols}, "8 roles"),
        ({"table": replace(make().table, columns={}, column_names={})}, "no column 'camera'"),
    ],
)
def test_embeddings_that_contradict_themselves_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(make(), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"sample_id": None},
        {"embedding": np.array([print], dtype=object)},
        {"identity": np.zeros(3, np.int64)},
        {"dataset": np.arange(3)},
        {"protocols": np.array("not json")},
        {"protocols": np.array(json.dumps([{"name": "first"}]))},
        {"protocols": np.array(json.dumps([{**make().protocols[0].rules(), "unmatched": "forgotten"}]))},
        {"protocols": np.array(json.dumps([{**make().protocols[0].rules(), "name": "absent"}]))},
        {"role/first": np.zeros(12)},
    ],
)
def test_broken_files_are_refused_in_one_line(tmp_path: Path, changes: dict[str, np.ndarray | None]) -> None:
    path = tmp_path / "test.npz"
    write_embeddings(path, make())
    with np.load(path) as archive:
        arrays = {**archive, **changes}
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    with pytest.raises(ValueError, match=r"test\.npz: ") as refusal:
        read_embeddings(path)
    assert "\n" not in str(refusal.value)


def test_a_missing_file_says_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="--phase test"):
        read_embeddings(tmp_path / "test.npz")


def test_streams_join_by_sample_id_whatever_their_order() -> None:
    first, second = make(), make(seed=1, modality="bone")
    shuffled = second.take(np.random.default_rng(0).permutation(12))
    straight = align_embeddings([first, second])
    for one, other in zip(straight, align_embeddings([first, shuffled]), strict=True):
        assert_equal(one, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"table": replace(make().table, identity=np.zeros(12, np.int64))}, "other identities for 9 samples"),
        ({"table": replace(make().table, sample_id=tuple(map(str, range(12))))}, "12 only in the first stream"),
        ({"protocols": make().protocols[::-1]}, "another protocol all in joint than first"),
        ({"protocols": make().protocols[:1]}, "another protocol none in joint than all"),
        ({"dataset": "gait3d"}, "data sets"),
        ({"split": "val"}, "splits"),
    ],
)
def test_streams_that_disagree_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        align_embeddings([make(), replace(make(), **changes)])  # type: ignore[arg-type]


def test_streams_one_after_the_other_are_as_far_apart_as_their_squares_say() -> None:
    whole = np.ones((12, 3), dtype=bool)
    files = [replace(make(seed=seed), part_present=whole) for seed in (0, 1)]
    joined = concatenated(files, "vector/cosine", np.array([0.25, 0.75]), "joint+bone")
    rows = np.arange(12)
    number = [f.space("vector/cosine").between(rows, rows).exact(0 * rows, rows) for f in files]
    found = joined.space().between(rows, rows).exact(0 * rows, rows)
    np.testing.assert_allclose(found, 0.25 * number[0] + 0.75 * number[1], atol=1e-6)
    six_parts = replace(files[0], embedding=np.tile(files[0].embedding, (1, 2, 1)), part_present=np.tile(whole, 2))
    streams, weights = [six_parts, files[1]], np.array([0.5, 0.5])
    uneven = concatenated(streams, "parts/cosine", weights, "joint+bone").space().between(rows, rows)
    fused = EmbeddingSpace.fused([file.space("parts/cosine") for file in streams], weights).between(rows, rows)
    np.testing.assert_allclose(uneven.exact(0 * rows, rows), fused.exact(0 * rows, rows), atol=1e-6)
    with pytest.raises(ValueError, match="without some part"):
        concatenated([make()], "parts/cosine", np.ones(1), "joint")
