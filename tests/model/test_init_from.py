from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from feeders.skeleton import KINECT20, NTU25
from model.encoders.cascade import TlcaConfig
from model.init_from import load_encoder
from model.masking import MaskConfig
from model.tasks.reconstruction import ReconstructionTask
from tests.model.staged import TwoStages
from torchlight.checkpoint import Checkpoint, Progress, save_checkpoint
from torchlight.task import Task

CONFIG = TlcaConfig()


def kept(task: Task, path: Path, skeleton: str = "KINECT20") -> Checkpoint:
    checkpoint = Checkpoint(
        task=task.state_dict(),
        average=None,
        training=None,
        progress=Progress(epoch=1),
        best=(),
        seed=0,
        processes=1,
        chosen_by="last",
        calibrated=False,
        config={},
        dataset="toy",
        class_names=(),
        skeleton=skeleton,
        modality="joint",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, checkpoint)
    return checkpoint


def trained(seed: int = 0, channels: int = 16) -> ReconstructionTask:
    torch.manual_seed(seed)
    return ReconstructionTask(TwoStages(channels=channels), "frames", MaskConfig(), {})


@pytest.mark.parametrize("place", ["last.pt", "finetune/last.pt", "best.pt"])
def test_the_encoder_of_a_run_a_chain_or_a_file_is_loaded_whole(tmp_path: Path, place: str) -> None:
    source, target = trained(0), TwoStages()
    kept(source, tmp_path / place)
    for path in (tmp_path, tmp_path / place):
        load_encoder(target, path, CONFIG)
        assert_close(target.state_dict(), source.network["encoder"].state_dict())
        target = TwoStages()


def test_the_chosen_epoch_goes_before_the_last_and_the_average_before_the_weights(tmp_path: Path) -> None:
    kept(trained(0), tmp_path / "last.pt")
    chosen = kept(trained(1), tmp_path / "best.pt")
    save_checkpoint(tmp_path / "best.pt", replace(chosen, average=trained(2).state_dict()))
    target = TwoStages()
    load_encoder(target, tmp_path, CONFIG)
    assert_close(target.state_dict(), trained(2).network["encoder"].state_dict())


def test_what_does_not_fit_is_named_and_nothing_is_loaded(tmp_path: Path) -> None:
    kept(trained(channels=8), tmp_path / "last.pt")
    target = TwoStages()
    before = {name: value.clone() for name, value in target.state_dict().items()}
    with pytest.raises(ValueError, match=r"init_from: .*last\.pt.*of another shape: first\.lift\.weight \(8, 3\)"):
        load_encoder(target, tmp_path, CONFIG)
    assert_close(target.state_dict(), before, rtol=0, atol=0)


def test_a_part_of_an_encoder_is_not_an_encoder(tmp_path: Path) -> None:
    whole = kept(trained(), tmp_path / "last.pt")
    some = {name: value for name, value in whole.task.items() if "second" not in name}
    save_checkpoint(tmp_path / "last.pt", replace(whole, task=some))
    with pytest.raises(ValueError, match=r"missing: second\.0\.weight"):
        load_encoder(TwoStages(), tmp_path, CONFIG)
    save_checkpoint(tmp_path / "last.pt", replace(whole, task={"head.weight": torch.ones(1)}))
    with pytest.raises(ValueError, match=r"without network\.encoder\.\*"):
        load_encoder(TwoStages(), tmp_path, CONFIG)


def test_another_skeletons_weights_are_taken_only_where_the_joints_are_the_same(tmp_path: Path) -> None:
    kept(trained(), tmp_path / "last.pt")
    load_encoder(TwoStages(), tmp_path, CONFIG, replace(KINECT20, name="another name for it"))
    with pytest.raises(ValueError, match="got weights for skeleton KINECT20, expected the joints of NTU25"):
        load_encoder(TwoStages(), tmp_path, CONFIG, NTU25)


def test_an_empty_place_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="init_from: .*no checkpoint there"):
        load_encoder(TwoStages(), tmp_path, CONFIG)


@pytest.mark.parametrize(
    "section", [lambda encoder: {"encoder": encoder}, lambda encoder: {"model": {"encoder": encoder}}]
)
def test_an_encoder_that_meant_something_else_by_its_weights_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, section: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    source = kept(trained(), tmp_path / "last.pt")
    then = CONFIG.model_copy(update={"heads": 2, "bone": "subtract", "t1": "frozen"}).model_dump(mode="json")
    save_checkpoint(tmp_path / "last.pt", replace(source, config=section(then)))
    load_encoder(TwoStages(), tmp_path, CONFIG)
    assert "its encoder was another one: heads: 4 now, 2 then; bone: 'none' now, 'subtract' then" in caplog.text
    save_checkpoint(tmp_path / "last.pt", replace(source, config=section(CONFIG.model_dump(mode="json"))))
    caplog.clear()
    load_encoder(TwoStages(), tmp_path, CONFIG)
    assert "another one" not in caplog.text
