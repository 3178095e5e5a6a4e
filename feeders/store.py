"""The one on-disk format: a folder of ragged clips where every present body-frame stands once, memory-mapped.

``header.json`` (what this is, and the size and checksum of every other file), ``poses.npy`` (rows, V, C) float32,
``joint_weight.npy`` (rows, V) where a source has confidence, ``index.npz`` (`StoreIndex`). It is complete or not there.
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from tokenize import TokenError
from types import TracebackType
from typing import Annotated, Any, BinaryIO, Final, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from typing_extensions import Self, TypedDict

from feeders.skeleton import SKELETONS, Skeleton, skeleton_named
from torchlight.digest import file_sha256

FORMAT_VERSION: Final = 2
# So many small blocks of an index wait before they are joined: each costs a kilobyte or two beside its clips.
_BLOCKS = 2048
_LARGEST = np.finfo(np.float32).max
_HEADER, _INDEX, _POSES, _WEIGHT = "header.json", "index.npz", "poses.npy", "joint_weight.npy"


_NUMBERS = ("label", "subject", "camera", "setup", "replication", "width", "height", "frames")
FACTS = ("label", "subject", "camera", "setup", "replication", "frames")


@dataclass(frozen=True)
class Track:
    """One body of a clip: where it is seen, and what is seen.

    Shapes:
        frames: (F,) rising frame numbers; gaps are frames without this body
        joints: (F, V, C) positions
        joint_weight: (F, V) confidence in [0, 1]; None where the source has none
    """

    frames: np.ndarray
    joints: np.ndarray
    joint_weight: np.ndarray | None = None


@dataclass(frozen=True)
class Recording:
    """One clip on its way into a store; bodies in order of importance, fields a source lacks are -1.

    Args:
        width, height: of the image in pixels, where poses are positions in one.
    """

    sample_id: str
    label: int
    frames: int
    bodies: tuple[Track, ...]
    subject: int = -1
    camera: int = -1
    setup: int = -1
    replication: int = -1
    width: int = -1
    height: int = -1


class FileFacts(TypedDict):
    """What a header says of another file."""

    bytes: int
    sha256: str


def _as_written(skeleton: object) -> object:
    """A skeleton that is defined in the header, as `Skeleton.written` has it."""
    return skeleton_named(json.dumps(skeleton)).written if isinstance(skeleton, dict) else skeleton


class Header(BaseModel):
    """What a store says about itself.

    Args:
        skeleton: `Skeleton.written`; in the file, a definition stands as it is, and not as text.
        cleaning: how raw files were cleaned, as `feeders.prepare` names it; empty where there was nothing to choose.
        files: a file name -> its bytes and sha256.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: Literal[1, 2]  # 1 had no image sizes
    dataset: str
    skeleton: Annotated[str, BeforeValidator(_as_written)]
    units: str
    frame_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    class_names: tuple[str, ...]
    samples: Annotated[int, Field(ge=0)]
    files: Mapping[str, FileFacts]
    cleaning: str = ""

    @property
    def skeleton_name(self) -> str:
        """What the skeleton is called, known here or not."""
        return str(json.loads(self.skeleton)["name"]) if self.skeleton.startswith("{") else self.skeleton


@dataclass(frozen=True)
class StoreIndex:
    """One row per clip, in store order.

    Shapes:
        sample_id: (N,) str, digest: (N,) bytes, equal for bit-identical clips; the named integers: (N,) int64
        segment_end: (N,) int64, segments of clip i are segments[segment_end[i-1]:segment_end[i]]
        segments: (S, 3) int64 body, first frame, frame count; their rows follow each other in ``poses.npy``
    """

    sample_id: np.ndarray
    label: np.ndarray
    subject: np.ndarray
    camera: np.ndarray
    setup: np.ndarray
    replication: np.ndarray
    width: np.ndarray
    height: np.ndarray
    frames: np.ndarray
    bodies: np.ndarray
    digest: np.ndarray
    segment_end: np.ndarray
    segments: np.ndarray

    def __len__(self) -> int:
        return len(self.sample_id)

    @classmethod
    def of(cls, columns: Mapping[str, np.ndarray]) -> Self:
        """From its columns in a file; image sizes that an old file lacks are -1. KeyError where it lacks others."""
        unknown = np.full(len(columns["label"]), -1, dtype=np.int64)
        sizes = {name: columns.get(name, unknown) for name in ("width", "height")}
        return cls(**sizes, **{field.name: columns[field.name] for field in fields(cls) if field.name not in sizes})


