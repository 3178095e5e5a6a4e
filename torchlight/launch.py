"""From a recipe and a command line to one run, on one process or several."""

import errno
import logging
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import parent_process
from pathlib import Path
from typing import Generic, NoReturn, TypeVar

import torch
from torch.multiprocessing.spawn import ProcessExitedException, spawn

from torchlight.allocator import keep_freed_memory
from torchlight.atomic import remove_unfinished, write_atomically
from torchlight.checkpoint import Checkpoint, demand_checkpoint, load_checkpoint, load_state
from torchlight.command_line import Command, parse_command
from torchlight.config import RunConfig, SelectBest, config_differences, dump_config, load_config
from torchlight.devices import resolve_devices
from torchlight.digest import file_sha256
from torchlight.distributed import (
    barrier,
    is_main,
    join_processes,
    launched_by_torchrun,
    leave_processes,
    main_first,
    world_size,
)
from torchlight.engine import Engine
from torchlight.evaluation import Evaluation, evaluate
from torchlight.log import logging_to
from torchlight.outcome import Origin, outcome_row, outcome_table, save_scores
from torchlight.run_dir import RunDir
from torchlight.seed import make_deterministic, seed_all
from torchlight.task import Loaders, Metric, Prediction, Task
from torchlight.yaml_tree import override_tree

logger = logging.getLogger(__name__)

R = TypeVar("R", bound=RunConfig)
# Seconds that a process which is not the main one waits before it speaks of its error.
_PATIENCE = 5.0
# What a phase evaluates where that is not everything there is.
_SPLITS = {"validate": ("val",), "zeroshot": ("test",)}
# A resumed run may differ in these: they say where and how loudly it runs, not what it computes.
_HARMLESS = ("work_dir", "device", "phases", "save_score", "train.save_every_steps", "train.log_every")


@dataclass(frozen=True)
class Recipe(Generic[R]):
    """Everything that makes a door: which config, and how it becomes data, a task and metrics.

    With several devices a recipe travels to other processes, so its functions are module-level ones.

    Args:
        schema: the config; default_config: the file used when ``--config`` is not given.
        phases: what the door offers, of ``train``, ``validate`` (test on split ``val`` alone), ``test`` and
            ``zeroshot`` (test on split ``test`` alone, for a recipe whose metrics are then those of unseen classes).
        build_loaders: (config, phases to run) -> data.
        build_task: (config, data, checkpoint whose weights will be loaded, or None) -> task. What a checkpoint carries
            (frozen text features) need not be computed.
        report: more text to print after a test of the ``test`` split.
        save: (config, evaluation, data, which weights, run folder) -> the file in which it keeps what was said
            of the samples, for ``save_score``.
        is_open_set: what is tested need not be of the classes learned from.
        own_phases: phase -> what the door does there with a trained task, beside testing it; every process calls it.
        files_of: phase -> config key of the files that the command line may name after it.
    """

    schema: type[R]
    default_config: Path
    phases: tuple[str, ...]
    build_loaders: Callable[[R, Sequence[str]], Loaders]
    build_task: Callable[[R, Loaders, Checkpoint | None], Task]
    build_metrics: Callable[[R, Loaders], Sequence[Metric]]
    report: Callable[[R, Prediction, Loaders], str] | None = None
    save: Callable[[R, Evaluation, Loaders, Origin, RunDir], Path] = save_scores
    is_open_set: bool = False
    own_phases: Mapping[str, Callable[["Trained[R]"], None]] = field(default_factory=dict)
    files_of: Mapping[str, str] = field(default_factory=dict)
    description: str = ""


@dataclass(frozen=True)
class Trained(Generic[R]):
    """A task with trained weights, as a recipe's own phases get it.

    Args:
        path, sha: the checkpoint's file and the digest of its content.
    """

    config: R
    loaders: Loaders
    task: Task
    checkpoint: Checkpoint
    path: Path
    sha: str
    device: torch.device
    run_dir: RunDir


def launch(recipe: Recipe[R], argv: Sequence[str] | None = None) -> NoReturn:
    """Run a door and leave the process with its exit code."""
    sys.exit(run(recipe, sys.argv[1:] if argv is None else argv))


