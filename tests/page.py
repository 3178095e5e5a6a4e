"""A page of docs as its reader would walk it."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
_BLOCK = re.compile(r"^```(python|yaml|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def walk(page: str, folder: Path) -> str:
    """What the commands of a page say, run in order in an empty folder with our files; the page's files are written."""
    for entry in ROOT.iterdir():
        if entry.name not in ("data", "work_dir", ".git"):
            (folder / entry.name).symlink_to(entry)
    (folder / "data").mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "PARTCLIP_DATA"}
    environment |= {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "PARTCLIP_CACHE": str(folder / "cache")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    said = ""
    for language, text in _BLOCK.findall((ROOT / page).read_text(encoding="utf-8")):
        if language == "sh":
            done = subprocess.run(
                ["bash", "-euc", text], cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
            said += done.stdout
        else:
            name = text.partition("\n")[0].removeprefix("# ")
            (folder / name).write_text(text, encoding="utf-8")
    return said
