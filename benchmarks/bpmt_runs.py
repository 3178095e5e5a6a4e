"""TLCA, BPMT and IIP on Penn Action and NW-UCLA: the runs behind the README's tables, one JSON and one score file each.

    export PARTCLIP_DATA=...                       # the folder that holds penn_action/ and NW-UCLA/
    python -m benchmarks.bpmt_runs                 # train what is not finished yet, then print the tables
    python -m benchmarks.bpmt_runs --minutes 100   # start no further run after that time
    python -m benchmarks.bpmt_runs --only penn     # only runs whose name contains this
    python -m benchmarks.bpmt_runs --table         # only print, from benchmarks/results/{penn,ucla_bpmt}

A run is one call of a documented door with its data set's two-core overlay, trained on the whole training side and
tested once, after its last epoch; nothing is chosen on test. An ablation is TLCA's headline run with one thing changed,
at seed 0; where its pretraining is the headline's, it starts from that. What pretraining is worth is asked at the same
number of passes over the data in all, on every seed.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import runs
from benchmarks.measure import RESULTS
from benchmarks.runs import cell, difference, top1
from torchlight.yaml_tree import merge, read_tree

SEEDS = (0, 1, 2)
SPLITS = {"penn": "official", "ucla": "published", "ucla_without_copies": "without_copies"}
# Whose headline run is so already.
IDLE = {("penn", "no_spatial"), ("ucla", "spatial")}
STAGES = {"tlca": ("frames", "finetune"), "bpmt": ("parts", "pairs", "finetune"), "iip": ("finetune",)}
# Name -> what differs from TLCA's headline run.
CHANGES = {
    "mask_none": ("pretrain.mask.what=none",),
    "mask_joints_20": ("pretrain.mask.share=0.2",),
    "mask_joints_40": ("pretrain.mask.share=0.4",),
    "mask_frames_30": ("pretrain.mask.what=frames",),
    "mask_cells_30": ("pretrain.mask.what=cells",),
    "t1_frozen": ("model.encoder.t1=frozen",),
    "t1_last_layer": ("model.encoder.t1=last_layer",),
    "head_mlp": ("model.head=mlp",),
    "size_256_8_4": ("model.encoder.width=256", "model.encoder.heads=8", "model.encoder.layers=4"),
    "constant_rate": ("pretrain.train.schedule={name: constant}", "train.schedule={name: constant}"),
    "cosine_per_epoch": ("pretrain.train.schedule.per=epoch", "train.schedule.per=epoch"),
    "flow": ("model.encoder.attention=flow",),
    "conv_embedding": ("model.encoder.embedding=conv",),
    "spatial": ("model.encoder.spatial=transformer",),
    "no_spatial": ("model.encoder.spatial=none",),
    "bone_subtract": ("model.encoder.bone=subtract",),
    "bone_concat": ("model.encoder.bone=concat",),
    "bone_parameterise": ("model.encoder.bone=parameterise",),
    "depict": ("loss.depict={}",),
    "dtcr": ("loss.dtcr={}",),
    "dtcr_kmeans": ("loss.dtcr={kmeans: 0.01, clusters: 4}",),
    "text": ("text.tower=minilm",),
}


# What read best at seed 0, and was trained with the other seeds after that had been seen.
STOOD_OUT = (("ucla", "size_256_8_4"), ("penn", "spatial"), ("penn", "depict"))


@dataclass(frozen=True)
class Run(runs.Run):
    """One training of one encoder.

    Args:
        change: of `CHANGES`, ``not_pretrained``, or nothing.
    """

    work = Path("work_dir/benchmarks/bpmt")

    data: str
    encoder: str
    change: str
    seed: int

    @property
    def name(self) -> str:
        """What it differs in."""
        return "-".join((self.data, self.encoder, self.change or "plain", str(self.seed)))

    @property
    def kept(self) -> Path:
        """Where the numbers are: a folder for each data set."""
        return RESULTS / ("penn" if self.data == "penn" else "ucla_bpmt")

    @property
    def evaluated_on(self) -> str:
        """The test side; these runs choose nothing."""
        return "test"

    @property
    def folders(self) -> tuple[Path, ...]:
        """The stages that this run trains itself."""
        if self.encoder == "ctrgcn":
            return (self.folder,)
        stages = STAGES[self.encoder][-1:] if self._starts_elsewhere else STAGES[self.encoder]
        return tuple(self.folder / stage for stage in stages)

    @property
    def files(self) -> tuple[Path, ...]:
        """Its config files."""
        folder = Path("config") / ("penn-action" if self.data == "penn" else "ucla")
        if self.encoder == "ctrgcn":
            return (folder / "lst_joint.yaml", folder / "cpu.yaml")
        overlay = "transformer_cpu.yaml" if self.encoder == "tlca" else f"{self.encoder}_cpu.yaml"
        return (folder / f"{self.encoder}.yaml", folder / overlay)

    def command(self) -> list[str]:
        """The documented door, called as a user would."""
        is_plain = self.encoder == "ctrgcn"
        door, phases = ("main_clip_ntu.py", ("train", "test")) if is_plain else ("main_bpmt.py", ("all",))
        return [
            *(door, *(word for file in self.files for word in ("--config", str(file)))),
            *("--work-dir", str(self.folder), "--phase", *phases, "--resume", "auto", "--device", runs.DEVICE),
            *("--save-score", f"seed={self.seed}", f"data.split={SPLITS[self.data]}", *self._overrides()),
        ]

    def _overrides(self) -> tuple[str, ...]:
        if self.change == "not_pretrained":
            tree = merge(read_tree(self.files[0]), read_tree(self.files[1]))
            pretrained = tree["pretrain"]["train"]["epochs"] * (len(STAGES[self.encoder]) - 1)
            return ("pretrain=null", f"train.epochs={tree['train']['epochs'] + pretrained}")
        begun = (f"init_from={self._headline / STAGES[self.encoder][-2]}",) if self._starts_elsewhere else ()
        return (*begun, *CHANGES.get(self.change, ()))

    @property
    def _headline(self) -> Path:
        return Run(self.data, self.encoder, "", self.seed).folder

    @property
    def _starts_elsewhere(self) -> bool:
        """The headline's pretraining is here and would be repeated: a stage is a function of its config and seed."""
        if self.change not in CHANGES:
            return self.change == "not_pretrained"
        keys = (override.partition("=")[0] for override in CHANGES[self.change])
        is_own = any(key.startswith(("pretrain.", "model.encoder.")) and key != "model.encoder.t1" for key in keys)
        has_begun = (self.folder / STAGES[self.encoder][0]).exists()
        return not is_own and not has_begun and (self._headline / "finetune" / "last.pt").exists()