def run(recipe: Recipe[R], argv: Sequence[str]) -> int:
    """Run a door; 0, or after one ``error:`` line on stderr 2 (130 when interrupted)."""
    return end_in_one_line(lambda: _start(recipe, argv))


def end_in_one_line(work: Callable[[], int]) -> int:
    """Exit code of some work: what comes from outside ends in one clear line; PARTCLIP_TRACEBACK=1 shows from where."""
    try:
        return work()
    except KeyboardInterrupt:
        if parent_process() is not None:
            return 130
        return _fail("interrupted; --resume auto goes on from the last checkpoint", 130)
    except torch.cuda.OutOfMemoryError:
        return _fail(
            "out of GPU memory; lower train.batch_size (and raise train.accumulate) or set train.precision=bf16", 2
        )
    except (ValueError, OSError) as error:
        return _fail(_one_line(error), 2)
    except RuntimeError:
        if world_size() > 1:
            # Most likely the connection to a process that has failed and says why; then this one is about to be ended.
            time.sleep(2 * _PATIENCE)
        raise


def _fail(message: str, code: int) -> int:
    if os.environ.get("PARTCLIP_TRACEBACK") == "1":
        traceback.print_exc()
    if not is_main():
        # Where every process fails alike, the main one speaks and the others are ended before they do.
        time.sleep(_PATIENCE)
    sys.stderr.write(f"error: {message}\n")
    return code


def _one_line(error: Exception) -> str:
    text = str(error).strip()
    if "Original Traceback" in text:
        # A data loader worker's error comes with its traceback; its last line is the error.
        return text.splitlines()[-1].partition(": ")[2]
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "the disk is full; what was saved before is whole: free some space and go on with --resume auto"
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return " ".join(text.split()) or type(error).__name__


def _start(recipe: Recipe[R], argv: Sequence[str]) -> int:
    offered = (*recipe.phases, *recipe.own_phases)
    command = parse_command(argv, offered, recipe.description, recipe.files_of)
    config = load_config(recipe.schema, config_files(command, recipe.default_config), command.overrides)
    if unknown := [phase for phase in config.phases if phase not in offered]:
        raise ValueError(f"phases: got {unknown[0]!r}, expected some of {', '.join(offered)}")
    return on_devices(config.device, partial(run_phases, recipe, config, command))


def config_files(command: Command, default: Path) -> Sequence[Path]:
    """The files that are named, else the run's own where its folder has one, else the door's."""
    folder = override_tree(command.overrides).get("work_dir")
    kept = default if folder is None else RunDir(Path(folder)).config
    return command.configs or [kept if kept.exists() else default]


def on_devices(tokens: Sequence[str], work: Callable[[torch.device], int]) -> int:
    """The exit code of work done on each of the devices named, by one process each.

    Args:
        tokens: ``auto``, ``cpu`` or CUDA indices.
        work: travels to other processes where there are several, so it is a ``partial`` of a module-level function.
    """
    if launched_by_torchrun():
        device = _device_under_torchrun(tokens)
        join_processes(device)
        leave_processes(end_in_one_line(partial(work, device)))
    devices = resolve_devices(tokens)
    if len(devices) == 1:
        return work(devices[0])
    with tempfile.TemporaryDirectory() as meeting_place:
        shared = (work, devices, f"file://{meeting_place}/processes")
        # It would announce that it ends the others when one fails; that one has said why.
        logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
        try:
            spawn(_work_as_one_of, shared, nprocs=len(devices))
        except ProcessExitedException as error:
            return error.exit_code
    return 0


def _device_under_torchrun(tokens: Sequence[str]) -> torch.device:
    """Each local process takes its own of the devices named; ``auto`` is the CUDA device of its number."""
    local = int(os.environ["LOCAL_RANK"])
    if list(tokens) == ["auto"] and torch.cuda.is_available():
        return resolve_devices([str(local)])[0]
    devices = resolve_devices(tokens)
    if len(devices) == 1 and devices[0].type != "cuda":
        return devices[0]
    if local >= len(devices):
        raise ValueError(f"device: got {' '.join(tokens)!r}, expected one for each process that torchrun starts here")
    return devices[local]


def _work_as_one_of(
    number: int, work: Callable[[torch.device], int], devices: Sequence[torch.device], place: str
) -> None:
    join_processes(devices[number], place, number, len(devices))
    leave_processes(end_in_one_line(partial(work, devices[number])))


