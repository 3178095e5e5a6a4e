"""Clips that nobody has labelled: files of one's own, whatever they are called, and arrays, to what loaders read from.

Beside the raw files of a data set every skeleton's clips may be arrays or tables: ``.npy`` (`recording_of`), and
``.csv`` as docs/own_walkers.md has it, one person each.
"""

import io
import logging
import multiprocessing
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from tokenize import TokenError

import numpy as np

from feeders.prepare import penn, raw_source
from feeders.prepare.detections import Walk
from feeders.prepare.raw_files import RawFile, files_at
from feeders.prepare.source import NobodySeenError, RawSource
from feeders.prepare.walkers import read_csv
from feeders.skeleton import Skeleton
from feeders.store import Recording, Store, StoreWriter, Track, check, is_store

logger = logging.getLogger(__name__)

_ARRAY, _TABLE = ".npy", ".csv"
# Whose raw files are read for a store of one's own, by its skeleton.
_SOURCES = {"NTU25": "ntu60", "KINECT20": "ucla", "PENN13": "penn", "VIBE25": "skeletics"}


@dataclass(frozen=True)
class ClipReader:
    """Reads files as clips of one skeleton.

    Args:
        source: of the raw files that are read too; None for arrays and tables alone.
        image: width and height in pixels of the image that arrays and tables are positions in; None where they are
            not, or nobody said.
        needs_image: a clip in an image of unknown size is of no use.
    """

    skeleton: Skeleton
    source: RawSource | None
    image: tuple[int, int] | None = None
    needs_image: bool = False

    @property
    def suffixes(self) -> tuple[str, ...]:
        """How the names of its files end."""
        return (*(() if self.source is None else (self.source.suffix,)), _ARRAY, _TABLE)

    def read(self, places: Iterable[Path]) -> list[Recording]:
        """The clips of some files, folders, zips and stores, named as written; one warning for each that is none.

        A folder's and a zip's are all those with the right suffixes, sorted; a file named twice is read once.
        """
        clips: dict[str, Recording] = {}
        for place in places:
            with _left_out_if_broken():
                for item in self._items(place):
                    with _left_out_if_broken():
                        clip = item if isinstance(item, Recording) else self._clip(item)
                        check(clip, len(self.skeleton.joints), self.skeleton.coordinates, classes=1)
                        clips[clip.sample_id] = clip
        return list(clips.values())

    def _items(self, place: Path) -> Iterator[RawFile | Recording]:
        expected = f"expected {', '.join(self.suffixes)}"
        if not place.exists():
            raise FileNotFoundError(f"{place}: no such file or folder, {expected}")
        if is_store(place):
            yield from _of_store(Store(place), self.skeleton)
        elif place.is_dir() or place.suffix == ".zip":
            found = [file for suffix in self.suffixes for file in files_at(place, suffix, str)]
            if not found:
                raise ValueError(f"{place}: got no clips there, {expected}")
            yield from sorted(found, key=str)
        elif place.suffix not in self.suffixes:
            raise ValueError(f"{place}: got a file of another kind, {expected}")
        else:
            facts = place.stat()
            yield RawFile(str(place), str(place), facts.st_size, facts.st_mtime_ns)

    def _clip(self, file: RawFile) -> Recording:
        name = str(file)
        if not name.endswith((_ARRAY, _TABLE)):
            assert self.source is not None
            return _read_raw(self.source, name, file.content())
        if self.needs_image and self.image is None:
            raise ValueError(f"{name}: got positions in an image of unknown size, expected --image-size WIDTH HEIGHT")
        if name.endswith(_TABLE):
            clip = read_csv(self.skeleton, Walk(label=0), name, file.content()).recording
        else:
            clip = recording_of(name, _array(name, file.content()), self.skeleton)
        return clip if self.image is None else self._in_image(clip, *self.image)

    def _in_image(self, clip: Recording, width: int, height: int) -> Recording:
        if self.source is not penn.SOURCE:
            return replace(clip, width=width, height=height)
        # As its files are: from the image's middle, y up; what is not seen is zeroed by its weight.
        bodies = tuple(replace(body, joints=penn.placed(body.joints, width, height)) for body in clip.bodies)
        return replace(clip, bodies=bodies, width=width, height=height)


@contextmanager
def _left_out_if_broken() -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError) as error:
        logger.warning("left out, %s", " ".join(str(error).split()))


def clip_reader(
    dataset: str, skeleton: Skeleton, image: tuple[int, int] | None = None, *, needs_image: bool = False
) -> ClipReader:
    """The reader for whoever has learned from a data set; of a ``store`` its skeleton tells which raw files."""
    if image is not None and skeleton.coordinates != 2:
        raise ValueError(f"--image-size: got it for {skeleton.name}, expected none: its joints are in space")
    name = _SOURCES.get(skeleton.name) if dataset == "store" else dataset
    source = None if name is None else raw_source(name)
    return ClipReader(skeleton, source, image, needs_image or source is penn.SOURCE)


