"""Typed, strict run configs: YAML files with ``base:`` includes, then ``section.key=value`` overrides.

The runtime's own sections are here; a recipe's schema subclasses :class:`RunConfig` and adds the rest.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import ErrorDetails

from torchlight.yaml_tree import flatten, format_yaml, merge, override_tree, read_tree


class StrictConfig(BaseModel):
    """The base of every config section: frozen, and an unknown key is an error.

    Attributes:
        elsewhere: keys that a config of another door has -> that door.
    """

    elsewhere: ClassVar[Mapping[str, str]] = {}

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, ser_json_inf_nan="constants")


C = TypeVar("C", bound=StrictConfig)


class SgdConfig(StrictConfig):
    """Stochastic gradient descent with momentum.

    Args:
        no_decay: leave norms, biases and logit scales (every parameter of at most one axis) without weight decay.
        groups: parameter group of the task -> multiplier of its learning rate; 0 stands still.
    """

    name: Literal["sgd"]
    lr: float = Field(gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: float = Field(default=0.0, ge=0)
    no_decay: bool = True
    groups: Mapping[str, Annotated[float, Field(ge=0)]] = {}


class AdamWConfig(StrictConfig):
    """Adam with decoupled weight decay; ``no_decay`` and ``groups`` as in :class:`SgdConfig`."""

    name: Literal["adamw"]
    lr: float = Field(gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = Field(default=0.01, ge=0)
    no_decay: bool = True
    groups: Mapping[str, Annotated[float, Field(ge=0)]] = {}


class AdamConfig(StrictConfig):
    """Adam with weight decay as a term of the gradient (L2); ``no_decay`` and ``groups`` as in :class:`SgdConfig`."""

    name: Literal["adam"]
    lr: float = Field(gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = Field(default=0.0, ge=0)
    no_decay: bool = True
    groups: Mapping[str, Annotated[float, Field(ge=0)]] = {}


class _Schedule(StrictConfig):
    warmup_epochs: int = Field(default=0, ge=0)
    per: Literal["epoch", "batch"] = "epoch"


class ConstantSchedule(_Schedule):
    """One learning rate throughout, after a linear warm-up."""

    name: Literal["constant"]


class StepSchedule(_Schedule):
    """The learning rate times ``factor`` from each milestone (completed epochs) on."""

    name: Literal["step"]
    milestones: tuple[int, ...]
    factor: float = Field(default=0.1, gt=0)


class CosineSchedule(_Schedule):
    """Half a cosine from the learning rate at the end of the warm-up down to ``final_lr`` at the end of training."""

    name: Literal["cosine"]
    final_lr: float = Field(default=0.0, ge=0)


class SelectLast(StrictConfig):
    """The run's checkpoint is the last epoch's: nothing is chosen."""

    name: Literal["last"]


class SelectBest(StrictConfig):
    """The run's checkpoint is the epoch best by a metric; the metric names its split, e.g. ``val/top1``."""

    name: Literal["best"]
    metric: str = Field(pattern=r"^[^/]+/.+$")
    goal: Literal["max", "min"] = "max"

    @property
    def split(self) -> str:
        """The split that the choice looks at."""
        return self.metric.partition("/")[0]


Optimiser = Annotated[SgdConfig | AdamWConfig | AdamConfig, Field(discriminator="name")]
Schedule = Annotated[ConstantSchedule | StepSchedule | CosineSchedule, Field(discriminator="name")]
Select = Annotated[SelectLast | SelectBest, Field(discriminator="name")]
Precision = Literal["fp32", "bf16", "fp16"]


