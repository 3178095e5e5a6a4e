"""The doors on Penn Action, from a raw folder of simulated files: narrow encoders, one epoch."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from main_bpmt import CHAIN
from tests.feeders.penn_files import write_clips
from torchlight.chain import run_chain
from torchlight.scores import read_scores

ROOT = Path(__file__).parent.parent
SMALL = ("model.encoder.width=8", "data.frames=8", "text.tower=toy", "train.schedule.warmup_epochs=0")


def test_a_raw_folder_of_2d_poses_is_prepared_trained_on_and_tested(tmp_path: Path) -> None:
    write_clips(tmp_path / "penn_action/labels", clips=27)
    done = subprocess.run(
        [
            *(sys.executable, "main_clip_ntu.py", "--config", "config/penn-action/lst_bone_vel.yaml"),
            *("--config", "config/penn-action/cpu.yaml", "--work-dir", str(tmp_path / "run"), "--save-score"),
            *(*SMALL, "train.epochs=1", "train.batch_size=8"),
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "PARTCLIP_DATA": str(tmp_path),
            "PARTCLIP_CACHE": str(tmp_path / "cache"),
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    scores = read_scores(tmp_path / "run/scores/test.npz")
    assert scores.logits.shape == (9, 15)
    assert np.isfinite(scores.logits).all()


@pytest.mark.parametrize(
    ("encoder", "stages"),
    [("tlca", ("frames", "finetune")), ("bpmt", ("parts", "pairs", "finetune")), ("iip", ("finetune",))],
)
def test_every_stage_of_a_transformer_is_trained_from_the_raw_folder_and_aligned_with_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: str, stages: tuple[str, ...]
) -> None:
    write_clips(tmp_path / "penn_action/labels", clips=27)
    monkeypatch.setenv("PARTCLIP_DATA", str(tmp_path))
    monkeypatch.setenv("PARTCLIP_CACHE", str(tmp_path / "cache"))
    overlay = "transformer_cpu" if encoder == "tlca" else f"{encoder}_cpu"
    files = ("--config", f"config/penn-action/{encoder}.yaml", "--config", f"config/penn-action/{overlay}.yaml")
    once = [
        f"{train}.{key}" for train in ("train", "pretrain.train") for key in ("epochs=1", "schedule.warmup_epochs=0")
    ]
    words = ("--work-dir", str(tmp_path / "run"), "--phase", "all", "--save-score", "--device", "cpu")
    small = ("model.encoder.width=8", "data.frames=8", "text.tower=toy", *once[: 2 if encoder == "iip" else 4])
    assert run_chain(CHAIN, [*files, *words, *small]) == 0
    assert {path.parent.name for path in (tmp_path / "run").glob("*/last.pt")} == set(stages)
    scores = read_scores(tmp_path / "run/finetune/scores/test.npz")
    assert scores.logits.shape == (9, 15)
    assert np.isfinite(scores.logits).all()
    assert "contrast/whole" in (tmp_path / "run/finetune/metrics.jsonl").read_text()
