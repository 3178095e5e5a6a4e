"""NTU RGB+D 120, step 2 of 3: put the store together and report."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from feeders.prepare.steps import run_step  # noqa: E402

if __name__ == "__main__":
    sys.exit(run_step("ntu120", __file__))
