"""Two toy trainings in a row: the second starts from the first one's weights."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.torchlight.toy_recipe import RECIPE, ToyRun, build_task
from torchlight.chain import Chain, Stage, launch_chain
from torchlight.checkpoint import Checkpoint, load_checkpoint, load_state
from torchlight.config import TrainConfig
from torchlight.task import Loaders, Task


class ToyChainRun(ToyRun):
    first: TrainConfig | None = None


def second_task(run: ToyRun, loaders: Loaders, checkpoint: Checkpoint | None) -> Task:
    task = build_task(run, loaders, checkpoint)
    former = Path(run.work_dir).parent / "first" / "last.pt"
    if checkpoint is None and former.exists():
        load_state(task, load_checkpoint(former).weights, str(former))
    return task


def stages(run: ToyChainRun) -> Sequence[Stage[ToyRun]]:
    first = []
    if run.first is not None:
        plain = ToyRun(**{**run.model_dump(exclude={"first"}), "train": run.first})
        first = [Stage("first", "prepare", RECIPE, plain)]
    whole = replace(RECIPE, schema=ToyChainRun, build_task=second_task)
    return [*first, Stage("second", "finish", whole, run)]


CHAIN = Chain(
    schema=ToyChainRun,
    default_config=Path(__file__).parent / "toy_chain.yaml",
    phases=("prepare", "finish"),
    stages=stages,
    description="toy chain",
)

if __name__ == "__main__":
    launch_chain(CHAIN)