def plan() -> tuple[Run, ...]:
    """All runs, the most telling first."""
    planned = [Run(data, encoder, "", 0) for encoder in ("tlca", "iip", "bpmt") for data in SPLITS]
    planned += [Run("penn", "ctrgcn", "", 0)]
    changes = [(data, change) for change in ("not_pretrained", *CHANGES) for data in ("penn", "ucla")]
    planned += [Run(data, "tlca", change, 0) for data, change in changes if (data, change) not in IDLE]
    planned += [
        Run(data, "tlca", change, seed) for seed in SEEDS for change in ("", "not_pretrained") for data in SPLITS
    ]
    planned += [Run(data, encoder, "", seed) for seed in SEEDS for encoder in ("iip", "bpmt") for data in SPLITS]
    planned += [Run("penn", "ctrgcn", "", seed) for seed in SEEDS]
    planned += [Run(data, "tlca", change, seed) for data, change in STOOD_OUT for seed in SEEDS]
    return tuple(dict.fromkeys(planned))


def table() -> str:
    """The README's tables, from the kept results alone."""
    lines = [
        "Last epoch; mean ± spread (standard deviation) over seeds; two-core overlays.",
        "",
        "| top-1 % | Penn Action (1,257 / 1,068) | NW-UCLA published (1,020 / 464) | without copies (925 / 464) |",
        "|---|---|---|---|",
    ]

    def row(title: str, cells: Sequence[str]) -> None:
        lines.append(f"| {title} | {' | '.join(cells)} |")

    row("RBF-SVM", [_svm(data) for data in SPLITS])
    for encoder in STAGES:
        row(encoder.upper(), [cell([Run(data, encoder, "", seed) for seed in SEEDS]) for data in SPLITS])
    row("CTR-GCN + text", [cell([Run("penn", "ctrgcn", "", seed) for seed in SEEDS]), "see NW-UCLA's table", ""])
    lines += [
        "",
        "| TLCA at as many passes in all | Penn Action | NW-UCLA published | without copies |",
        "|---|---|---|---|",
    ]
    for change in ("", "not_pretrained"):
        row(change.replace("_", " ") or "pretrained", [cell(_seeds(data, change)) for data in SPLITS])
    row("difference [95 %]", [difference(_seeds(data, ""), _seeds(data, "not_pretrained")) for data in SPLITS])
    lines += ["", "| TLCA, seed 0 (and others), one thing changed | Penn Action | NW-UCLA published |", "|---|---|---|"]
    for change in ("", *CHANGES):
        row(change.replace("_", " ") or "nothing", [_changed(data, change) for data in ("penn", "ucla")])
    lines += ["", "| TLCA, what stood out at seed 0 | over seeds | paired with nothing changed |", "|---|---|---|"]
    for data, change in STOOD_OUT:
        found = _seeds(data, change)
        row(f"{data}: {change.replace('_', ' ')}", [cell(found), difference(found, _seeds(data, ""))])
    return "\n".join(lines)


def _changed(data: str, change: str) -> str:
    if (data, change) in IDLE:
        return "as it is"
    first, *others = (top1([run]) for run in _seeds(data, change))
    told = f"{first[0]:.1f}" if first else "not run"
    return told + "".join(f", {found[0]:.1f}" for found in others if found)


def _seeds(data: str, change: str) -> list[Run]:
    return [Run(data, "tlca", change, seed) for seed in SEEDS]


def _svm(data: str) -> str:
    file = RESULTS / ("penn" if data == "penn" else "ucla") / "baselines.json"
    if not file.exists():
        return "not run"
    found = json.loads(file.read_text())["top1"]["RBF-SVM"]
    return f"{found if isinstance(found, float) else found[SPLITS[data]]:.1f}"


if __name__ == "__main__":
    runs.main(__doc__, plan, table)
