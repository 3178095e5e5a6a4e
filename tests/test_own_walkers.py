"""docs/own_walkers.md is walked as written: its files are written, its commands run, in its order."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from feeders.store import Store

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
    for language, text in BLOCK.findall((ROOT / "docs/own_walkers.md").read_text(encoding="utf-8")):
        if language == "sh":
            done = subprocess.run(
                ["bash", "-euc", text], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
            said += done.stdout
        else:
            name = text.partition("\n")[0].removeprefix("# ")
            (tmp_path / name).write_text(text, encoding="utf-8")
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
