"""docs/library.md is walked as written: its files are written, its commands run, in its order."""

import json
from pathlib import Path

from feeders.synthetic import CLASS_NAMES
from tests.page import walk


def test_every_block_of_the_page_runs_as_written(tmp_path: Path) -> None:
    said = walk("docs/library.md", tmp_path)
    assert "16 clips; all answers: work_dir/demo/joint/predicted.jsonl" in said
    lines = (tmp_path / "work_dir/demo/joint/predicted.jsonl").read_text().splitlines()
    clips = [json.loads(line)["clip"] for line in lines]
    assert clips[0] == "data/my_clips/wave.npy"
    assert sorted(clips) == sorted(f"data/my_clips/{name}.npy" for name in CLASS_NAMES)
    assert "(17, 16) (17, 4, 16)" in said
    assert "('whole', 'torso', 'arms', 'legs') (17, 4, 384)" in said
    assert "arms most alike: data/my_clips/clap.npy" in said
