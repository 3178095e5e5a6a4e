"""docs/own_data.md is walked as written: its files are written, its commands run, in its order."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from feeders.store import Store
from torchlight.scores import read_scores

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```(python|yaml|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_every_block_of_the_page_runs_as_written(tmp_path: Path) -> None:
    for entry in ROOT.iterdir():
        if entry.name not in ("data", "work_dir", ".git"):
            (tmp_path / entry.name).symlink_to(entry)
    (tmp_path / "data").mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "PARTCLIP_DATA"}
    environment |= {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1", "PARTCLIP_CACHE": str(tmp_path / "cache")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    said = ""
    for language, text in BLOCK.findall((ROOT / "docs/own_data.md").read_text(encoding="utf-8")):
        if language == "sh":
            done = subprocess.run(
                ["bash", "-euc", text], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
            said += done.stdout
        else:
            name = text.partition("\n")[0].removeprefix("# ")
            (tmp_path / name).write_text(text, encoding="utf-8")
    assert "data/mine: 108 clips, whole" in said
    assert "data/my_prompts.yaml: 3 classes, 0 issues" in said
    mine, again = Store(tmp_path / "data/mine"), Store(tmp_path / "data/mine_again")
    assert sorted(mine.index.digest) == sorted(again.index.digest)
    scores = read_scores(tmp_path / "work_dir/mine/joint/scores/test.npz")
    expected = mine.index.sample_id[np.isin(mine.index.subject, [5, 6])]
    assert sorted(scores.sample_id) == sorted(expected.tolist())
