"""State dicts that CTR-GCN, GAP and BPI published, under our names.

Recognised by their entries: `model.ctrgcn.Model` (CTR-GCN), `Model_lst_4part*` (GAP),
`model.cross_part.Model_lst_joint/bone` and `model.LST.Model_lst_structure` (BPI). GAP and BPI mix the joints at the
model's input (their ``A_vector``); for us that is a modality, so `ImportedWeights.modality` says which one to feed.
Their text towers were tuned but never saved.
"""

import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from feeders.skeleton import Skeleton

Family = Literal["ctrgcn", "gap", "bpi", "bpi_structure"]

_BPI_PARTS = ("torso", "arms", "legs")
_ATTENTION = {"wq": "query", "wk": "key", "wv": "value", "layer_norm": "norm", "proj": "projection"}
_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
_MAP = ("weight", "bias")
_K_HOP = (
    "k-hop relative coordinates with the run's k: joint where k = 8 on NTU, bone with root: absolute where k = 1; "
    "on NW-UCLA the published matrix runs from parent to child, so even its k = 6 is no plain joint stream"
)
_MODALITY: Mapping[Family, str] = {
    "ctrgcn": "the stream it was trained on: joint, bone, joint_motion or bone_motion",
    "gap": _K_HOP,
    "bpi": _K_HOP,
    "bpi_structure": "k-hop relative coordinates with k = 1: bone with root: absolute",
}


@dataclass(frozen=True)
class ImportedWeights:
    """A published network, taken apart by what its pieces are in `model.part_clip.PartClip`.

    Attributes:
        family: who published it.
        modality: advice, in words: which modality the weights expect.
        encoder, classifier, whole, parts: entries of ``encoder``, ``classifier``, ``whole_projection`` and
            ``part_interaction``, named below those prefixes; empty where the family has none.
        logit_scale: (1 + P,) log temperature factors, whole body first; None without text heads. GAP multiplies its own
            in without exp, so this is their logarithm.
        text_head: name of the text tower that the heads were aligned with; None without text heads.
        extra: heads without a counterpart here, under their published names: ``part_list.*`` of GAP (head, hand,
            foot, hip) and of BPI's structure model (torso, arm, leg), linear maps of the part's mean feature.
        leftovers: published entries that nothing took; empty unless the importer has a fault.
    """

    family: Family
    modality: str
    encoder: Mapping[str, Tensor]
    classifier: Mapping[str, Tensor]
    whole: Mapping[str, Tensor] = field(default_factory=dict)
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    logit_scale: Tensor | None = None
    text_head: str | None = None
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    leftovers: tuple[str, ...] = ()

    def state_dict(self) -> dict[str, Tensor]:
        """All pieces but `extra` under the names of `PartClip`, ready for its ``load_state_dict``."""
        state = {f"encoder.{name}": value for name, value in self.encoder.items()}
        state |= {f"classifier.{name}": value for name, value in self.classifier.items()}
        state |= {f"whole_projection.{name}": value for name, value in self.whole.items()}
        state |= {f"part_interaction.{name}": value for name, value in self.parts.items()}
        return state if self.logit_scale is None else state | {"logit_scale": self.logit_scale}


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """A checkpoint file of theirs: a bare dict of names and tensors. Never runs what the file says."""
    if not path.is_file():
        raise FileNotFoundError(f"weights: got {path}, expected a published checkpoint (runs-<epoch>-<step>.pt)")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"weights: got {path}, expected a file of plain tensors; {error}") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"weights: got {path} holding {type(state).__name__}, expected a dict of tensors")
    return dict(state)


def import_state_dict(published: Mapping[str, Tensor], skeleton: Skeleton) -> ImportedWeights:
    """Rename, stack and reshape published entries; a ``module.`` prefix is cut.

    Raises:
        ValueError: entries missing, unexpected or of another shape, each listed.
    """
    source = {name.rpartition("module.")[2]: value for name, value in published.items()}
    family = _family(source)
    _check(source, family, skeleton)
    taken: set[str] = set()

    def take(name: str) -> Tensor:
        taken.add(name)
        return source[name]

    encoder: dict[str, Tensor] = {}
    for name, origins in _encoder_entries():
        if origins[0] in source:
            encoder[name] = _stack(name, [take(origin) for origin in origins])
    text_head = _text_head(source)
    logit_scale = take("logit_scale").flatten() if "logit_scale" in source else None
    if logit_scale is not None and family == "gap":
        if not (logit_scale > 0).all():
            raise ValueError(
                f"logit_scale: got {logit_scale.tolist()}, expected factors above 0; GAP multiplies them in"
            )
        logit_scale = logit_scale.log()
    return ImportedWeights(
        family=family,
        modality=_MODALITY[family],
        encoder=encoder,
        classifier={name: take(f"fc.{name}") for name in _MAP},
        whole={name: take(f"linear_head.{text_head}.{name}") for name in _MAP} if text_head else {},
        parts={
            f"{part}.{ours}.{name}": take(f"cross_part.CA{number}.{theirs}.{name}")
            for number, part in enumerate(_BPI_PARTS, start=1)
            for theirs, ours in _ATTENTION.items()
            for name in _MAP
        }
        if family == "bpi"
        else {},
        logit_scale=logit_scale,
        text_head=text_head,
        extra={name: take(name) for name in source if name.startswith("part_list.")},
        leftovers=tuple(sorted(set(source) - taken)),
    )


