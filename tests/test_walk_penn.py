"""The door on Penn Action, from a raw folder of simulated files: a narrow encoder, one epoch."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.feeders.penn_files import write_clips
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
