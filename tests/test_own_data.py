"""docs/own_data.md is walked as written: its files are written, its commands run, in its order."""

from pathlib import Path

import numpy as np

from feeders.skeleton import skeleton_named
from feeders.store import Store
from tests.page import walk
from torchlight.checkpoint import load_checkpoint
from torchlight.scores import read_scores


def test_every_block_of_the_page_runs_as_written(tmp_path: Path) -> None:
    said = walk("docs/own_data.md", tmp_path)
    assert "data/mine: 108 clips, whole" in said
    assert "data/my_prompts.yaml: 3 classes, 0 issues" in said
    assert "skeleton UPPER9, metres" in said
    upper = Store(tmp_path / "data/my_upper").skeleton
    assert upper.parts("sides")["left"].regions == ("left_arms", "left_hands")
    assert skeleton_named(load_checkpoint(tmp_path / "work_dir/mine/upper/last.pt").skeleton) == upper
    mine, again = Store(tmp_path / "data/mine"), Store(tmp_path / "data/mine_again")
    assert sorted(mine.index.digest) == sorted(again.index.digest)
    scores = read_scores(tmp_path / "work_dir/mine/joint/scores/test.npz")
    expected = mine.index.sample_id[np.isin(mine.index.subject, [5, 6])]
    assert sorted(scores.sample_id) == sorted(expected.tolist())
