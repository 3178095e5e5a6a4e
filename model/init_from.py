"""Begin with what an encoder has learned elsewhere: in a former stage, on another task, from other people's clips."""

import logging
from pathlib import Path

from feeders.skeleton import Skeleton, skeleton_named
from model.encoders.contract import Encoder
from torchlight.checkpoint import load_checkpoint, load_state

logger = logging.getLogger(__name__)

_PREFIX = "network.encoder."


def load_encoder(encoder: Encoder, path: Path, skeleton: Skeleton | None = None) -> None:
    """Load the encoder's weights of a run, and nothing else of it; all of them fit, or none is loaded.

    Every task of ours keeps its encoder as ``network.encoder``, so the run may be a pretraining stage, an action run or
    a gait run. Where it kept a moving average, that is what is loaded.

    Args:
        encoder: of the same config as the run's.
        path: a run folder (its chosen checkpoint, else its last), the folder of a chain (its last stage), or a file.
        skeleton: of the clips to come. With it, weights learned on another skeleton are accepted only where that one
            has the same joints in the same order (COCO17 from another data set's COCO17, whatever each is called);
            without it only the shapes are compared, and joints in another order would pass unnoticed.

    Raises:
        FileNotFoundError: there is no checkpoint; ValueError: it does not fit, naming what differs.
    """
    file = _checkpoint_in(path)
    checkpoint = load_checkpoint(file)
    if skeleton is not None and skeleton_named(checkpoint.skeleton).joints != skeleton.joints:
        raise ValueError(
            f"init_from: {file}: got weights for skeleton {checkpoint.skeleton}, expected the joints of {skeleton.name}"
        )
    state = {
        name.removeprefix(_PREFIX): value for name, value in checkpoint.weights.items() if name.startswith(_PREFIX)
    }
    if not state:
        raise ValueError(f"init_from: {file}: got a checkpoint without {_PREFIX}*, expected one of an encoder")
    load_state(encoder, state, f"init_from: {file}")
    logger.info("the encoder starts from %s, learned on %s (%s)", file, checkpoint.dataset, checkpoint.chosen_by)


def _checkpoint_in(path: Path) -> Path:
    if path.is_file():
        return path
    for folder in (path, path / "finetune"):
        for name in ("best.pt", "last.pt"):
            if (folder / name).is_file():
                return folder / name
    raise FileNotFoundError(f"init_from: {path}: no checkpoint there; expected a run folder with last.pt, or a file")
