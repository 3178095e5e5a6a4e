import json
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.torchlight import toy_recipe
from tests.torchlight.toy_recipe import RECIPE, accuracy, clips, take
from torchlight.checkpoint import Checkpoint, load_checkpoint
from torchlight.command_line import parse_command
from torchlight.config import load_config
from torchlight.digest import file_sha256
from torchlight.launch import run
from torchlight.run_dir import RunDir
from torchlight.scores import read_scores
from torchlight.seed import sample_seed, seed_all
from torchlight.task import Prediction

TIMES = ("clips_per_second", "epoch_seconds")
ROOT = Path(__file__).parent.parent.parent
EVERYTHING = (
    "train.accumulate=2",
    "train.batch_size=3",
    "train.ema_decay=0.9",
    "train.clip_gradient=0.5",
    "train.save_every_steps=1",
    "train.select.name=best",
    "train.select.metric=val/top1",
)


def door(work_dir: Path, *arguments: str) -> int:
    return run(RECIPE, ["--work-dir", str(work_dir), "--device", "cpu", *arguments])


def rows(work_dir: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in TIMES} for row in RunDir(work_dir).rows()]


def assert_same_state(one: Checkpoint, other: Checkpoint) -> None:
    for left, right in ((one.task, other.task), (one.average or {}, other.average or {})):
        assert left.keys() == right.keys()
        assert all(torch.equal(left[key], right[key]) for key in left)
    assert repr(one.training) == repr(other.training)
    assert (one.progress, one.best, one.calibrated) == (other.progress, other.best, other.calibrated)


