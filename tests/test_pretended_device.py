"""Every door on a device that is not the CPU: nothing is left behind there, and a training step hardly ever waits.

No GPU is needed, see `pretended_device`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torch.utils import backend_registration

from torchlight.scores import read_scores

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "tests/pretended_device.py"
pytestmark = pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this version of torch knows no devices written in Python",
)
TRAINING = ("train.epochs=1", "train.schedule.warmup_epochs=0")
PRETRAINING = ("pretrain.train.epochs=1", "pretrain.train.schedule.warmup_epochs=0", "--phase", "all")
ACTIONS = (
    *TRAINING,
    *("data.frames=8", "data.synthetic.people=5", "data.synthetic.repetitions=1", "data.validation_subjects=[2]"),
    *("text.tower=toy", "model.encoder.width=8"),
)
TRANSFORMER = (*ACTIONS, "model.encoder.heads=2", "model.encoder.layers=1", "model.heads=2")
OPTIONS = (
    *("text.freeze=false", "loss.form=sigmoid", "loss.depict={}", "loss.dtcr={kmeans: 0.1, clusters: 2}"),
    *("model.head=mlp", "model.encoder.attention=flow", "model.encoder.spatial=transformer"),
    *("model.encoder.bone=parameterise", "model.encoder.embedding=conv", "pretrain.mask.what=cells"),
    *("train.ema_decay=0.9", "train.clip_gradient=1.0", "inference.mirror=true"),
)
WALKERS = (
    *TRAINING,
    *("data.frames=16", "data.synthetic.people=16", "data.synthetic.walks=3", "enrol.leave_out=[walker 016]"),
    *("walks_each=2", "train.batch_size=8", "model.encoder.width=8", "model.width=8"),
)
# Name -> door, config, overrides, and how often a training step may wait for the device: for which bodies are there,
# for which of their joints or frames are seen, and for whether all parts are. Two auxiliary tasks run the network three
# times more, a tuned tower looks up its texts, and a library's metric loss asks six times for each of six slots.
RUNS = {
    "ctrgcn": ("main_clip_ntu", "config/demo/joint.yaml", ACTIONS, 2),
    "zeroshot": ("main_clip_ntu", "config/demo/zeroshot.yaml", (*ACTIONS, "--phase", "train", "zeroshot"), 2),
    "tlca": ("main_bpmt", "config/demo/tlca.yaml", (*TRANSFORMER, *PRETRAINING), 3),
    "tlca_options": ("main_bpmt", "config/demo/tlca.yaml", (*TRANSFORMER, *PRETRAINING, *OPTIONS), 9),
    "bpmt": ("main_bpmt", "config/demo/bpmt.yaml", (*TRANSFORMER, *PRETRAINING), 3),
    "iip": ("main_bpmt", "config/demo/iip.yaml", (*TRANSFORMER, "--phase", "all"), 3),
    "gait": ("main_gait", "config/gait/demo.yaml", WALKERS, 38),
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    cache = str(tmp_path_factory.mktemp("cache"))
    return {**os.environ, "PARTCLIP_CACHE": cache, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def python(environment: dict[str, str], *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", list(RUNS))
def test_a_run_leaves_nothing_on_the_cpu_and_hardly_ever_waits_for_the_device(
    environment: dict[str, str], tmp_path: Path, name: str
) -> None:
    door, config, words, most = RUNS[name]
    report, start = tmp_path / "report.json", (door, "--config", config, "--work-dir", tmp_path / "run")
    done = python(environment, SCRIPT, report, *start, *words)
    assert done.returncode == 0, done.stderr
    assert "device pretended:0" in done.stderr
    steps, waits = json.loads(report.read_text()).values()
    assert steps > 0
    assert sum(waits.values()) <= most * steps, waits


def test_the_device_has_no_say_in_what_is_learned(environment: dict[str, str], tmp_path: Path) -> None:
    door, config, words, _ = RUNS["ctrgcn"]
    start = ("--config", config, *words, "train.optimiser.lr=1e-4")
    done = python(environment, SCRIPT, tmp_path / "report.json", door, *start, "--work-dir", tmp_path / "there")
    assert done.returncode == 0, done.stderr
    done = python(environment, f"{door}.py", *start, "--work-dir", tmp_path / "here", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    here, there = (read_scores(tmp_path / folder / "scores" / "test.npz").logits for folder in ("here", "there"))
    np.testing.assert_allclose(there, here, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("fault", ["there + here", "there[0] @ here[0]", "torch.stack([there.sum(), here.sum()])"])
def test_the_pretence_takes_a_tensor_left_behind_for_what_it_is(environment: dict[str, str], fault: str) -> None:
    lines = (
        "import torch",
        "from tests.pretended_device import pretended_device",
        "with pretended_device():",
        "    here, device = torch.ones(2, 2), torch.device('pretended')",
        "    there = here.to(device)",
        "    assert (there + there.sum().item() * torch.tensor(2.0)).device.type == 'pretended'",
        f"    {fault}",
    )
    done = python(environment, "-c", "\n".join(lines))
    assert done.returncode == 1
    assert "expected all on pretended" in done.stderr
