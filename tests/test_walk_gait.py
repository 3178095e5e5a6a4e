"""The gait door, as a stranger walks it: simulated walkers, a narrow encoder, two epochs."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from torchlight.embeddings import read_embeddings
from torchlight.gallery import read_gallery

ROOT = Path(__file__).parent.parent
SMALL = (
    "model.encoder.width=8",
    "model.width=8",
    "data.frames=16",
    "data.synthetic.people=16",
    "data.synthetic.walks=3",
    "enrol.leave_out=[walker 016]",
    "train.batch_size=8",
    "train.epochs=2",
    "train.schedule.warmup_epochs=0",
    "walks_each=2",
)
WALKS = 3 * 2  # of a person, by two cameras


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def gait(cache: Path, work_dir: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PARTCLIP_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    start = (sys.executable, "main_gait.py", "--config", "config/gait/demo.yaml", "--work-dir", work_dir)
    command = [*map(str, start), "--device", "cpu", *SMALL, *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def run(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "gait"
    done = gait(cache, folder)
    assert done.returncode == 0, done.stderr
    assert "test/rank1" in done.stdout
    assert "of strangers" in done.stdout
    return folder


def rows(folder: Path, split: str) -> list[dict[str, float]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["split"] == split and "checkpoint_sha" in row]


def copy_of(run: Path, folder: Path) -> Path:
    shutil.copytree(run, folder)
    return folder


def recordings(cache: Path, person: int) -> list[Path]:
    return sorted(cache.glob(f"recordings/*/*P{person:03d}*.skeleton"))


def test_one_call_trains_tests_enrols_and_identifies(run: Path) -> None:
    (test,) = rows(run, "test")
    assert {f"test/{name}" for name in ("rank1", "rank5", "rank10", "rank20", "mAP", "mINP", "eer", "rank1_low")} <= {
        *test
    }
    assert read_embeddings(run / "embeddings/test.npz").embedding.shape == (4 * WALKS, 6, 8)
    assert read_embeddings(run / "embeddings/val.npz").table.sample_id
    gallery = read_gallery(run / "gallery.npz")
    assert set(gallery.names) == {"walker 004", "walker 008", "walker 012"}
    assert gallery.checkpoint_sha == test["checkpoint_sha"]
    assert gallery.threshold is not None
    answers = [json.loads(line) for line in (run / "identified.jsonl").read_text().splitlines()]
    assert {answer["answer"] for answer in answers} <= {"unknown", *gallery.names}
    assert all(answer["nearest"][0]["distance"] <= answer["nearest"][1]["distance"] for answer in answers)


def test_a_test_phase_repeats_the_numbers_and_the_embeddings(cache: Path, run: Path, tmp_path: Path) -> None:
    folder = copy_of(run, tmp_path / "copy")
    before, embeddings = rows(folder, "test"), read_embeddings(folder / "embeddings/test.npz")
    (folder / "embeddings/test.npz").unlink()
    done = gait(cache, folder, "--phase", "test")
    assert done.returncode == 0, done.stderr
    assert rows(folder, "test") == before
    np.testing.assert_array_equal(read_embeddings(folder / "embeddings/test.npz").embedding, embeddings.embedding)


def test_a_walk_is_the_same_alone_and_among_others(cache: Path, run: Path, tmp_path: Path) -> None:
    folder = copy_of(run, tmp_path / "copy")
    file = recordings(cache, 12)[3]
    done = gait(cache, folder, "--phase", "enrol", file)
    assert done.returncode == 0, done.stderr
    alone, together = read_gallery(folder / "gallery.npz"), read_embeddings(run / "embeddings/test.npz")
    assert (alone.names, alone.sample_id) == (("walker 012",), (file.stem,))
    row = together.table.sample_id.index(file.stem)
    np.testing.assert_allclose(alone.embedding[0], together.embedding[row], rtol=1e-5, atol=1e-5)


def test_files_are_identified_as_known_people_or_as_strangers(cache: Path, run: Path, tmp_path: Path) -> None:
    folder = copy_of(run, tmp_path / "copy")
    enrolled = read_gallery(run / "gallery.npz")
    seen, stranger = next(f for f in recordings(cache, 8) if f.stem in enrolled.sample_id), recordings(cache, 16)[0]
    done = gait(cache, folder, "--phase", "identify", seen, stranger, "identify.people=2")
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in (folder / "identified.jsonl").read_text().splitlines()]
    assert [answer["walk"] for answer in answers] == [seen.stem, stranger.stem]
    assert answers[0]["answer"] == "walker 008"
    assert answers[0]["nearest"][0]["distance"] == pytest.approx(0, abs=1e-6)
    assert [len(answer["nearest"]) for answer in answers] == [2, 2]
    is_far = answers[1]["nearest"][0]["distance"] > enrolled.threshold.distance
    assert (answers[1]["answer"] == "unknown") == is_far
    assert seen.stem in done.stdout


def test_files_need_no_data_set(cache: Path, run: Path, tmp_path: Path) -> None:
    folder, file = copy_of(run, tmp_path / "copy"), shutil.copy(recordings(cache, 8)[0], tmp_path)
    done = gait(tmp_path / "empty", folder, "--phase", "identify", file)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "empty").exists()
    assert Path(file).stem in done.stdout


def test_a_gallery_of_other_weights_is_refused(cache: Path, run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert gait(cache, other, "--phase", "train", "seed=1", "train.epochs=1").returncode == 0
    done = gait(
        cache, other, "--phase", "identify", "seed=1", "train.epochs=1", f"identify.gallery={run / 'gallery.npz'}"
    )
    assert done.returncode == 2
    assert "made by other weights" in done.stderr.splitlines()[-1]


def test_a_gallery_enrolled_otherwise_is_refused_and_has_no_threshold(cache: Path, run: Path, tmp_path: Path) -> None:
    folder = copy_of(run, tmp_path / "copy")
    others = (
        "retrieval.distance=parts/euclidean",
        "data.inputs=[bone]",
        "data.evaluation_frames=16",
        "data.gaps=close",
    )
    others += ("data.normalise_walk=unit_size", "data.heading=none", "model.embedding=before_neck")
    done = gait(cache, folder, "--phase", "enrol", *others)
    assert done.returncode == 0, done.stderr
    assert "model.embedding: 'before_neck' now, 'after_neck' then" in done.stdout
    assert all(f"{key}: " in done.stdout for key in (other.partition("=")[0] for other in others))
    assert read_gallery(folder / "gallery.npz").threshold is None
    done = gait(cache, folder, "--phase", "identify")
    assert done.returncode == 2
    line = done.stderr.strip().splitlines()[-1]
    assert "gallery enrolled with other settings (data." in line
    assert "data.heading: 'walk' now, 'none' then" in line


def test_people_are_enrolled_one_after_the_other_by_name(cache: Path, run: Path, tmp_path: Path) -> None:
    folder = copy_of(run, tmp_path / "copy")
    for person, words in ((8, ()), (12, ("enrol.add=true",))):
        done = gait(
            cache, folder, "--phase", "enrol", *recordings(cache, person)[:2], f"enrol.person=no {person}", *words
        )
        assert done.returncode == 0, done.stderr
        assert ("replaced; enrol.add=true" in done.stderr) == (person == 8)
    gallery = read_gallery(folder / "gallery.npz")
    assert gallery.names == ("no 8", "no 8", "no 12", "no 12")
    assert gallery.threshold.walks == 2
    done = gait(cache, folder, "--phase", "identify", recordings(cache, 12)[0])
    assert json.loads((folder / "identified.jsonl").read_text())["answer"] == "no 12"


def test_the_threshold_is_that_of_as_many_walks_as_are_enrolled(cache: Path, run: Path, tmp_path: Path) -> None:
    folder = copy_of(run, tmp_path / "copy")
    few = read_gallery(folder / "gallery.npz").threshold
    done = gait(cache, folder, "--phase", "enrol", *recordings(cache, 12)[:3])
    assert done.returncode == 0, done.stderr
    many = read_gallery(folder / "gallery.npz").threshold
    assert (few.walks, many.walks) == (1, 3)
    assert few.people == many.people
    assert few.probes > many.probes
    assert f"beyond {many.distance:.4g} nobody is known: with 3 of the walks" in done.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--phase", "enrol", "retrieval.false_alarms=0.5"), "got 0.5, expected 0.05 as when it was trained"),
        (("--phase", "identify", "nowhere.skeleton"), "nowhere.skeleton: no such file"),
        (("--phase", "identify", "README.md"), "README.md: got no walk of demo_gait"),
        (
            ("--phase", "enrol", "enrol.leave_out=[ann]"),
            "enrol.leave_out: got 'ann', expected some of walker 004, walker",
        ),
        (("--phase", "enrol", "enrol.person=ann"), "enrol.person: got it without walks"),
        (("--phase", "test", "model.width=16"), "the weights do not fit"),
        (("--phase", "test", "train.batch_size=9"), "expected a multiple of walks_each=2"),
        (("--phase", "train", "--overwrite", "model.freeze_encoder=true"), "expected init_from=RUN"),
    ],
)
def test_bad_input_is_one_clear_line(cache: Path, run: Path, tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    done = gait(cache, copy_of(run, tmp_path / "copy"), *words)
    assert done.returncode == 2
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert says in line
    assert "Traceback" not in done.stderr


def test_tlca_is_pretrained_by_reconstruction_and_then_finds_people(cache: Path, tmp_path: Path) -> None:
    sizes = "{name: tlca, width: 8, heads: 2, layers: 1, ffn: 1, t1: frozen}"
    stage = "{epochs: 1, batch_size: 8, optimiser: {name: adam, lr: 1.0e-3}}"
    words = (f"model.encoder={sizes}", "model.parts=whole", "data.inputs=[joint, bone]", f"pretrain.train={stage}")
    plain = [word for word in SMALL if not word.startswith("model.encoder")]
    environment = {**os.environ, "PARTCLIP_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    start = [sys.executable, "main_gait.py", "--config", "config/gait/demo.yaml", "--work-dir", str(tmp_path / "run")]
    phases = ["--device", "cpu", "--phase", "pretrain", "train", "test"]
    done = subprocess.run(
        [*start, *phases, *plain, *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "the encoder starts from" in done.stderr
    assert read_embeddings(tmp_path / "run/finetune/embeddings/test.npz").embedding.shape == (4 * WALKS, 1, 8)
