"""docs/own_walkers.md is walked as written: its files are written, its commands run, in its order."""

import json
from pathlib import Path

from feeders.store import Store
from tests.page import walk


def test_every_block_of_the_page_runs_as_written(tmp_path: Path) -> None:
    said = walk("docs/own_walkers.md", tmp_path)
    assert "data/my_walkers: 72 clips, whole" in said
    assert "enrolled 2 people (P003, P006)" in said
    store = Store(tmp_path / "data/my_walkers")
    assert store.header.class_names == tuple(f"P{person:03d}" for person in range(1, 13))
    assert set(store.index.setup.tolist()) == {0, 1}
    tested = json.loads((tmp_path / "work_dir/my_gait/metrics.jsonl").read_text().splitlines()[-1])
    assert any(name.startswith("test/") for name in tested)
    answers = [json.loads(line) for line in (tmp_path / "work_dir/my_gait/identified.jsonl").read_text().splitlines()]
    assert [answer["walk"][:4] for answer in answers] == ["P006", "P012"]
    assert all({match["name"] for match in answer["nearest"]} == {"P003", "P006"} for answer in answers)