@dataclass(frozen=True)
class Clip:
    """A whole clip.

    Shapes:
        pose: (T, V, C, M) float32, 0 where absent; present: (T, M) bool; joint_weight: (T, V, M) float32
    """

    pose: np.ndarray
    present: np.ndarray
    joint_weight: np.ndarray


@dataclass(frozen=True)
class Frames:
    """Chosen frames of N clips.

    Shapes:
        pose: (N, F, M, V, C) float32, 0 where absent; present: (N, F, M) bool
        joint_weight: (N, F, M, V) float32, or None where the source has no confidence
    """

    pose: np.ndarray
    present: np.ndarray
    joint_weight: np.ndarray | None


@dataclass(frozen=True)
class Block:
    """Clips in the form in which a store keeps them: their part of its index and of its arrays."""

    index: StoreIndex
    poses: np.ndarray
    joint_weight: np.ndarray | None


def encode(recordings: Sequence[Recording]) -> Block:
    """Clips, each of which `check` found right, in the form in which a store keeps them."""
    segments, segment_end, digests = list[np.ndarray](), list[int](), list[bytes]()
    poses, weights = list[np.ndarray](), list[np.ndarray]()
    count = 0
    for recording in recordings:
        own = np.concatenate([_segments(body, track.frames) for body, track in enumerate(recording.bodies)])
        own_poses = [_as_kept(track.joints) for track in recording.bodies]
        own_weights = [_as_kept(track.joint_weight) for track in recording.bodies if track.joint_weight is not None]
        if bool(own_weights) != bool(weights) and poses:
            raise _mixed_weights(recording.sample_id, bool(own_weights), recordings[0].sample_id)
        digest = hashlib.sha256(own.tobytes())
        for array in (*own_poses, *own_weights):
            digest.update(array.data)
        digests.append(digest.hexdigest()[:32].encode())
        count += len(own)
        segment_end.append(count)
        segments.append(own)
        poses += own_poses
        weights += own_weights
    index = StoreIndex(
        sample_id=np.array([recording.sample_id for recording in recordings]),
        bodies=np.array([len(recording.bodies) for recording in recordings], dtype=np.int64),
        digest=np.array(digests),
        segment_end=np.array(segment_end, dtype=np.int64),
        segments=np.concatenate(segments),
        **{name: np.array([getattr(one, name) for one in recordings], dtype=np.int64) for name in _NUMBERS},
    )
    return Block(index, np.concatenate(poses), np.concatenate(weights) if weights else None)


def join_blocks(blocks: Sequence[Block]) -> Block:
    """Blocks one after the other as one."""
    _check_weights(blocks)
    columns = {
        field.name: np.concatenate([getattr(block.index, field.name) for block in blocks])
        for field in fields(StoreIndex)
    }
    before = accumulate((len(block.index.segments) for block in blocks), initial=0)
    columns["segment_end"] = np.concatenate(
        [count + block.index.segment_end for count, block in zip(before, blocks, strict=False)]
    )
    weights = [block.joint_weight for block in blocks if block.joint_weight is not None]
    return Block(
        index=StoreIndex(**columns),
        poses=np.concatenate([block.poses for block in blocks]),
        joint_weight=np.concatenate(weights) if weights else None,
    )