class TrainConfig(StrictConfig):
    """How to train.

    Args:
        batch_size: clips per process and forward pass; one step sees batch_size x accumulate x processes clips.
        evaluation_batch_size: clips per process and forward pass when predicting.
        accumulate: batches whose gradients are averaged into one optimiser step.
        clip_gradient: greatest norm of the whole gradient; null leaves it alone.
        precision: autocast of the forward pass, in training and in prediction.
        ema_decay: decay of a moving average of the weights, which is then what is evaluated, chosen and tested.
        evaluate: splits evaluated while training; the split of ``select`` is always among them.
        evaluate_every: epochs between evaluations; 0 = only after the last epoch. The last epoch is always evaluated.
        save_every_steps: also save the full state after every so many optimiser steps; null = after every epoch only.
        keep_best: with ``select: best``, how many best epochs keep a file of their own beside ``best.pt``; 1 = none.
        log_every: batches between two scalars of the training loss.
    """

    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    evaluation_batch_size: int = Field(default=64, ge=1)
    accumulate: int = Field(default=1, ge=1)
    clip_gradient: float | None = Field(default=None, gt=0)
    precision: Precision = "fp32"
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    optimiser: Optimiser
    schedule: Schedule = ConstantSchedule(name="constant")
    select: Select = SelectLast(name="last")
    evaluate: tuple[str, ...] = ()
    evaluate_every: int = Field(default=1, ge=0)
    save_every_steps: int | None = Field(default=None, ge=1)
    keep_best: int = Field(default=1, ge=1)
    log_every: int = Field(default=20, ge=1)

    @property
    def evaluated_splits(self) -> tuple[str, ...]:
        """The splits evaluated while training, each once."""
        chosen = (self.select.split,) if isinstance(self.select, SelectBest) else ()
        return tuple(dict.fromkeys((*self.evaluate, *chosen)))


class RunConfig(StrictConfig):
    """What every run says.

    Args:
        work_dir: the run's folder; everything it writes is in it.
        phases: what to do, in this order.
        device: ``auto``, ``cpu``, or CUDA indices; several = one process each.
        deterministic: ask torch for deterministic kernels on a GPU (slower); the CPU is deterministic anyway.
        save_score: write ``scores/<split>.npz`` in the test phase.

    Attributes:
        after_training: beginnings of the keys that have a say only in what is done with a trained network.
    """

    after_training: ClassVar[tuple[str, ...]] = ()

    work_dir: str
    phases: tuple[str, ...] = ("train", "test")
    seed: int = Field(default=0, ge=0)
    device: tuple[str, ...] = ("auto",)
    deterministic: bool = False
    save_score: bool = True
    train: TrainConfig

    @field_validator("device", mode="before")
    @classmethod
    def _device_tokens(cls, value: Any) -> Any:
        """``0``, ``"0 1"`` and ``[0, 1]`` all name devices."""
        tokens = value.split() if isinstance(value, str) else value if isinstance(value, (list, tuple)) else [value]
        return tuple(str(token) for token in tokens)


def load_config(schema: type[C], files: Sequence[Path], overrides: Sequence[str]) -> C:
    """Read, merge and check a config: later files over earlier ones, overrides over all.

    Raises:
        ValueError: one line naming the key, what was there and what was expected.
    """
    tree: dict[str, Any] = {}
    for file in files:
        tree = merge(tree, read_tree(Path(file)))
    tree = merge(tree, override_tree(overrides))
    try:
        return schema.model_validate(tree)
    except ValidationError as error:
        raise ValueError(_explain(error, schema, tree)) from None


def plain_config(config: StrictConfig) -> dict[str, Any]:
    """The config as plain mappings, lists and scalars."""
    return config.model_dump(mode="json")


