import errno
import os
import pickle
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.torchlight.toy_recipe import ToyTask
from torchlight.atomic import SUFFIX, remove_unfinished, write_atomically
from torchlight.checkpoint import Checkpoint, Progress, load_checkpoint, load_state, save_checkpoint


def checkpoint() -> Checkpoint:
    task = ToyTask(0.1, True)
    return Checkpoint(
        task=task.state_dict(),
        average=None,
        training={"optimiser": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"betas": [0.9, 0.99]}]}},
        progress=Progress(epoch=2, batch=5, step=17),
        best=((93.5, 2), (91.0, 1)),
        seed=4,
        processes=1,
        chosen_by="last of 2 epochs",
        calibrated=False,
        config={"train": {"epochs": 2, "clip_gradient": None}},
        dataset="toy",
        class_names=("sit", "stand", "wave"),
        skeleton="none",
        modality="joint",
        extra={"parts": ["arms"], "width": 5},
    )


def test_a_checkpoint_reads_back_as_it_was_written(tmp_path: Path) -> None:
    written = checkpoint()
    save_checkpoint(tmp_path / "a.pt", written)
    read = load_checkpoint(tmp_path / "a.pt")
    assert all(torch.equal(read.task[key], value) for key, value in written.task.items())
    assert replace(read, task={}, training=None) == replace(written, task={}, training=None)
    assert list(tmp_path.iterdir()) == [tmp_path / "a.pt"]


def test_numpy_scalars_and_tuples_become_plain_and_objects_are_refused_when_saving(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.pt", replace(checkpoint(), extra={"n": np.int64(3), "parts": ("a", "b")}))
    assert load_checkpoint(tmp_path / "a.pt").extra == {"n": 3, "parts": ["a", "b"]}
    with pytest.raises(TypeError, match="got a set"):
        save_checkpoint(tmp_path / "b.pt", replace(checkpoint(), extra={"n": {1}}))


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("writer", [torch.save, lambda value, path: Path(path).write_bytes(pickle.dumps(value))])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path: Path, writer: object) -> None:
    writer({"format": 1, "task": Bomb(tmp_path / "boom")}, tmp_path / "evil.pt")  # type: ignore[operator]
    with pytest.raises(ValueError, match="refused") as caught:
        load_checkpoint(tmp_path / "evil.pt")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 not a zip", pickle.dumps({"a": 1})])
def test_a_file_that_is_no_checkpoint_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(ValueError, match="a.pt") as caught:
        load_checkpoint(tmp_path / "a.pt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_cut_off_checkpoint_is_refused(tmp_path: Path, share: float) -> None:
    save_checkpoint(tmp_path / "a.pt", checkpoint())
    whole = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ValueError, match="a.pt"):
        load_checkpoint(tmp_path / "a.pt")


def test_a_state_dict_of_another_format_is_refused(tmp_path: Path) -> None:
    torch.save(ToyTask(0.1, True).state_dict(), tmp_path / "a.pt")
    with pytest.raises(ValueError, match="format None"):
        load_checkpoint(tmp_path / "a.pt")


def test_weights_that_do_not_fit_are_refused_with_the_difference() -> None:
    state = dict(ToyTask(0.1, True).state_dict())
    state["classifier.weight"] = state.pop("head.weight")
    state["hidden.bias"] = torch.zeros(9)
    before = ToyTask(0.1, True)
    kept = {key: value.clone() for key, value in before.state_dict().items()}
    with pytest.raises(ValueError, match="missing: head.weight.*left over: classifier.weight.*hidden.bias \\(9,\\)"):
        load_state(before, state, "here")
    assert all(torch.equal(value, kept[key]) for key, value in before.state_dict().items())


def test_a_full_disk_keeps_the_old_file_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "last.pt"
    write_atomically(target, b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"last.pt: could not be written: No space left on device; .* is kept"):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_size_limit_of_the_system_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "last.pt"
    write_atomically(target, b"old")
    program = f"""
from pathlib import Path
from torchlight.atomic import write_atomically
try:
    write_atomically(Path({str(target)!r}), b"x" * 100_000)
except OSError as error:
    print(error)
"""
    limit = (10_000, 10_000)
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )
    assert "could not be written: File too large; the file that was there is kept" in done.stdout
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / f".last.pt.abc{SUFFIX}").write_bytes(b"half")
    (tmp_path / ".hidden").write_bytes(b"mine")
    remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".hidden"]