def _family(source: Mapping[str, Tensor]) -> Family:
    if any(name.startswith("cross_part.") for name in source):
        return "bpi"
    if any(name.startswith("part_list.3.") for name in source):
        return "gap"
    if any(name.startswith("part_list.") for name in source):
        return "bpi_structure"
    return "ctrgcn"


def _text_head(source: Mapping[str, Tensor]) -> str | None:
    heads = [name for name in source if name.startswith("linear_head.") and name.endswith(".weight")]
    return heads[0][len("linear_head.") : -len(".weight")] if heads else None


def _encoder_entries() -> Iterator[tuple[str, list[str]]]:
    """Our entry -> the published entries that are stacked, in order, to make it."""

    def entries(ours: str, theirs: list[str], names: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
        for name in names:
            yield f"{ours}.{name}", [f"{module}.{name}" for module in theirs]

    yield from entries("input_norm", ["data_bn"], _NORM)
    for index in range(10):
        ours, theirs = f"blocks.{index}", f"l{index + 1}"
        graph, temporal, branches = f"{ours}.graph", f"{ours}.temporal", f"{theirs}.tcn1.branches"
        yield f"{graph}.adjacency", [f"{theirs}.gcn1.PA"]
        yield f"{graph}.relation_strength", [f"{theirs}.gcn1.alpha"]
        for name, conv in (("query", "conv1"), ("key", "conv2"), ("value", "conv3"), ("lift", "conv4")):
            yield from entries(f"{graph}.{name}", [f"{theirs}.gcn1.convs.{subset}.{conv}" for subset in range(3)], _MAP)
        yield from entries(f"{graph}.norm", [f"{theirs}.gcn1.bn"], _NORM)
        yield from entries(f"{graph}.widen", [f"{theirs}.gcn1.down.0"], _MAP)
        yield from entries(f"{graph}.widen_norm", [f"{theirs}.gcn1.down.1"], _NORM)
        yield from entries(f"{temporal}.reduce", [f"{branches}.{branch}.0" for branch in range(4)], _MAP)
        yield from entries(f"{temporal}.reduce_norm", [f"{branches}.{branch}.1" for branch in range(3)], _NORM)
        yield from entries(f"{temporal}.near", [f"{branches}.0.3.conv"], _MAP)
        yield from entries(f"{temporal}.far", [f"{branches}.1.3.conv"], _MAP)
        ends = [f"{branches}.0.3.bn", f"{branches}.1.3.bn", f"{branches}.2.4", f"{branches}.3.1"]
        yield from entries(f"{temporal}.norm", ends, _NORM)
        yield from entries(f"{ours}.shortcut", [f"{theirs}.residual.conv"], _MAP)
        yield from entries(f"{ours}.shortcut_norm", [f"{theirs}.residual.bn"], _NORM)


def _stack(name: str, pieces: list[Tensor]) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return pieces[0]
    stacked = torch.cat(pieces)
    if stacked.dim() < 4:
        return stacked
    # Ours has time last; 1x1 kernels are plain matrices.
    return stacked.transpose(2, 3).contiguous() if stacked.shape[2] > 1 else stacked.flatten(1)


def _check(source: Mapping[str, Tensor], family: Family, skeleton: Skeleton) -> None:
    expected = _expected_shapes(source, family, len(skeleton.joints))
    missing = sorted(set(expected) - set(source))
    unexpected = sorted(set(source) - set(expected))
    wrong = [
        f"{name} {tuple(source[name].shape)}, expected {shape}"
        for name, shape in sorted(expected.items())
        if name in source and tuple(source[name].shape) != shape
    ]
    if missing or unexpected or wrong:
        lines = [f"weights: got {len(source)} entries that are no {family} state dict for skeleton {skeleton.name}"]
        for title, names in (("missing", missing), ("unexpected", unexpected), ("shape", wrong)):
            if names:
                lines.append(f"  {title} ({len(names)}): " + "; ".join(names[:8]) + ("; ..." if len(names) > 8 else ""))
        raise ValueError("\n".join(lines))


class _Shapes(dict[str, tuple[int, ...]]):
    """Entry -> shape, filled module by module."""

    def norm(self, name: str, size: int) -> None:
        """The five entries of a batch norm."""
        self.update({f"{name}.{entry}": (size,) for entry in _NORM[:4]})
        self[f"{name}.num_batches_tracked"] = ()

    def linear(self, name: str, *weight: int) -> None:
        """Weight and bias of a linear map or a convolution."""
        self[f"{name}.weight"], self[f"{name}.bias"] = weight, (weight[0],)


def _expected_shapes(source: Mapping[str, Tensor], family: Family, joints: int) -> Mapping[str, tuple[int, ...]]:
    """Every entry of a family with its shape; bodies, classes, widths and text heads are read from the file itself."""

    def found(name: str, axis: int, default: int) -> int:
        value = source.get(name)
        return value.shape[axis] if value is not None and value.dim() > axis else default

    shapes = _Shapes()
    inputs = found("l1.gcn1.convs.0.conv1.weight", 1, 3)
    width = found("l1.gcn1.bn.weight", 0, 64)
    size = joints * inputs
    shapes.norm("data_bn", size * max(1, found("data_bn.weight", 0, size) // size))
    for number in range(1, 11):
        outputs = width * (1 if number < 5 else 2 if number < 8 else 4)
        _expect_graph(shapes, f"l{number}.gcn1", inputs, outputs, joints)
        _expect_temporal(shapes, f"l{number}.tcn1.branches", outputs)
        if number in (5, 8):
            shapes.linear(f"l{number}.residual.conv", outputs, inputs, 1, 1)
            shapes.norm(f"l{number}.residual.bn", outputs)
        inputs = outputs
    shapes.linear("fc", found("fc.weight", 0, 60), inputs)
    if family != "ctrgcn":
        _expect_heads(shapes, source, family, inputs)
    return shapes


def _expect_graph(shapes: _Shapes, name: str, inputs: int, outputs: int, joints: int) -> None:
    hidden = 8 if inputs in (3, 9) else inputs // 8
    shapes.update({f"{name}.PA": (3, joints, joints), f"{name}.alpha": (1,)})
    for subset in range(3):
        shapes.linear(f"{name}.convs.{subset}.conv1", hidden, inputs, 1, 1)
        shapes.linear(f"{name}.convs.{subset}.conv2", hidden, inputs, 1, 1)
        shapes.linear(f"{name}.convs.{subset}.conv3", outputs, inputs, 1, 1)
        shapes.linear(f"{name}.convs.{subset}.conv4", outputs, hidden, 1, 1)
    shapes.norm(f"{name}.bn", outputs)
    if inputs != outputs:
        shapes.linear(f"{name}.down.0", outputs, inputs, 1, 1)
        shapes.norm(f"{name}.down.1", outputs)


def _expect_temporal(shapes: _Shapes, name: str, channels: int) -> None:
    width = channels // 4
    for branch in range(4):
        shapes.linear(f"{name}.{branch}.0", width, channels, 1, 1)
        shapes.norm(f"{name}.{branch}.1", width)
    for branch in range(2):
        shapes.linear(f"{name}.{branch}.3.conv", width, width, 5, 1)
        shapes.norm(f"{name}.{branch}.3.bn", width)
    shapes.norm(f"{name}.2.4", width)


def _expect_heads(shapes: _Shapes, source: Mapping[str, Tensor], family: Family, channels: int) -> None:
    head = f"linear_head.{_text_head(source) or 'ViT-B/32'}"
    text = len(source[f"{head}.bias"]) if f"{head}.bias" in source else 512
    shapes.linear(head, text, channels)
    shapes["logit_scale"] = (1, 5) if family == "gap" else (1, 4)
    if family == "bpi":
        for number in range(1, 1 + len(_BPI_PARTS)):
            attention = f"cross_part.CA{number}"
            for name, size in (("wq", channels), ("wk", channels), ("wv", channels), ("proj", text)):
                shapes.linear(f"{attention}.{name}", size, channels)
            shapes.update({f"{attention}.layer_norm.{entry}": (channels,) for entry in _MAP})
        return
    for index in range(4 if family == "gap" else 3):
        shapes.linear(f"part_list.{index}", text, channels)