def config_differences(config: StrictConfig, saved: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> (value now, value in a saved plain config); a key that one of them lacks counts as null.

    One that was not known yet when the other was saved has the value there that it has by default.
    """
    # One that does not fit any more is compared as it is.
    with suppress(ValidationError):
        saved = plain_config(type(config).model_validate(saved))
    now, then = flatten(plain_config(config)), flatten(saved)
    return {key: (now.get(key), then.get(key)) for key in {**then, **now} if now.get(key) != then.get(key)}


def dump_config(config: StrictConfig) -> str:
    """YAML text that loads to an equal config."""
    return format_yaml(plain_config(config))


def _explain(error: ValidationError, schema: type[StrictConfig], tree: Mapping[str, Any]) -> str:
    """The first thing that is wrong, in one line; an unknown key goes first, as it often explains the rest."""
    details = sorted(error.errors(), key=lambda detail: detail["type"] != "extra_forbidden")
    for detail in details:
        key = ".".join(_key_path(detail, tree))
        if detail["type"] == "extra_forbidden" and key in schema.elsewhere:
            return f"config: {key}: unknown key here; it is one of {schema.elsewhere[key]}"
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return f"config: {_explain_one(details[0], schema, tree)}{more}"


def _explain_one(detail: ErrorDetails, schema: type[StrictConfig], tree: Mapping[str, Any]) -> str:
    path = _key_path(detail, tree)
    where = ".".join(path)
    context = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            known = _keys_at(schema, tree, path[:-1])
            close = get_close_matches(path[-1], known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(known)}"
            return f"{where}: unknown key; {hint}"
        case "missing":
            return f"{where}: missing; give it in a config file or as {where}=VALUE"
        case "union_tag_not_found":
            names = _names_at(schema, path)
            return f"{where}.name: missing; expected one of {', '.join(names)}"
        case "union_tag_invalid":
            return f"{where}.name: got {context['tag']!r}, expected one of {context['expected_tags']}"
        case "value_error":
            message = str(context["error"])
            return f"{where}: {message}" if where else message
        case _:
            expected = detail["msg"].removeprefix("Input should be ")
            return f"{where}: got {detail['input']!r}, expected {expected}"


def _key_path(detail: ErrorDetails, tree: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys a user wrote: pydantic's location without the union tags that it puts between them."""
    path: list[str] = []
    here: Any = tree
    for position, step in enumerate(detail["loc"]):
        if isinstance(here, Mapping):
            is_last = position == len(detail["loc"]) - 1
            if step not in here and not (is_last and detail["type"] == "missing"):
                continue
            here = here.get(step)
        elif isinstance(here, (list, tuple)) and isinstance(step, int):
            here = here[step]
        else:
            continue
        path.append(str(step))
    return tuple(path)


def _sections_in(annotation: Any) -> Iterator[type[StrictConfig]]:
    """The config sections that a field's annotation allows."""
    if isinstance(annotation, type) and issubclass(annotation, StrictConfig):
        yield annotation
    for inner in get_args(annotation):
        yield from _sections_in(inner)


def _sections_at(schema: type[StrictConfig], path: Sequence[str]) -> list[type[StrictConfig]]:
    """The sections that may stand at a path."""
    sections = [schema]
    for key in path:
        fields = (section.model_fields[key] for section in sections if key in section.model_fields)
        # dict.fromkeys: a field's metadata and its annotation may name the same section.
        inner = dict.fromkeys(found for field in fields for found in _sections_in(field.annotation))
        sections = list(inner) or sections
    return sections


def _keys_at(schema: type[StrictConfig], tree: Mapping[str, Any], path: Sequence[str]) -> list[str]:
    """The keys that are allowed at a path, given the ``name`` that is written there."""
    here: Any = tree
    for key in path:
        here = here.get(key) if isinstance(here, Mapping) else None
    name = here.get("name") if isinstance(here, Mapping) else None
    sections = _sections_at(schema, path)
    named = [section for section in sections if name in _names_of(section)]
    return list(dict.fromkeys(key for section in named or sections for key in section.model_fields))


def _names_at(schema: type[StrictConfig], path: Sequence[str]) -> list[str]:
    return [name for section in _sections_at(schema, path) for name in _names_of(section)]


def _names_of(section: type[StrictConfig]) -> tuple[str, ...]:
    field = section.model_fields.get("name")
    return tuple(get_args(field.annotation)) if field else ()