class StoreWriter:
    """Write a store next to its final place and move it there when the ``with`` block ends well.

    An exception in the block (a full disk too) leaves nothing behind.

    Args:
        folder: must not exist yet.
        skeleton: the name of one of ours, or one of your own, `Skeleton.from_tree`, which the store then carries.
        joints, coordinates: V and C, to which every clip is held: those of the skeleton, and may be left out.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        dataset: str,
        skeleton: str | Skeleton,
        joints: int | None = None,
        coordinates: int | None = None,
        class_names: Sequence[str],
        units: str = "metres",
        frame_rate: float = 30.0,
        cleaning: str = "",
    ) -> None:
        self._folder = folder = Path(folder)
        if folder.exists():
            raise ValueError(f"store: got {folder}, which exists, expected a new folder; remove it or name another")
        known = skeleton_named(skeleton) if isinstance(skeleton, str) else skeleton
        self._shape = (
            len(known.joints) if joints is None else joints,
            known.coordinates if coordinates is None else coordinates,
        )
        _check_skeleton(f"store: {folder}", known.written, self._shape)
        if known.name in SKELETONS and known.written != known.name:
            raise ValueError(
                f"store: got another skeleton than ours by the name {known.name}, expected a name of its own"
            )
        _check_class_names(class_names)
        self._facts: dict[str, Any] = {
            "dataset": dataset,
            "skeleton": known.written,
            "units": units,
            "frame_rate": frame_rate,
            "class_names": tuple(class_names),
            "cleaning": cleaning,
        }
        try:
            Header(version=FORMAT_VERSION, samples=0, files={}, **self._facts)
        except ValidationError as error:
            name, says = str(error.errors()[0]["loc"][0]), error.errors()[0]["msg"]
            raise ValueError(f"store: got {name} {self._facts[name]!r}, expected otherwise: {says}") from None
        # Blocks without their arrays: the index stays in memory until the end, the poses never do.
        self._written: list[Block] = []
        self._names: set[str] = set()
        self._count = 0
        self._is_open = False

    def __enter__(self) -> Self:
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        self._partial = Path(tempfile.mkdtemp(prefix=f".{self._folder.name}-", dir=self._folder.parent))
        self._partial.chmod(0o755)
        self._poses: BinaryIO = (self._partial / _POSES).open("wb")
        self._weights: BinaryIO = (self._partial / _WEIGHT).open("wb")
        self._poses.write(_array_header((0, *self._shape)))
        self._weights.write(_array_header((0, self._shape[0])))
        self._is_open = True
        return self

    def add(self, recording: Recording) -> None:
        """Append a clip; ValueError names the clip and what is wrong with it."""
        check(recording, *self._shape, len(self._facts["class_names"]))
        self.append(encode([recording]))

    def append(self, block: Block) -> None:
        """Append clips that were encoded for this V and C; ValueError where a name is there already."""
        if not self._is_open:
            raise ValueError(f"store: got a clip for {self._folder}, which is not open, expected it within `with`")
        names = set(block.index.sample_id.tolist())
        twice = names & self._names
        if twice or len(names) < len(block.index):
            name = min(twice or names)
            raise ValueError(
                f"{name}: got this sample twice, expected unique names; is a file copied into a subfolder?"
            )
        _check_weights([*self._written[:1], block])
        self._names |= names
        if len(self._written) == _BLOCKS:
            self._written = [join_blocks(self._written)]
        none = np.empty(0, dtype=np.float32)
        self._written.append(Block(block.index, none, None if block.joint_weight is None else none))
        with self._naming_the_folder():
            self._poses.write(block.poses.data)
            if block.joint_weight is not None:
                self._weights.write(block.joint_weight.data)
        self._count += len(block.poses)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False
        try:
            with self._naming_the_folder(), self._poses, self._weights:
                if kind is None:
                    self._finish()
            if kind is None:
                self._partial.replace(self._folder)
                _fsync(self._folder.parent)
        finally:
            shutil.rmtree(self._partial, ignore_errors=True)

    @contextmanager
    def _naming_the_folder(self) -> Iterator[None]:
        """An error of the disk as one that says what could not be written."""
        try:
            yield
        except OSError as error:
            raise OSError(f"{self._folder}: could not be written: {error.strerror or error}") from None

    def _finish(self) -> None:
        if not self._names:
            raise ValueError(f"store: got no clips for {self._folder}, expected at least one")
        joined = join_blocks(self._written)
        names = [_POSES, _INDEX]
        for stream, shape in ((self._poses, self._shape), (self._weights, self._shape[:1])):
            stream.seek(0)
            stream.write(_array_header((self._count, *shape)))
            stream.flush()
        if joined.joint_weight is not None:
            names.append(_WEIGHT)
        else:
            (self._partial / _WEIGHT).unlink()
        np.savez(
            self._partial / _INDEX, **{field.name: getattr(joined.index, field.name) for field in fields(StoreIndex)}
        )
        # On disk before the folder takes its name, lest a power cut leave a whole name on half a store; the disk writes
        # while the checksums are taken.
        with ThreadPoolExecutor() as pool:
            on_disk = pool.map(_fsync, [self._partial / name for name in names])
            files = {
                name: {"bytes": (self._partial / name).stat().st_size, "sha256": file_sha256(self._partial / name)}
                for name in names
            }
            list(on_disk)
        header = {"version": FORMAT_VERSION, **self._facts, "samples": len(self._names), "files": files}
        if header["skeleton"] not in SKELETONS:
            header["skeleton"] = json.loads(header["skeleton"])
        (self._partial / _HEADER).write_text(json.dumps(header, indent=2), encoding="utf-8")
        for name in (_HEADER, "."):
            _fsync(self._partial / name)


class Store:
    """Read a store. Files are opened when first needed, and anew in each process a store is pickled to."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        if not is_store(self.folder):
            raise FileNotFoundError(
                f"store: got {self.folder}, which has no {_HEADER}, expected a prepared store; "
                "make one with `python -m feeders.prepare DATASET --raw DIR --out DIR`"
            )

    def __getstate__(self) -> Path:
        return self.folder

    def __setstate__(self, folder: Path) -> None:
        self.folder = folder

    def __len__(self) -> int:
        return self.header.samples

    @cached_property
    def header(self) -> Header:
        """What the store says about itself, its file sizes checked."""
        path = self.folder / _HEADER
        try:
            header = Header.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = min(error.errors(), key=lambda each: each["loc"] != ("version",))
            where = ".".join(map(str, first["loc"])) or "the file"
            raise ValueError(
                f"{path}: got {where} that is none ({first['msg']}), expected the header of a store; prepare it again"
            ) from error
        if not {_POSES, _INDEX} <= set(header.files):
            raise ValueError(f"{path}: got files {sorted(header.files)}, expected {_POSES} and {_INDEX} among them")
        for name, facts in header.files.items():
            size = (self.folder / name).stat().st_size if (self.folder / name).is_file() else None
            if size != facts["bytes"]:
                raise ValueError(
                    f"{self.folder / name}: got {'no file' if size is None else f'{size} bytes'}, "
                    f"expected {facts['bytes']} bytes; the store was damaged, prepare it again"
                )
        return header

    @cached_property
    def index(self) -> StoreIndex:
        """The table of clips; ValueError where a reader of it could go wrong."""
        path = self.folder / _INDEX
        try:
            with np.load(path, allow_pickle=False) as content:
                index = StoreIndex.of(content)
        except (ValueError, KeyError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{path}: got {error!r}, expected the index of a store; prepare it again") from error
        if len(index) != self.header.samples or int(index.segments[:, 2].sum()) != len(self._poses):
            raise ValueError(f"{path}: got an index that does not fit {_HEADER} and {_POSES}; prepare it again")
        if faults := list(_index_faults(index, len(self.header.class_names))):
            raise ValueError(f"{path}: got {'; '.join(faults)}; prepare it again")
        return index

    @cached_property
    def skeleton(self) -> Skeleton:
        """The joints of its poses; ValueError where the header says none that is known."""
        try:
            return skeleton_named(self.header.skeleton)
        except ValueError as error:
            raise ValueError(f"{self.folder / _HEADER}: {error}") from None

    @cached_property
    def _poses(self) -> np.ndarray:
        path = self.folder / _POSES
        poses = _open_array(path)
        if poses.dtype != np.float32 or poses.ndim != 3 or not poses.flags.c_contiguous:
            raise ValueError(
                f"{path}: got {poses.dtype} {poses.shape}, expected float32 (rows, V, C); prepare it again"
            )
        _check_skeleton(str(path), self.header.skeleton, poses.shape[1:])
        return poses

    @cached_property
    def _weights(self) -> np.ndarray | None:
        return _open_array(self.folder / _WEIGHT) if _WEIGHT in self.header.files else None

    @cached_property
    def facts(self) -> np.ndarray:
        """(6, N) int64: `FACTS` of every clip, together as a batch wants them."""
        return np.stack([getattr(self.index, name) for name in FACTS])

    @cached_property
    def first_row(self) -> np.ndarray:
        """(S,) the row of `arrays` with which each segment of the index begins."""
        count = self.index.segments[:, 2]
        row: np.ndarray = np.cumsum(count) - count
        return row

    @cached_property
    def _keys(self) -> np.ndarray:
        """A sorted key of every segment: clip, body, first frame."""
        per_clip = np.diff(self.index.segment_end, prepend=0)
        clip = np.repeat(np.arange(len(self.index)), per_clip)
        return _key(clip, self.index.segments[:, 0], self.index.segments[:, 1])

    def arrays(self) -> tuple[np.ndarray, np.ndarray | None]:
        """All body-frames, memory-mapped: poses (rows, V, C), and joint_weight (rows, V) where the source has it."""
        return self._poses, self._weights

    def verify(self) -> None:
        """Read every file and compare checksums; ValueError names the file that is wrong."""
        for name, facts in self.header.files.items():
            if file_sha256(self.folder / name) != facts["sha256"]:
                raise ValueError(f"{self.folder / name}: got another checksum than {_HEADER} has; prepare it again")

    def clip(self, index: int) -> Clip:
        """One whole clip."""
        frames = np.arange(self.index.frames[index])[None]
        read = self.gather(np.array([index]), frames, bodies=int(self.index.bodies[index]))
        weight = read.present[..., None] if read.joint_weight is None else read.joint_weight
        weight = np.broadcast_to(weight, read.pose.shape[:-1])
        return Clip(
            pose=np.ascontiguousarray(read.pose[0].transpose(0, 2, 3, 1)),
            present=read.present[0],
            joint_weight=np.ascontiguousarray(weight[0].transpose(0, 2, 1), dtype=np.float32),
        )

    def gather(self, samples: np.ndarray, frames: np.ndarray, bodies: int) -> Frames:
        """Read chosen frames of chosen clips in one go.

        Args:
            samples: (N,) clip numbers.
            frames: (N, F) frame numbers; a number outside its clip reads as absent.
            bodies: M, how many bodies to read; a clip with fewer has absent ones.
        """
        keys = self._keys
        asked = _key(samples[:, None, None], np.arange(bodies), frames[..., None].clip(min=0))
        segment = np.searchsorted(keys, asked, side="right") - 1
        depth = asked - keys[segment]
        present = (segment >= 0) & (depth < self.index.segments[segment, 2]) & (frames[..., None] >= 0)
        row = np.where(present, self.first_row[segment] + depth, 0)
        weight = None
        pose = self._poses[row]
        pose[~present] = 0.0
        if self._weights is not None:
            weight = self._weights[row]
            weight[~present] = 0.0
            pose[weight == 0.0] = 0.0
        return Frames(pose=pose, present=present, joint_weight=weight)


def is_store(folder: Path) -> bool:
    """Whether a folder is a prepared store rather than raw recordings."""
    return (folder / _HEADER).is_file()


def _key(clip: np.ndarray, body: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Order segments by clip, body, frame in one int64: 35 + 4 + 24 bits."""
    key: np.ndarray = (clip << 28) | (body << 24) | frame
    return key


def _as_kept(array: np.ndarray) -> np.ndarray:
    """Float32, rows whole in memory."""
    return np.ascontiguousarray(array, dtype=np.float32)


def _segments(body: int, frames: np.ndarray) -> np.ndarray:
    """Runs of rising frame numbers that follow each other, as (S, 3) body, first frame, frame count."""
    first, last = int(frames[0]), int(frames[-1])
    if last - first + 1 == len(frames):
        return np.array([[body, first, len(frames)]], dtype=np.int64)
    starts = np.concatenate([[0], 1 + np.flatnonzero(frames[1:] != frames[:-1] + 1)])
    counts = np.diff(starts, append=len(frames))
    return np.stack([np.full(len(starts), body), frames[starts], counts], axis=1).astype(np.int64)


def _fsync(path: Path) -> None:
    """Bring a file or a folder's list of files to the disk."""
    if sys.platform != "win32":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _check_weights(blocks: Sequence[Block]) -> None:
    """Either every clip of a store has weights or none."""
    for block in blocks:
        if (block.joint_weight is None) != (blocks[0].joint_weight is None):
            first, other = (str(one.index.sample_id[0]) for one in (blocks[0], block))
            raise _mixed_weights(other, block.joint_weight is not None, first)


def _mixed_weights(sample_id: str, has_weights: bool, first: str) -> ValueError:
    found = "joint_weight" if has_weights else "no joint_weight"
    return ValueError(f"{sample_id}: got {found}, expected the same in every clip, as in {first}")


def check(recording: Recording, joints: int, coordinates: int, classes: int) -> None:
    """Hold a clip to what every reader of a store of V ``joints`` and C ``coordinates`` relies on; ValueError."""
    name = recording.sample_id
    if not isinstance(name, str) or not name:
        raise ValueError(f"sample_id: got {name!r}, expected a name")
    for number in _NUMBERS:
        if not isinstance(value := getattr(recording, number), (int, np.integer)):
            raise ValueError(f"{name}: got {number} {value!r}, expected a whole number")
    if not isinstance(recording.bodies, (tuple, list)) or not all(isinstance(one, Track) for one in recording.bodies):
        raise ValueError(f"{name}: got bodies of {type(recording.bodies).__name__}, expected a tuple of Track")
    if recording.frames < 1 or not recording.bodies:
        raise ValueError(f"{name}: got an empty clip, expected at least one frame with a body")
    if recording.frames >= 1 << 24 or len(recording.bodies) > 16:
        raise ValueError(
            f"{name}: got {recording.frames} frames, {len(recording.bodies)} bodies; expected at most 2**24 and 16"
        )
    if not 0 <= recording.label < classes:
        raise ValueError(f"{name}: got label {recording.label}, expected 0 to {classes - 1}, the place of a class name")
    for body in recording.bodies:
        if (body.joint_weight is None) != (recording.bodies[0].joint_weight is None):
            raise ValueError(f"{name}: got joint_weight of some bodies, expected it of all or none")
        _check_body(name, body, recording.frames, (joints, coordinates))


def _check_body(name: str, body: Track, length: int, shape: tuple[int, int]) -> None:
    """Hold a body of a clip of so many frames to what `check` asks for."""
    wanted = {"frames": ("iu", "whole numbers"), "joints": ("iuf", "numbers"), "joint_weight": ("iufb", "numbers")}
    for what, (kinds, expected) in wanted.items():
        array = getattr(body, what)
        if array is None and what == "joint_weight":
            continue
        if not isinstance(array, np.ndarray) or array.dtype.kind not in kinds:
            got = getattr(array, "dtype", type(array).__name__)
            raise ValueError(f"{name}: got {what} of {got}, expected a numpy array of {expected}")
    if body.joints.ndim != 3 or body.joints.shape[1:] != shape:
        raise ValueError(f"{name}: got joints of shape {body.joints.shape}, expected (frames, {shape[0]}, {shape[1]})")
    # Kept as float32, where a larger float64 is infinite.
    if not (np.abs(body.joints) <= _LARGEST).all():
        raise ValueError(
            f"{name}: got NaN, infinite or huge coordinates, expected numbers that float32 holds; of what is not "
            "seen, leave out the frame, or give the joint zeros and joint_weight 0"
        )
    frames, weight = body.frames, body.joint_weight
    is_rising = len(frames) == len(body.joints) > 0 and bool((frames[1:] > frames[:-1]).all())
    if not is_rising or frames[0] < 0 or frames[-1] >= length:
        raise ValueError(f"{name}: got body frames {frames}, expected rising numbers below {length}")
    if weight is not None and weight.shape != body.joints.shape[:2]:
        raise ValueError(f"{name}: got joint_weight {weight.shape}, expected {body.joints.shape[:2]}")
    if weight is not None and not ((weight >= 0.0) & (weight <= 1.0)).all():
        raise ValueError(f"{name}: got joint_weight {weight.min()} to {weight.max()}, expected 0 to 1")


def _check_skeleton(where: str, name: str, shape: tuple[int, ...]) -> None:
    """Poses of a skeleton that is known have its joints and coordinates: compiled readers go by them."""
    if name not in SKELETONS and not name.startswith("{"):
        return
    skeleton = skeleton_named(name)
    if shape != (len(skeleton.joints), skeleton.coordinates):
        expected = (len(skeleton.joints), skeleton.coordinates)
        raise ValueError(f"{where}: got poses of shape {shape}, expected {expected} for {skeleton.name}")


def _check_class_names(names: Sequence[str]) -> None:
    """Class names that a classifier could tell apart."""
    if isinstance(names, str):
        raise ValueError(f"store: got class_names {names!r}, expected a tuple of names, as ({names!r},)")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"store: got class_names with {twice} twice, expected names that differ")


def _index_faults(index: StoreIndex, classes: int) -> Iterator[str]:
    """What is wrong with a table of clips in itself; compiled readers go by it without looking."""
    clips = len(index)
    for name, column in vars(index).items():
        if name != "segments" and len(column) != clips:
            yield f"{len(column)} rows of {name}, expected {clips}"
            return
    per_clip = np.diff(index.segment_end, prepend=0)
    if (per_clip < 1).any() or index.segment_end[-1] != len(index.segments):
        yield f"segment_end that does not cut {len(index.segments)} segments into {clips} clips"
        return
    clip = np.repeat(np.arange(clips), per_clip)
    body, first, count = index.segments.T
    follows = (np.diff(clip) == 0) & (np.diff(body) == 0)
    starts = np.concatenate([[True], np.diff(clip) != 0])
    # Readers search the segments, so these have to rise: clip by clip, body by body, frame by frame.
    steps_wrongly = np.concatenate([[False], (np.diff(clip) == 0) & ~np.isin(np.diff(body), (0, 1))])
    overlaps = np.concatenate([[False], follows & (first[1:] < (first + count)[:-1])])
    last_body = np.maximum.reduceat(body, np.flatnonzero(starts))
    wrong = {
        "a name that another clip has": _is_taken(index.sample_id),
        f"a label outside 0 to {classes - 1}": (index.label < 0) | (index.label >= classes),
        "another number of bodies than its segments": index.bodies != last_body + 1,
        "segments outside its frames": _any_of(clip, (first < 0) | (count < 1) | (first > index.frames[clip] - count)),
        "segments out of order": _any_of(clip, steps_wrongly | overlaps | (starts & (body != 0))),
    }
    for what, is_wrong in wrong.items():
        if is_wrong.any():
            names = ", ".join(index.sample_id[is_wrong][:3].tolist())
            yield f"{what} in {int(is_wrong.sum())} clips, as {names}"


def _is_taken(names: np.ndarray) -> np.ndarray:
    """Which names stand there twice; in order, as preparing writes them, they are soon told apart."""
    if (names[1:] > names[:-1]).all():
        return np.zeros(len(names), dtype=np.bool_)
    _, place, times = np.unique(names, return_inverse=True, return_counts=True)
    return np.asarray(times[place] > 1)


def _any_of(clip: np.ndarray, is_wrong: np.ndarray) -> np.ndarray:
    """Which clips have a wrong segment."""
    return np.bincount(clip, weights=is_wrong) > 0


def _array_header(shape: tuple[int, ...]) -> bytes:
    """An .npy header of fixed length (128 bytes), so that the final shape can be written over the first."""
    content = str({"descr": "<f4", "fortran_order": False, "shape": shape}).encode()
    return b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + content.ljust(117) + b"\n"


def _open_array(path: Path) -> np.ndarray:
    """A memory-mapped array as a plain ndarray view, whose indexing is several times faster than memmap's."""
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    # numpy reads a header as Python's.
    except (ValueError, OSError, SyntaxError, TokenError) as error:
        raise ValueError(f"{path}: got {error!r}, expected an array of a store; prepare it again") from error
