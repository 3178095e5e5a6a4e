"""Begin with what an encoder has learned elsewhere: in a former stage, on another task, from other people's clips."""

import logging
from pathlib import Path

from feeders.skeleton import Skeleton, skeleton_named
from model.encoders.build import EncoderConfig
from model.encoders.contract import Encoder
from torchlight.checkpoint import Checkpoint, load_checkpoint, load_state
from torchlight.config import config_differences

logger = logging.getLogger(__name__)

_PREFIX = "network.encoder."


# They say how an encoder is trained, not what its weights mean.
_OF_TRAINING = ("t1", "dropout")


def load_encoder(encoder: Encoder, path: Path, config: EncoderConfig, skeleton: Skeleton | None = None) -> Checkpoint:
    """Load the encoder's weights of a run, and nothing else of it; all of them fit, or none is loaded.

    Every task of ours keeps its encoder as ``network.encoder``, so the run may be a pretraining stage, an action run or
    a gait run. Where it kept a moving average, that is what is loaded.

    Args:
        encoder: as the run's.
        path: a run folder (its chosen checkpoint, else its last), the folder of a chain (its last stage), or a file.
        config: of the encoder; where the run's was another one, that is said (heads, attention and bones need not show
            in the weights' shapes).
        skeleton: of the clips to come. With it, weights learned on another skeleton are accepted only where that one
            has the same joints in the same order (COCO17 from another data set's COCO17, whatever each is called);
            without it only the shapes are compared, and joints in another order would pass unnoticed.

    Returns:
        the checkpoint

    Raises:
        FileNotFoundError: there is no checkpoint; ValueError: it does not fit, naming what differs.
    """
    file = _checkpoint_in(path)
    checkpoint = load_checkpoint(file)
    if skeleton is not None and (learned := skeleton_named(checkpoint.skeleton)).joints != skeleton.joints:
        raise ValueError(
            f"init_from: {file}: got weights for skeleton {learned.name}, expected the joints of {skeleton.name}"
        )
    state = {
        name.removeprefix(_PREFIX): value for name, value in checkpoint.weights.items() if name.startswith(_PREFIX)
    }
    if not state:
        raise ValueError(f"init_from: {file}: got a checkpoint without {_PREFIX}*, expected one of an encoder")
    load_state(encoder, state, f"init_from: {file}")
    logger.info("the encoder starts from %s, learned on %s (%s)", file, checkpoint.dataset, checkpoint.chosen_by)
    run = checkpoint.config
    kept = run.get("encoder") or run.get("model", {}).get("encoder")
    different = {} if kept is None else config_differences(config, kept)
    if said := [
        f"{key}: {now!r} now, {then!r} then" for key, (now, then) in different.items() if key not in _OF_TRAINING
    ]:
        logger.warning("%s: its encoder was another one: %s", file, "; ".join(said))
    return checkpoint


def _checkpoint_in(path: Path) -> Path:
    if path.is_file():
        return path
    for folder in (path, path / "finetune"):
        for name in ("best.pt", "last.pt"):
            if (folder / name).is_file():
                return folder / name
    raise FileNotFoundError(f"init_from: {path}: no checkpoint there; expected a run folder with last.pt, or a file")
