"""Trees of walks, ``identity/type/view``: the published frame folders of a data set, and OpenGait's pickles of it.

OpenGait and FastPoseGait keep every data set as ``identity/type/view/view.pkl``, one array (frames, joints, 3); these
are read wherever the published files are, and give the same names. Their own tables of people go by folder names.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from feeders.prepare.detections import Walk, pickled_frames, read_detections
from feeders.prepare.gait_files import frame_folders
from feeders.prepare.raw_files import files_at
from feeders.prepare.source import RawItem, Reading

Frames = Callable[[str, Mapping[str, bytes]], tuple[np.ndarray, np.ndarray]]


def read_tree(
    walk_of: Callable[[str], Walk], frames: Frames, joints: int, name: str, content: bytes | Mapping[str, bytes]
) -> Reading:
    """One walk: files of frames, or the bytes of a pickle.

    Args:
        walk_of: a name ``identity/type/view`` -> the clip's columns; ValueError where the data set has no such name.
        frames: the published files of one walk -> frame numbers and people, as `feeders.prepare.detections` has them.
        joints: V.
        name: ``identity/type/view``.
        content: what a `feeders.prepare.source.RawItem` of it holds.
    """
    walk = walk_of(name)
    if isinstance(content, bytes):
        return read_detections(name, walk, *pickled_frames(name, content, joints))
    return read_detections(name, walk, *frames(name, content))


def scan_tree(suffix: str, folder_name: Callable[[PurePosixPath], str | None], place: Path) -> Iterator[RawItem]:
    """The frame folders of a place, then its pickles; whoever has both is told that a walk is there twice."""
    if place.is_dir():
        yield from frame_folders(place, suffix, folder_name)
    yield from files_at(place.resolve(), ".pkl", partial(_pickle_name, place.resolve()))


def last_three(path: PurePosixPath) -> str:
    """``identity/type/view`` of a folder."""
    return "/".join(path.parts[-3:])


def _pickle_name(place: Path, path: PurePosixPath) -> str:
    return last_three(PurePosixPath(place.as_posix(), path).parent)