@dataclass(frozen=True)
class _Run(Generic[R]):
    """What the phases of one run share."""

    recipe: Recipe[R]
    config: R
    loaders: Loaders
    metrics: Sequence[Metric]
    device: torch.device
    run_dir: RunDir

    def build_task(self, checkpoint: Checkpoint | None) -> Task:
        """A new task, the same for the same seed."""
        seed_all(self.config.seed)
        with main_first():
            return self.recipe.build_task(self.config, self.loaders, checkpoint)


def run_phases(recipe: Recipe[R], config: R, command: Command, device: torch.device) -> int:
    """Do the config's phases in their order, in this process; 0."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
        # Convolutions like products: fp32 is float32, and who wants speed asks for bf16.
        torch.backends.cudnn.allow_tf32 = False
    else:
        keep_freed_memory()
    if config.deterministic:
        make_deterministic()
    run_dir = RunDir(Path(config.work_dir))
    start = _start_of(run_dir, config, command) if "train" in config.phases else None
    if start is None:
        # Before the data is read, and before anything is left in a folder that holds no run.
        demand_checkpoint(_tested(run_dir, config, command.weights))
    if is_main():
        _open_run_dir(run_dir, config, is_trained=start is not None)
    barrier()
    with logging_to(run_dir.log):
        logger.info("%s in %s, device %s, %d process(es)", "+".join(config.phases), run_dir.root, device, world_size())
        with main_first():
            loaders = recipe.build_loaders(config, config.phases)
        run = _Run(recipe, config, loaders, recipe.build_metrics(config, loaders), device, run_dir)
        weights = command.weights
        for phase in config.phases:
            if phase == "train":
                assert start is not None
                _train(run, start, weights)
                # What is tested next is what has just been trained, not what training began with.
                weights = None
            elif phase in recipe.own_phases:
                recipe.own_phases[phase](_load_trained(run, weights))
            else:
                _test(run, weights, _SPLITS.get(phase) or tuple(loaders.evaluation))
    return 0


def _open_run_dir(run_dir: RunDir, config: RunConfig, is_trained: bool) -> None:
    run_dir.root.mkdir(parents=True, exist_ok=True)
    if is_trained:
        # Not in a test: somebody may be training there.
        remove_unfinished(run_dir.root)
    else:
        _keep_config(run_dir, config)


def _keep_config(run_dir: RunDir, config: RunConfig) -> None:
    if not run_dir.config.exists():
        write_atomically(run_dir.config, dump_config(config).encode())


@dataclass(frozen=True)
class _Start:
    """Where a training begins: from nothing, or from a checkpoint; ``file`` where that lies in another run's folder."""

    checkpoint: Checkpoint | None = None
    file: Path | None = None

    @property
    def is_new(self) -> bool:
        """The run's folder has nothing of this run."""
        return self.checkpoint is None or self.file is not None


def _start_of(run_dir: RunDir, config: RunConfig, command: Command) -> _Start:
    """As the command says; a folder that holds another run is refused unless that may be overwritten."""
    is_resumed = command.resume is not None and (command.resume != "auto" or run_dir.last.exists())
    start = _resumed(run_dir, config, command) if is_resumed else _Start()
    if start.is_new and not command.overwrite:
        run_dir.refuse_a_run()
    return start


def _resumed(run_dir: RunDir, config: RunConfig, command: Command) -> _Start:
    if command.weights is not None:
        raise ValueError("--weights: got it with --resume, expected one of the two; a resumed run has its own weights")
    path = run_dir.last if command.resume == "auto" else Path(str(command.resume))
    checkpoint = load_checkpoint(path)
    refuse_another_run(config, checkpoint, "resume")
    best = RunDir(path.parent).best
    if checkpoint.best and not best.exists():
        raise FileNotFoundError(
            f"{best}: no such checkpoint; {path} needs it, the choice of epoch {checkpoint.best[0][1]}"
        )
    return _Start(checkpoint, None if path.parent.resolve() == run_dir.root.resolve() else path)


def refuse_another_run(config: RunConfig, checkpoint: Checkpoint, where: str) -> None:
    """A ValueError where a config differs, in what matters, from the one that a checkpoint was trained with."""
    if different := _differences_shown(config, checkpoint):
        raise ValueError(
            f"{where}: got another config than the run was started with ({different}), expected the same; "
            "use the run's own config.yaml, or start a new run in another --work-dir"
        )