def recording_of(name: str, joints: np.ndarray, skeleton: Skeleton) -> Recording:
    """An array of joints as a clip.

    A joint with a NaN is not seen. A person all of whose joints are NaN, or all 0, is not there in that frame.

    Shapes:
        joints: (T, V, C), or (T, M, V, C) for several people, the most important first; in the order of the skeleton's
            joints, in the units and axes of what the network has learned from (metres, y up)

    Raises:
        NobodySeenError: nobody is there in any frame; ValueError: it is of another shape, or not of numbers.
    """
    shape = len(skeleton.joints), skeleton.coordinates
    if joints.dtype.kind not in "iuf" or joints.ndim not in (3, 4) or joints.shape[-2:] != shape:
        raise ValueError(
            f"{name}: got {joints.dtype} of shape {joints.shape}, expected numbers of shape (frames, {shape[0]}, "
            f"{shape[1]}) or (frames, people, {shape[0]}, {shape[1]}), the joints of {skeleton.name}: "
            f"{', '.join(skeleton.joints)}"
        )
    people = joints[:, None] if joints.ndim == 3 else joints
    tracks = [_track(people[:, person]) for person in range(people.shape[1])]
    seen = tuple(track for track in tracks if len(track.frames))
    if not seen:
        raise NobodySeenError(f"{name}: got nobody in any of {len(people)} frames, expected somebody")
    if all(track.joint_weight is not None and track.joint_weight.all() for track in seen):
        seen = tuple(replace(track, joint_weight=None) for track in seen)
    return Recording(name, label=0, frames=len(people), bodies=seen)


@contextmanager
def stores_of(clips: Iterable[Recording], skeleton: Skeleton) -> Iterator[list[Store]]:
    """Clips as stores that live as long as the ``with`` block: those with joint weights, and those without.

    Apart, as a store has all or none: what is read of a clip then never depends on the others.
    """
    with TemporaryDirectory(prefix="partclip-") as folder:
        writers: dict[Path, StoreWriter] = {}
        with ExitStack() as whole:
            for clip in clips:
                kind = "plain" if clip.bodies[0].joint_weight is None else "weighted"
                place = Path(folder, kind)
                if place not in writers:
                    writers[place] = whole.enter_context(_writer(place, skeleton))
                writers[place].add(clip)
        yield list(map(Store, writers))


def _writer(place: Path, skeleton: Skeleton) -> StoreWriter:
    return StoreWriter(place, dataset="clips", skeleton=skeleton, class_names=("?",))


def _track(person: np.ndarray) -> Track:
    """One person of (T, V, C), in the frames that show them."""
    is_seen = ~np.isnan(person).any(axis=2)
    frames = np.flatnonzero((is_seen[..., None] & (person != 0)).any(axis=(1, 2)))
    return Track(frames, np.where(is_seen[..., None], person, 0)[frames], is_seen[frames].astype(np.float32))


def _array(name: str, content: bytes) -> np.ndarray:
    if not content.startswith((b"\x93NUMPY", b"PK")):
        # numpy takes it for a pickle, and advises to trust it.
        raise ValueError(f"{name}: got a file that does not begin as .npy files do, expected a plain array of numbers")
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    # numpy reads a header as Python's.
    except (ValueError, OSError, EOFError, SyntaxError, TokenError, MemoryError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{name}: got {reason or type(error).__name__}, expected a plain array of numbers") from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{name}: got several arrays in one file, expected a single one")
    return array


def _of_store(store: Store, skeleton: Skeleton) -> Iterator[Recording]:
    if store.header.skeleton != skeleton.written:
        raise ValueError(f"{store.folder}: got a store of {store.header.skeleton_name}, expected {skeleton.name}")
    index, has_weights = store.index, store.arrays()[1] is not None
    for number, name in enumerate(index.sample_id.tolist()):
        clip = store.clip(number)
        bodies = tuple(
            Track(np.flatnonzero(seen), clip.pose[seen, :, :, body], clip.joint_weight[seen, :, body])
            for body, seen in enumerate(clip.present.T)
        )
        if not has_weights:
            bodies = tuple(replace(body, joint_weight=None) for body in bodies)
        size: Mapping[str, int] = {side: int(getattr(index, side)[number]) for side in ("width", "height")}
        yield Recording(f"{store.folder}/{name}", 0, int(index.frames[number]), bodies, **size)


def _read_raw(source: RawSource, name: str, content: bytes) -> Recording:
    """A raw file, in a process of its own where a damaged one may end it."""
    assert source.unlabelled is not None
    if not source.may_kill:
        return source.unlabelled(name, content).recording
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    with ProcessPoolExecutor(1, context) as pool:
        try:
            return pool.submit(source.unlabelled, name, content).result().recording
        except BrokenProcessPool:
            raise ValueError(f"{name}: got a file over which its reader died, expected a whole one") from None
