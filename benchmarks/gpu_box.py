"""What the trainings of a plan read, in one folder, for a machine that nothing outside can be reached from.

    python -m benchmarks.gpu_box ucla_gpu FOLDER     # a module of benchmarks/ with a plan; ``gpu.sh pack`` calls it

FOLDER is then $PARTCLIP_DATA there, with prepared stores under their usual names, and $PARTCLIP_CACHE, with embedded
texts. Recordings without a store are prepared here, texts that no cache has are embedded here; what cannot be is an
error here.
"""

import argparse
import shutil
from importlib import import_module
from pathlib import Path

from benchmarks.runs import Run
from feeders.gait.loading import gait_data_set
from feeders.loading import data_set
from feeders.locate import open_store, usual_store
from model.class_texts import build_class_texts, text_table
from model.text_cache import cache_file
from model.text_tower import tower_digest
from recipes.clip_action import ClipRun
from recipes.gait_retrieval import GaitRun
from text_prompts.bank import load_bank
from torchlight.command_line import parse_command
from torchlight.config import load_config

_PHASES = ("all", "pretrain", "train", "validate", "test")


def config_of(run: Run) -> ClipRun | GaitRun:
    """The config that a run's door will train by."""
    script, *words = run.command()
    door = import_module(script.removesuffix(".py"))
    schema = (door.RECIPE if hasattr(door, "RECIPE") else door.CHAIN).schema
    command = parse_command(words, _PHASES, "")
    config: ClipRun | GaitRun = load_config(schema, command.configs, command.overrides)
    return config


def pack(run: Run, box: Path) -> None:
    """Put the store of a run into the box, and the embeddings of its frozen texts if it has any."""
    config = config_of(run)
    facts = gait_data_set(config.data) if isinstance(config, GaitRun) else data_set(config.data)
    packed = usual_store(facts, box)
    if not packed.exists():
        shutil.copytree(open_store(facts, config.data.root, config.data.synthetic).folder, packed)
    if isinstance(config, GaitRun) or config.text.tower == "none":
        return
    bank = load_bank(config.text.prompts).for_classes(facts.class_names)
    table = text_table(bank, facts.skeleton, config.model.parts, config.text.include_name)
    digest = tower_digest(config.text)
    if digest is None or not config.text.freeze:
        raise ValueError(f"{run.name}: got text.tower={config.text.tower} without a cache, expected embedded texts")
    build_class_texts(config.text, table)
    (box / "text").mkdir(exist_ok=True)
    shutil.copy(cache_file(digest, table.texts), box / "text")


def main() -> None:
    """Pack what all runs of a plan read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", help="of benchmarks/, with a plan")
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args()
    for run in import_module(f"benchmarks.{asked.module}").plan():
        pack(run, asked.folder)


if __name__ == "__main__":
    main()