def _differences_shown(config: RunConfig, checkpoint: Checkpoint, *beyond: str) -> str:
    """Where a config differs from a checkpoint's in what matters; keys that begin with one of ``beyond`` do not."""
    return "; ".join(
        f"{key}: {now!r} now, {then!r} then"
        for key, (now, then) in config_differences(config, checkpoint.config).items()
        if key not in _HARMLESS and "workers" not in key and not key.startswith((*beyond, *config.after_training))
    )


def _train(run: _Run[R], start: _Start, weights: Path | None) -> None:
    resume, run_dir = start.checkpoint, run.run_dir
    initial = resume if weights is None else _fitting(run, weights)
    task = run.build_task(initial)
    if weights is not None and initial is not None:
        load_state(task, initial.weights, str(weights))
        logger.info("training starts from %s (%s)", weights, initial.chosen_by)
    if resume is not None:
        logger.info("going on after %d epochs and %d batches", resume.progress.epoch, resume.progress.batch)
    engine = Engine(task, run.loaders, run.metrics, run.config, run.device, run_dir)
    if resume is not None:
        engine.restore(resume)
    if is_main():
        # Not before: what is there must not be lost to a run that cannot begin.
        if start.is_new:
            run_dir.clear()
        if start.file is not None:
            run_dir.take_over(start.file)
        _keep_config(run_dir, run.config)
    barrier()
    engine.fit()
    barrier()


def _fitting(run: _Run[R], path: Path) -> Checkpoint:
    """A checkpoint of these classes; that it was trained with another config is allowed, but never silent."""
    checkpoint, loaders = load_checkpoint(path), run.loaders
    if checkpoint.class_names != loaders.class_names and not run.recipe.is_open_set:
        raise ValueError(
            f"{path}: got weights for {len(checkpoint.class_names)} classes of {checkpoint.dataset}, expected the "
            f"{len(loaders.class_names)} classes of {loaders.dataset}"
        )
    if is_main() and (different := _differences_shown(run.config, checkpoint, "train.")):
        logger.warning("%s was trained with another config: %s", path, different)
    return checkpoint


def _tested(run_dir: RunDir, config: RunConfig, weights: Path | None) -> Path:
    """The checkpoint that is tested: the one named, else the one that the run selects."""
    return weights or (run_dir.best if isinstance(config.train.select, SelectBest) else run_dir.last)


def _load_trained(run: _Run[R], weights: Path | None) -> Trained[R]:
    config, loaders, run_dir = run.config, run.loaders, run.run_dir
    path = _tested(run_dir, config, weights)
    checkpoint = _fitting(run, path)
    task = run.build_task(checkpoint)
    load_state(task, checkpoint.weights, str(path))
    task.to(run.device)
    return Trained(config, loaders, task, checkpoint, path, file_sha256(path), run.device, run_dir)


def _test(run: _Run[R], weights: Path | None, splits: Sequence[str]) -> None:
    config, loaders, run_dir = run.config, run.loaders, run.run_dir
    trained = _load_trained(run, weights)
    task, checkpoint, path, sha = trained.task, trained.checkpoint, trained.path, trained.sha
    for split in splits:
        if split not in loaders.evaluation:
            raise ValueError("validate: got no split 'val', expected one; hold someone out of training for it")
        result = evaluate(task, loaders.evaluation[split], run.metrics, split, run.device, config.train.precision)
        if not is_main():
            continue
        run_dir.replace_row(outcome_row(result, checkpoint, path.name, sha), key=("split", "checkpoint_sha"))
        text = f"{split}: {len(result.prediction)} samples, {path} ({checkpoint.chosen_by})\n{outcome_table(result)}"
        if split == "test" and run.recipe.report is not None:
            text += "\n" + run.recipe.report(config, result.prediction, loaders)
        text = text.rstrip("\n")
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
        logger.debug("%s", text)
        if config.save_score:
            kept = run.recipe.save(config, result, loaders, Origin(sha, checkpoint.chosen_by), run_dir)
            logger.info("%s in %s", kept.parent.name, kept)
    barrier()
