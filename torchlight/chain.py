"""A chain of trainings: each stage is a run of its own that starts from the one before it; then a test of the last."""

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

import torch

from torchlight.atomic import write_atomically
from torchlight.checkpoint import Checkpoint, load_checkpoint
from torchlight.command_line import Command, parse_command
from torchlight.config import RunConfig, dump_config, load_config
from torchlight.distributed import is_main
from torchlight.launch import Recipe, config_files, end_in_one_line, on_devices, refuse_another_run, run_phases
from torchlight.run_dir import RunDir

R = TypeVar("R", bound=RunConfig)


@dataclass(frozen=True)
class Stage(Generic[R]):
    """One training of a chain.

    Args:
        name: of its run folder, inside the chain's.
        phase: the phase of the chain that it belongs to.
        recipe: its task starts from the former stage's folder, beside its own, unless it goes on from a checkpoint.
        config: the chain sets its ``work_dir`` and ``phases``.
        is_alone: there is no other stage, and its folder is the chain's own.
    """

    name: str
    phase: str
    recipe: Recipe[R]
    config: R
    is_alone: bool = False


@dataclass(frozen=True)
class Chain(Generic[R]):
    """Everything that makes a door to several stages.

    Args:
        schema: the config of the whole; default_config: the file used when neither ``--config`` nor a run folder that
            holds a ``config.yaml`` is given.
        phases: those of the stages; ``all`` of them and a test are offered beside them.
        stages: what a config asks for, in order.
        tests: phases of the last stage's recipe that come after its training.
        files_of: as of a `Recipe`, for these.
    """

    schema: type[R]
    default_config: Path
    phases: tuple[str, ...]
    stages: Callable[[R], Sequence[Stage[Any]]]
    tests: tuple[str, ...] = ("validate", "test")
    files_of: Mapping[str, str] = field(default_factory=dict)
    description: str = ""


def launch_chain(chain: Chain[R], argv: Sequence[str] | None = None) -> NoReturn:
    """Run a door and leave the process with its exit code."""
    sys.exit(run_chain(chain, sys.argv[1:] if argv is None else argv))


def run_chain(chain: Chain[R], argv: Sequence[str]) -> int:
    """Run a door; 0, or after one ``error:`` line on stderr 2 (130 when interrupted)."""
    return end_in_one_line(lambda: _start(chain, argv))


def _start(chain: Chain[R], argv: Sequence[str]) -> int:
    offered = (*chain.phases, *chain.tests, "all")
    command = parse_command(argv, offered, chain.description, chain.files_of)
    config = load_config(chain.schema, config_files(command, chain.default_config), command.overrides)
    if unknown := [phase for phase in config.phases if phase not in offered]:
        raise ValueError(f"phases: got {unknown[0]!r}, expected some of {', '.join(offered)}")
    stages = chain.stages(config)
    existing = tuple(dict.fromkeys(stage.phase for stage in stages))
    phases = (*existing, "test") if "all" in config.phases else config.phases
    if absent := [phase for phase in phases if phase not in (*existing, *chain.tests)]:
        raise ValueError(
            f"phases: got {absent[0]!r}, expected some of {', '.join((*existing, *chain.tests))}; "
            f"this config has no stage to {absent[0]}"
        )
    return on_devices(config.device, partial(_run_stages, stages, phases, config, command))


def _run_stages(
    stages: Sequence[Stage[Any]], phases: Sequence[str], config: R, command: Command, device: torch.device
) -> int:
    root = RunDir(Path(config.work_dir))
    is_trained = [stage.phase in phases for stage in stages]
    tests = tuple(phase for phase in phases if phase not in {stage.phase for stage in stages})
    if any(is_trained) and command.weights is not None:
        raise ValueError("--weights: got it with a training, expected it with a test alone; see the config's init_from")
    if command.resume not in (None, "auto"):
        raise ValueError(f"--resume: got {command.resume}, expected auto: each stage goes on from its own folder")
    stages = [
        stage
        if stage.is_alone
        else replace(stage, config=stage.config.model_copy(update={"work_dir": str(root.root / stage.name)}))
        for stage in stages
    ]
    for stage, is_made, is_next_made in zip(stages, is_trained, is_trained[1:], strict=False):
        if is_next_made and not is_made:
            checkpoint = _finished(stage, stage.phase, config, command)
            refuse_another_run(stage.config, checkpoint, stage.config.work_dir)
    if tests and not is_trained[-1] and command.weights is None:
        is_begun = all(RunDir(Path(stage.config.work_dir)).last.exists() for stage in stages[:-1])
        _finished(stages[-1], stages[-1].phase if is_begun else "all", config, command)
    is_config_kept = any(is_trained) and is_main() and not stages[-1].is_alone
    if is_config_kept and not root.config.exists():
        _keep_config(root, config)
    for stage, is_made in zip(stages, is_trained, strict=True):
        todo = ("train",) * is_made + (tests if stage is stages[-1] else ())
        if todo:
            run_phases(stage.recipe, stage.config.model_copy(update={"phases": todo}), command, device)
    # Not before: a run that is refused must not leave its config to what others have trained.
    if is_config_kept:
        _keep_config(root, config)
    return 0


def _keep_config(root: RunDir, config: RunConfig) -> None:
    root.root.mkdir(parents=True, exist_ok=True)
    write_atomically(root.config, dump_config(config).encode())


def _finished(stage: Stage[Any], phase: str, config: RunConfig, command: Command) -> Checkpoint:
    """The last checkpoint of a stage trained to its end; where there is none, the error says which phase makes it."""
    folder = RunDir(Path(stage.config.work_dir))
    if not folder.last.exists():
        raise FileNotFoundError(
            f"{folder.root}: got no {'run' if stage.is_alone else f'stage {stage.name!r}'}, expected a trained one; "
            f"make it with: {_command_line(phase, config, command)}"
        )
    checkpoint = load_checkpoint(folder.last)
    done, epochs = checkpoint.progress.epoch, checkpoint.config["train"]["epochs"]
    if done < epochs:
        raise ValueError(
            f"{folder.root}: got stage {stage.name!r} after {done} of {epochs} epochs, expected all; go on with: "
            + _command_line(stage.phase, config, command, "--resume", "auto")
        )
    return checkpoint


def _command_line(phase: str, config: RunConfig, command: Command, *more: str) -> str:
    """The call that was made, for another phase."""
    elsewhere = ("work_dir", "phases", "device", "save_score")
    files = [word for file in command.configs for word in ("--config", str(file))]
    overrides = [token for token in command.overrides if token.partition("=")[0] not in elsewhere]
    words = ["python", Path(sys.argv[0]).name, *files, "--work-dir", config.work_dir, "--phase", phase, *more]
    return shlex.join([*words, *overrides])
