"""Where a data set is: a store, raw recordings that become a store in the cache on first use, or the simulator's.

Cached stores are named for what they were made of, so that changed recordings are prepared anew; several processes may
ask at once, one prepares and the others wait.
"""

import hashlib
import logging
import os
from pathlib import Path

import feeders.synthetic
from feeders.dataset import DataSet
from feeders.prepare import Preparation, discover, raw_source
from feeders.prepare.shards import listing_digest
from feeders.store import Store, is_store
from feeders.synthetic import SyntheticConfig, write_recordings
from feeders.synthetic.walkers import WalkersConfig, write_walks
from torchlight.atomic import locked

logger = logging.getLogger(__name__)


def data_folder() -> Path:
    """The folder that ``data.root`` is relative to: the environment's PARTCLIP_DATA, else ``data``."""
    return Path(os.environ.get("PARTCLIP_DATA") or "data")


def cache_folder() -> Path:
    """Where what can be made again is kept: the environment's PARTCLIP_CACHE, else ``.cache``."""
    return Path(os.environ.get("PARTCLIP_CACHE") or ".cache")


def usual_store(facts: DataSet, folder: Path) -> Path:
    """Where the store of a data set is by habit, in a data folder."""
    return folder / facts.name


def open_store(facts: DataSet, root: Path | None, simulation: SyntheticConfig | WalkersConfig) -> Store:
    """The data set's store, at ``root`` or prepared from the raw recordings there.

    ``root`` is relative to `data_folder`; None is the usual place: for the demo the cache, where it is recorded, else
    the store that the documented commands make, `usual_store`, or the raw recordings in their habitual folder.

    Raises:
        FileNotFoundError: nothing is there; says where to get it and which key or variable points there.
        ValueError: the store is of another data set, or a raw file is broken.
    """
    if root is not None:
        folder = data_folder() / root
    elif facts.name in ("demo", "demo_gait"):
        folder = _demo_recordings(facts.name, simulation)
    else:
        usual = usual_store(facts, data_folder())
        folder = usual if is_store(usual) else data_folder() / facts.root
    store = Store(folder if is_store(folder) else _prepared(facts, folder))
    header = store.header
    if header.dataset != facts.name or header.class_names != facts.class_names:
        raise ValueError(
            f"data.root: got {folder}, a store of {header.dataset} with {len(header.class_names)} classes, "
            f"expected {facts.name} with {len(facts.class_names)}; set data.dataset or data.root"
        )
    if header.skeleton != facts.skeleton.name:
        raise ValueError(f"data.root: got {folder}, a store of {header.skeleton}, expected {facts.skeleton.name}")
    return store


def own_store(root: Path | None) -> Store:
    """The store of one's own that a config with ``dataset=store`` names; relative to `data_folder`."""
    if root is None:
        raise ValueError("data.root: got none with data.dataset=store, expected the folder of a store")
    return Store(data_folder() / root)


def _prepared(facts: DataSet, raw: Path) -> Path:
    source = raw_source(facts.name)
    try:
        source, found = discover(source, [raw])
    except FileNotFoundError as error:
        if error.errno is not None:
            raise  # One file among others, which a link promises.
        raise FileNotFoundError(
            f"data.root: got nothing to read at {raw}, expected a store or {source.layout}; "
            "point data.root or the environment variable PARTCLIP_DATA at it. "
            "The demos need no data: python main_clip_ntu.py --config config/demo/joint.yaml, "
            "python main_gait.py --config config/gait/demo.yaml"
        ) from None
    store = cache_folder() / "stores" / f"{facts.name}-{listing_digest(source, found.files)}"
    with locked(store.with_name(f".{store.name}.lock"), waits=True):
        if not is_store(store):
            logger.info("preparing %d recordings of %s into %s", len(found.files), raw, store)
            jobs = min(8, os.cpu_count() or 1)
            preparation = Preparation(source, (raw,), store, found, jobs, source.skip_broken)
            logger.info("%s", preparation.finish().summary())
    return store


def _demo_recordings(name: str, simulation: SyntheticConfig | WalkersConfig) -> Path:
    """The simulator's raw files; the simulator's own source is part of their name."""
    made_of = hashlib.sha256(simulation.model_dump_json().encode())
    for source in sorted(Path(feeders.synthetic.__file__).parent.glob("*.py")):
        made_of.update(source.read_bytes())
    folder = cache_folder() / "recordings" / f"{name}-{made_of.hexdigest()[:16]}"
    with locked(folder.with_name(f".{folder.name}.lock"), waits=True):
        if not folder.is_dir():
            logger.info("making the demo's recordings in %s", folder)
            if isinstance(simulation, WalkersConfig):
                write_walks(folder, simulation)
            else:
                write_recordings(folder, simulation)
    return folder