def dies_and_resumes(work_dir: Path, kill_at: str, *arguments: str) -> None:
    """Run the door as a program that kills itself with SIGKILL on its way, then resume it here."""
    command = [sys.executable, "-m", "tests.torchlight.toy_recipe", "--work-dir", str(work_dir), "--device", "cpu"]
    killed = subprocess.run([*command, f"data.kill_at={kill_at}", *arguments], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert door(work_dir, "--resume", "auto", f"data.kill_at={kill_at}", *arguments) == 0


def test_killed_in_the_middle_of_an_epoch_and_resumed_equals_never_having_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = ("train.optimiser={name: adamw, lr: 0.05}", *EVERYTHING)
    monkeypatch.setenv("KILLED", str(tmp_path / "killed.marker"))
    dies_and_resumes(tmp_path / "killed", "1/5", *chosen)
    assert door(tmp_path / "whole", "data.kill_at=1/5", *chosen) == 0
    for name in ("last.pt", "best.pt"):
        assert_same_state(load_checkpoint(tmp_path / "killed" / name), load_checkpoint(tmp_path / "whole" / name))
    hashed = [{k: v for k, v in row.items() if k != "checkpoint_sha"} for row in rows(tmp_path / "whole")]
    assert [{k: v for k, v in row.items() if k != "checkpoint_sha"} for row in rows(tmp_path / "killed")] == hashed


def test_resuming_from_the_end_of_an_epoch_repeats_no_row_and_changes_no_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = tmp_path / "dying"
    assert door(dying, "--phase", "train", "data.nan_at=1/3") == 2  # ends in epoch 2, after last.pt of epoch 1
    content = torch.load(dying / "last.pt", weights_only=True)
    content["config"]["data"]["nan_at"] = None
    torch.save(content, dying / "last.pt")
    with RunDir(dying).metrics.open("a") as file:
        file.write(json.dumps({"epoch": 2, "split": "train"}) + "\n")
    assert door(dying, "--config", str(RECIPE.default_config), "--phase", "train", "--resume") == 0
    assert door(tmp_path / "whole", "--phase", "train") == 0
    assert_same_state(load_checkpoint(dying / "last.pt"), load_checkpoint(tmp_path / "whole" / "last.pt"))
    assert rows(dying) == rows(tmp_path / "whole")


def test_a_folder_alone_says_with_what_it_is_tested(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert door(tmp_path, "model.dropout=0.3", "data.test_clips=7") == 0
    printed = capsys.readouterr().out
    assert door(tmp_path, "--phase", "test") == 0
    assert capsys.readouterr().out == printed
    assert "7 samples" in printed


BEST = ("train.select={name: best, metric: val/top1}", "train.keep_best=2", "train.epochs=4")


def test_a_run_moved_to_another_folder_takes_along_what_it_had_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    assert door(here, *BEST) == 0
    assert door(there, *BEST, "--phase", "train", "test", "--resume", str(here / "last.pt")) == 0
    for name in ("best.pt", "last.pt"):
        assert_same_state(load_checkpoint(here / name), load_checkpoint(there / name))
    assert [row for row in rows(there) if "checkpoint" not in row] == [r for r in rows(here) if "checkpoint" not in r]
    assert door(there, *BEST, "--resume", str(here / "last.pt")) == 2
    assert "got a folder with a trained run" in capsys.readouterr().err
    (here / "best.pt").unlink()
    assert door(tmp_path / "third", *BEST, "--resume", str(here / "last.pt")) == 2
    assert "best.pt: no such checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize("mistake", [("data.clips=2",), ("--weights", "nowhere.pt"), ("--resume", "other/best.pt")])
def test_a_run_that_cannot_begin_destroys_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert door(tmp_path) == door(Path("other"), *BEST[:1]) == 0
    if "--resume" in mistake:
        mistake = (*mistake, *BEST[:1])  # it chose, so it holds nothing to go on from
    kept = {path: file_sha256(path) for path in tmp_path.rglob("*") if path.is_file() and path.name != "log.txt"}
    assert door(tmp_path, "--phase", "train", "--overwrite", *mistake) == 2
    assert {path: file_sha256(path) for path in kept} == kept


def test_an_epoch_without_a_number_is_the_worst(tmp_path: Path) -> None:
    values = iter([float("nan"), 50.0, 40.0, float("nan")])
    recipe = replace(RECIPE, build_metrics=lambda run, loaders: [lambda prediction: {"luck": next(values)}])
    arguments = ("train.select={name: best, metric: val/luck}", "train.epochs=4", "--phase", "train")
    assert run(recipe, ["--work-dir", str(tmp_path), "--device", "cpu", *arguments]) == 0
    assert load_checkpoint(tmp_path / "best.pt").chosen_by == "best val/luck = 50.00 at epoch 2 of 4"


def test_a_test_leaves_alone_what_a_training_is_writing(tmp_path: Path) -> None:
    assert door(tmp_path, "--phase", "train") == 0
    (tmp_path / ".last.pt.abc.unfinished").touch()
    assert door(tmp_path, "--phase", "test") == 0
    assert (tmp_path / ".last.pt.abc.unfinished").exists()
    assert door(tmp_path, "--phase", "train", "--resume", "auto") == 0
    assert not (tmp_path / ".last.pt.abc.unfinished").exists()


def test_resume_auto_starts_afresh_where_there_is_nothing_and_rests_where_all_is_done(tmp_path: Path) -> None:
    assert door(tmp_path / "a", "--resume", "auto", "--phase", "train") == 0
    before = file_sha256(tmp_path / "a" / "last.pt")
    assert door(tmp_path / "a", "--resume", "auto", "--phase", "train") == 0
    assert file_sha256(tmp_path / "a" / "last.pt") == before


def test_resuming_with_another_config_is_refused_naming_the_keys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert door(tmp_path / "a", "--phase", "train") == 0
    assert door(tmp_path / "a", "--phase", "train", "--resume", "auto", "data.workers=3") == 0
    assert door(tmp_path / "a", "--phase", "train", "--resume", "auto", "train.epochs=9") == 2
    assert "train.epochs: 9 now, 3 then" in capsys.readouterr().err


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert door(tmp_path / name, "--phase", "train", f"seed={seed}") == 0
    a, b, c = (load_checkpoint(tmp_path / name / "last.pt") for name in "abc")
    assert all(torch.equal(a.task[key], b.task[key]) for key in a.task)
    assert not torch.equal(a.task["hidden.weight"], c.task["hidden.weight"])


@pytest.mark.parametrize("bare", [True, False])
def test_a_test_alone_reproduces_the_run_to_the_digit_and_writes_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bare: bool
) -> None:
    trained = tmp_path / "run"
    assert door(trained, "save_score=false", "train.ema_decay=0.9") == 0
    first = capsys.readouterr().out
    assert not (trained / "scores").exists()
    config = trained / "config.yaml"
    flags = ["--save-score"] if bare else ["--save-score", "True"]
    again = ["--config", str(config), "--phase", "test", *flags, "--weights", str(trained / "last.pt")]
    before = rows(trained), config.read_text()
    assert door(trained, *again) == 0
    assert capsys.readouterr().out == first
    assert (rows(trained), config.read_text()) == before
    scores = read_scores(trained / "scores" / "test.npz")
    hits = (scores.logits.argmax(1) == scores.labels).mean()
    assert f"{100 * hits:.2f}" in first
    assert scores.checkpoint_sha == file_sha256(trained / "last.pt")
    assert scores.class_names == ("sit", "stand", "wave")
    assert list(scores.sample_id) == sorted(clips("test", 11).sample_id)


def test_a_checkpoint_says_what_it_is(tmp_path: Path) -> None:
    assert door(tmp_path, "--phase", "train", *EVERYTHING, "train.select.metric=test/top1") == 0
    checkpoint = load_checkpoint(tmp_path / "best.pt")
    assert checkpoint.class_names == ("sit", "stand", "wave")
    assert (checkpoint.dataset, checkpoint.skeleton, checkpoint.modality) == ("toy", "none", "joint")
    assert checkpoint.chosen_by.startswith("best test/top1 = ")
    assert checkpoint.chosen_by.endswith("chosen on TEST")
    assert checkpoint.extra == {"parts": ["arms", "legs"], "width": 5}
    assert load_checkpoint(tmp_path / "last.pt").chosen_by == "last: after 3 of 3 epochs, nothing chosen"


def test_the_best_epochs_are_kept_and_best_is_the_best_of_the_metric_rows(tmp_path: Path) -> None:
    arguments = ("train.select={name: best, metric: val/top1}", "train.keep_best=2", "train.epochs=6")
    assert door(tmp_path, "--phase", "train", *arguments) == 0
    top1 = {row["epoch"]: row["val/top1"] for row in rows(tmp_path) if row["split"] == "val"}
    ranking = sorted(top1, key=lambda epoch: (-top1[epoch], epoch))
    assert load_checkpoint(tmp_path / "best.pt").progress.epoch == ranking[0]
    assert sorted(path.name for path in tmp_path.glob("best_*.pt")) == sorted(
        f"best_epoch{epoch:04d}.pt" for epoch in ranking[:2]
    )
    for epoch in ranking[:2]:
        chosen_by = load_checkpoint(tmp_path / f"best_epoch{epoch:04d}.pt").chosen_by
        assert chosen_by == f"best val/top1 = {top1[epoch]:.2f} at epoch {epoch} of 6"
    assert load_checkpoint(tmp_path / "last.pt").best == tuple((top1[epoch], epoch) for epoch in ranking[:2])


@pytest.mark.parametrize("ema", ["null", "0.9"])
def test_files_hold_what_the_task_chose_on_the_validation_predictions_of_their_own_weights(
    tmp_path: Path, ema: str
) -> None:
    assert door(tmp_path, *BEST, f"train.ema_decay={ema}") == 0
    names = [path.name for path in tmp_path.glob("*.pt")]
    assert len(names) == 4
    for name in names:
        checkpoint = load_checkpoint(tmp_path / name)
        assert checkpoint.calibrated
        task = toy_recipe.ToyTask(0.2, True).eval()
        task.load_state_dict(dict(checkpoint.weights))
        mean = task.logits(clips("val", 11).x).detach().mean()
        assert float(checkpoint.weights["threshold"]) == pytest.approx(float(mean), abs=1e-6)


def gradient_twin(accumulate: int, batch_size: int, epochs: int = 2) -> dict[str, torch.Tensor]:
    """The engine's training written plainly: SGD on the mean loss of every group of batches."""
    seed_all(0)
    task = toy_recipe.ToyTask(0.0, False)
    optimiser = torch.optim.SGD(task.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    data = clips("train", 24)
    for epoch in range(epochs):
        generator = torch.Generator().manual_seed(sample_seed(0, epoch, 0))
        order = torch.randperm(24, generator=generator).tolist()
        size = accumulate * batch_size
        for begin in range(0, 24, size):
            batch = take(data, order[begin : begin + size])
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(task.logits(batch.x), batch.label).backward()
            optimiser.step()
    return task.state_dict()


@pytest.mark.parametrize(("accumulate", "batch_size"), [(1, 12), (2, 6), (3, 4), (5, 4)])
def test_accumulated_batches_train_as_one_big_batch(tmp_path: Path, accumulate: int, batch_size: int) -> None:
    plain = "train.optimiser={name: sgd, lr: 0.1, weight_decay: 0}", "train.schedule={name: constant}"
    steady = "model.dropout=0", "model.batch_norm=false", "train.epochs=2", "train.evaluate=[]"
    arguments = (*plain, *steady, f"train.accumulate={accumulate}", f"train.batch_size={batch_size}")
    assert door(tmp_path, "--phase", "train", *arguments) == 0
    state = load_checkpoint(tmp_path / "last.pt").task
    for name, expected in gradient_twin(accumulate, batch_size).items():
        if name != "threshold":
            torch.testing.assert_close(state[name], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_training_in_mixed_precision_stays_near_full_precision(tmp_path: Path, precision: str) -> None:
    steady = "model.dropout=0", "train.epochs=1", "train.clip_gradient=1", "--phase", "train"
    for name in ("fp32", precision):
        assert door(tmp_path / name, *steady, f"train.precision={name}") == 0
    full, mixed = (load_checkpoint(tmp_path / name / "last.pt").task for name in ("fp32", precision))
    assert not torch.equal(full["head.weight"], mixed["head.weight"])
    torch.testing.assert_close(full["head.weight"], mixed["head.weight"], rtol=0.05, atol=0.02)
    assert mixed["head.weight"].dtype == torch.float32


def test_clipping_bounds_the_step(tmp_path: Path) -> None:
    still = (
        "train.optimiser={name: sgd, lr: 1, momentum: 0, weight_decay: 0, nesterov: false}",
        "train.schedule={name: constant}",
    )
    one_step = "train.epochs=1", "train.batch_size=24", "train.evaluate=[]", "--phase", "train"
    for name, limit in (("free", "null"), ("clipped", "0.01"), ("loose", "1e9")):
        assert door(tmp_path / name, *still, *one_step, f"train.clip_gradient={limit}") == 0
    free, clipped, loose = (load_checkpoint(tmp_path / name / "last.pt").task for name in ("free", "clipped", "loose"))
    seed_all(0)
    start = toy_recipe.ToyTask(0.2, True)
    names = [name for name, _ in start.named_parameters()]

    def moved(state: Any) -> torch.Tensor:
        return torch.cat([(state[name] - start.state_dict()[name]).flatten() for name in names])

    assert float(moved(clipped).norm()) == pytest.approx(0.01, rel=1e-3)
    torch.testing.assert_close(moved(clipped) / 0.01, moved(free) / moved(free).norm(), rtol=1e-2, atol=1e-3)
    assert torch.equal(moved(loose), moved(free))


@pytest.mark.parametrize("words", [(), ("--weights", "nowhere.pt")])
def test_a_test_of_nothing_reads_no_data_and_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    def read(run: Any, phases: Any) -> Any:
        raise AssertionError("data was read")

    none = tmp_path / "none"
    assert run(replace(RECIPE, build_loaders=read), ["--work-dir", str(none), "--phase", "test", *words]) == 2
    assert "no such checkpoint" in capsys.readouterr().err
    assert not none.exists()


def test_weights_begin_a_training_and_the_test_after_it_uses_what_was_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert door(tmp_path / "a", "--phase", "train") == 0
    weights = str(tmp_path / "a" / "last.pt")
    assert door(tmp_path / "b", "--weights", weights, "train.optimiser.lr=1e-12", "model.dropout=0") == 0
    assert str(tmp_path / "b" / "last.pt") in capsys.readouterr().out
    before, after = load_checkpoint(Path(weights)).task, load_checkpoint(tmp_path / "b" / "last.pt").task
    torch.testing.assert_close(before["hidden.weight"], after["hidden.weight"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data.clps=3"], "config: data.clps: unknown key; did you mean 'clips'?"),
        (["--device", "99"], "device: got '99'"),
        (["--device", "gpu"], "device: got 'gpu'"),
        (["--phase", "test"], "no such checkpoint; train first"),
        (["--weights", "nowhere.pt"], "nowhere.pt: no such checkpoint"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: no such config file"),
        (["data.nan_at=1/2"], "epoch 2, batch 2: got loss = nan, expected a finite number; samples train"),
        (["train.evaluate=[vla]"], "got split 'vla'"),
        (["train.select={name: best, metric: val/topp}"], "train.select.metric: got 'val/topp'"),
        (["train.batch_size=99"], "no batch of training data"),
        (["phases=[train, dance]"], "phases: got 'dance'"),
        (["train.optimiser.momentum=0"], "momentum"),
    ],
)
def test_bad_input_ends_in_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert door(tmp_path, *arguments) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in errors[0]


def test_a_malicious_checkpoint_ends_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(print))
    assert door(tmp_path / "run", "--phase", "test", "--weights", str(tmp_path / "evil.pt")) == 2
    assert "refused" in capsys.readouterr().err


def test_an_interrupt_has_its_own_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(toy_recipe.ToyTask, "training_step", interrupt)
    assert door(tmp_path) == 130


def test_a_full_disk_while_saving_ends_in_one_line_and_the_old_checkpoint_survives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert door(tmp_path, "--phase", "train") == 0
    before = file_sha256(tmp_path / "last.pt")
    rename: Callable[[Path, Path], Path] = Path.replace

    def full(source: Path, target: Path) -> Path:
        if target.suffix == ".pt":
            raise OSError(28, "No space left on device")
        return rename(source, target)

    monkeypatch.setattr(Path, "replace", full)
    content = torch.load(tmp_path / "last.pt", weights_only=True)
    content |= {"progress": [1, 0, 6]}
    (tmp_path / "middle.pt").touch()
    torch.save(content, tmp_path / "middle.pt")
    assert door(tmp_path, "--phase", "train", "--resume", str(tmp_path / "middle.pt")) == 2
    assert "No space left on device; the file that was there is kept" in capsys.readouterr().err
    assert file_sha256(tmp_path / "last.pt") == before
    assert not list(tmp_path.glob(".last.pt*"))


def test_two_processes_train_and_measure_as_one_and_count_nobody_twice(tmp_path: Path) -> None:
    together, alone = tmp_path / "two", tmp_path / "one"
    steady = "model.dropout=0", "model.batch_norm=false"
    pair = ["--work-dir", str(together), "--device", "cpu", "cpu", "train.batch_size=2"]
    assert run(RECIPE, [*pair, *steady]) == 0
    assert door(tmp_path / "big", "--phase", "train", "train.batch_size=4", *steady) == 0
    apart, whole = (load_checkpoint(tmp_path / name / "last.pt").task for name in ("two", "big"))
    assert all(torch.allclose(apart[name], whole[name], rtol=1e-4, atol=1e-6) for name in whole)
    assert door(alone, "--phase", "test", "--weights", str(together / "last.pt"), *steady) == 0
    tested = [
        {row["split"]: {k: v for k, v in row.items() if "/" in k} for row in rows(work_dir) if "checkpoint" in row}
        for work_dir in (together, alone)
    ]
    assert tested[0] == tested[1]
    assert tested[0]["test"]["test/count"] == 11
    one, two = (read_scores(work_dir / "scores" / "test.npz") for work_dir in (alone, together))
    assert one.sample_id == two.sample_id
    torch.testing.assert_close(torch.tensor(one.logits), torch.tensor(two.logits))


def test_a_sample_predicted_twice_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    doubled = take(clips("val", 4), [0, 1, 2, 3, 2])
    monkeypatch.setattr(toy_recipe, "clips", lambda split, count: doubled if split == "val" else clips(split, count))
    assert door(tmp_path) == 2
    assert "val: got sample ids more than once (val002" in capsys.readouterr().err


def test_predictions_do_not_depend_on_their_batches(tmp_path: Path) -> None:
    assert door(tmp_path / "a", "--phase", "train") == 0
    weights = str(tmp_path / "a" / "last.pt")
    for size in (1, 4, 64):
        arguments = ("--phase", "test", "--weights", weights, f"train.evaluation_batch_size={size}")
        assert door(tmp_path / f"of{size}", *arguments) == 0
    scores = [read_scores(tmp_path / f"of{size}" / "scores" / "val.npz") for size in (1, 4, 64)]
    for other in scores[1:]:
        assert other.sample_id == scores[0].sample_id
        torch.testing.assert_close(torch.tensor(other.logits), torch.tensor(scores[0].logits))


def test_overrides_are_found_anywhere_on_the_command_line() -> None:
    command = parse_command(
        ["--device", "0", "1", "a.b=2", "--phase", "test", "c=3", "--work-dir", "x y", "--save-score", "d=4"],
        ("train", "test"),
        "",
    )
    assert command.overrides[:3] == ("a.b=2", "c=3", "d=4")
    config = load_config(
        RECIPE.schema,
        [RECIPE.default_config],
        [token for token in command.overrides if token.partition("=")[0] not in ("a.b", "c", "d")],
    )
    assert (config.device, config.phases, config.work_dir, config.save_score) == (("0", "1"), ("test",), "x y", True)


def test_a_metric_sees_every_sample_once() -> None:
    prediction = Prediction(("a", "b"), torch.tensor([0, 1]), {"logits": torch.eye(2)})
    assert accuracy(prediction)["top1"] == 100


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_on_a_gpu_a_test_alone_reproduces_the_run_and_a_resumed_run_ends_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], precision: str
) -> None:
    arguments = ("--device", "0", *EVERYTHING, f"train.precision={precision}", "deterministic=true")
    assert door(tmp_path / "whole", *arguments) == 0
    printed = capsys.readouterr().out
    assert door(tmp_path / "whole", *arguments, "--phase", "test") == 0
    assert capsys.readouterr().out == printed
    whole = load_checkpoint(tmp_path / "whole" / "last.pt")
    assert door(tmp_path / "stopped", *arguments, "--phase", "train", "data.nan_at=1/3") == 2
    content = torch.load(tmp_path / "stopped" / "last.pt", weights_only=True)
    content["config"]["data"]["nan_at"] = None
    torch.save(content, tmp_path / "stopped" / "last.pt")
    assert door(tmp_path / "stopped", *arguments, "--phase", "train", "--resume") == 0
    assert_same_state(load_checkpoint(tmp_path / "stopped" / "last.pt"), whole)


def test_the_validate_phase_looks_at_validation_alone(tmp_path: Path) -> None:
    assert door(tmp_path, "--phase", "train", "validate") == 0
    assert (tmp_path / "scores" / "val.npz").exists()
    assert not (tmp_path / "scores" / "test.npz").exists()
    assert "test" not in {row["split"] for row in rows(tmp_path)}


def test_a_run_that_ends_inside_its_warm_up_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    door(tmp_path / "short", "train.epochs=1", "train.schedule.warmup_epochs=2")
    assert "2 warm-up epochs for 1 epochs" in caplog.text
    caplog.clear()
    door(tmp_path / "long", "train.epochs=2", "train.schedule.warmup_epochs=2")
    assert "warm-up" not in caplog.text
