"""The protocols of gait recognition, as pure functions of what a store knows of the walks.

Columns are those of the index: ``camera`` (a view), ``condition`` (its setup: what is worn or carried, or the side of a
published list), ``sequence`` (its replication, the number of the walk), and ``steps`` (`steps_of`: walks that several
cameras film at once). What the published evaluators do was read in OpenGait; the papers are named in the modules of the
data sets. Of several protocols the first is the one that papers print.
"""

import zlib

import numpy as np

from feeders import casia_b, gait3d, grew, oumvlp_pose
from feeders.store import Store
from torchlight.metrics.protocol import RetrievalProtocol, Rows, SampleTable, roles

Protocols = tuple[RetrievalProtocol, ...]

# So many answers a probe of GREW is given.
GREW_ANSWERS = 20
_SAME_VIEW = (("camera",),)
_SAME_STEPS = (("steps",),)
_SIDES = ("train", "gallery", "probe")
_CONDITIONS = {"casia_b": casia_b.CONDITIONS, "gait3d": _SIDES, "grew": _SIDES}


def walks_of(store: Store, samples: Rows) -> SampleTable:
    """What is known of some walks of a store."""
    index, header = store.index, store.header
    conditions = _CONDITIONS.get(header.dataset)
    identity = index.label[samples]
    if header.dataset == "grew":
        identity = np.where(identity == grew.PROBE_LABEL, -1, identity)
    camera, condition, sequence = index.camera[samples], index.setup[samples], index.replication[samples]
    return SampleTable(
        sample_id=tuple(index.sample_id[samples].tolist()),
        identity=identity,
        columns={
            "camera": camera,
            "condition": condition,
            "sequence": sequence,
            "steps": steps_of(identity, camera, condition, sequence),
        },
        identity_names=header.class_names,
        column_names={"condition": conditions} if conditions else {},
    )


def steps_of(identity: np.ndarray, camera: np.ndarray, condition: np.ndarray, sequence: np.ndarray) -> np.ndarray:
    """A number for all that shows the same steps: one person's walk of one condition and number, by several cameras.

    -1 where the number is unknown, or tells nothing as one camera has it twice (where files are named by dates).

    Shapes:
        all: (N,) int64
    """
    walk = np.stack([identity, condition, sequence], axis=1)
    steps: np.ndarray = np.unique(walk, axis=0, return_inverse=True)[1].reshape(-1)
    seen, times = np.unique(np.stack([steps, camera], axis=1), axis=0, return_counts=True)
    is_told = (sequence >= 0) & ~np.isin(steps, seen[times > 1, 0])
    return np.where(is_told, steps, -1)


def protocols_of(dataset: str, walks: SampleTable) -> Protocols:
    """The protocols of a data set, of its test walks or of people held out of training; `one_walk` for any other."""
    match dataset:
        case "gait3d":
            return gait3d_protocols(walks)
        case "casia_b":
            return casia_b_protocols(walks)
        case "oumvlp_pose":
            return oumvlp_protocols(walks)
        case "grew":
            return grew_protocols(walks)
        case _:
            return one_walk(walks)


def gait3d_protocols(walks: SampleTable) -> Protocols:
    """``gait3d``: the listed probes against all other walks; a probe without a match is left out, no camera is.

    ``cross_camera``: matches of the probe's own camera do not count. Some probes lose all their matches that way, and
    are left out: not to be read beside the official number. People of the training side, held out of training, have no
    listed probes and ask with their first walk; test people without any are a ValueError.
    """
    side = walks.column("condition")
    role = roles(side == gait3d.PROBE, side == gait3d.GALLERY)
    if not (side == gait3d.PROBE).any():
        if not (side == gait3d.TRAIN).all():
            raise ValueError(
                f"gait3d: got none of the listed probes among {len(walks)} walks such as {walks.sample_id[0]}, "
                "expected those in PROBE_SET of Gait3D.json; complete the download, keep the names of its folders, "
                "and prepare it again"
            )
        role = roles(_is_first(walks), ~_is_first(walks))
    official = RetrievalProtocol("gait3d", role)
    return official, RetrievalProtocol("cross_camera", role, exclude=(("identity", "camera"),))


def casia_b_protocols(walks: SampleTable) -> Protocols:
    """``casia_b``: gallery nm-01 to 04; probes nm-05, 06, bg-01, 02 and cl-01, 02, each condition apart.

    Every probe view is held against every other view by itself, and results are means over those pairs of views. A
    probe without a match in a view is a failure, as published. The published means are of cells that were rounded to
    two decimals; ours are not rounded.
    """
    condition, walk = walks.column("condition"), walks.column("sequence")
    normal, bag, coat = (condition == code for code in range(3))
    is_gallery = normal & (walk >= 1) & (walk <= 4)
    is_probe = (normal & np.isin(walk, (5, 6))) | ((bag | coat) & np.isin(walk, (1, 2)))
    role = roles(is_probe, is_gallery)
    return (RetrievalProtocol("casia_b", role, _SAME_VIEW, groups="condition", cells="camera", unmatched="missed"),)


def oumvlp_protocols(walks: SampleTable) -> Protocols:
    """Probes are sequence 0, the gallery is sequence 1, view by view without the probe's own.

    ``oumvlp``: probes whose person is not in the view that is searched ("illegal") are failures, as the published
    evaluators have it; ``oumvlp_legal``: they are left out. The two differ by several points.
    """
    walk = walks.column("sequence")
    role = roles(walk == oumvlp_pose.PROBE, walk == oumvlp_pose.GALLERY)
    return (
        RetrievalProtocol("oumvlp", role, _SAME_VIEW, cells="camera", unmatched="missed"),
        RetrievalProtocol("oumvlp_legal", role, _SAME_VIEW, cells="camera"),
    )


def grew_protocols(walks: SampleTable) -> Protocols:
    """``grew_local``: walk 2 of the gallery's people asks, walk 1 is searched: a stand-in, not the official number.

    The official probes are nobody known: `grew_official` finds their nearest, and `grew_submission` writes what the
    server measures. People held out of training ask with their first walk.
    """
    side, walk = walks.column("condition"), walks.column("sequence")
    is_gallery = side == grew.GALLERY
    if not is_gallery.any():
        return (RetrievalProtocol("grew_local", roles(_is_first(walks), ~_is_first(walks))),)
    return (RetrievalProtocol("grew_local", roles(is_gallery & (walk == 2), is_gallery & (walk == 1))),)


def one_walk(walks: SampleTable) -> Protocols:
    """For walks that no list divides, such as KinectGait's.

    ``first_walk``: the first walk of everybody is the gallery, the others ask; ``leave_one_out``: each walk asks all
    the others; ``cross_camera``, where there are several: all of other cameras. Two cameras that film the same steps
    are no test: what they show of one walk is not compared, and of the gallery's walks does not ask.
    """
    is_first = _is_first(walks)
    everyone = roles(*np.ones((2, len(walks)), dtype=np.bool_))
    if len(np.unique(walks.column("camera"))) == 1:
        return (
            RetrievalProtocol("first_walk", roles(~is_first, is_first)),
            RetrievalProtocol("leave_one_out", everyone),
        )
    steps = walks.column("steps")
    is_twin = (steps >= 0) & np.isin(steps, steps[is_first])
    return (
        RetrievalProtocol("first_walk", roles(~is_first & ~is_twin, is_first)),
        RetrievalProtocol("leave_one_out", everyone, exclude=_SAME_STEPS),
        RetrievalProtocol("cross_camera", everyone, exclude=(*_SAME_STEPS, ("identity", "camera"))),
    )


def enrolled_each(walks: SampleTable, count: int) -> RetrievalProtocol:
    """As people are enrolled: so many walks of each, whatever their view and clothes, are searched for all the others.

    They are drawn by their names. Nothing is left out but what shows the same steps.
    """
    drawn = np.array([zlib.crc32(name.encode()) for name in walks.sample_id])
    order = np.lexsort((drawn, walks.identity))
    _, start, person = np.unique(walks.identity[order], return_index=True, return_inverse=True)
    place = np.empty(len(walks), dtype=np.intp)
    place[order] = np.arange(len(walks)) - start[person]
    return RetrievalProtocol("enrolled", roles(place >= count, place < count), exclude=_SAME_STEPS)


def grew_official(walks: SampleTable) -> RetrievalProtocol:
    """Both walks of the gallery's people are searched for the probes."""
    side = walks.column("condition")
    return RetrievalProtocol("grew", roles(side == grew.PROBE, side == grew.GALLERY))


def grew_submission(walks: SampleTable, probe: Rows, found: Rows) -> str:
    """The CSV of GREW's server: a line per probe, its name and the numbers of the 20 people it is most likely.

    The nearest walks are listed, so somebody may stand there twice, as in the evaluators that others submit from.
    ``probe`` (P,) and ``found`` (P, 20) are rows of the walks, as `torchlight.metrics.ranking.nearest` finds them; a
    probe is called by the last part of its sample id.
    """
    if found.shape != (len(probe), GREW_ANSWERS) or (found < 0).any() or (walks.identity[found] < 0).any():
        raise ValueError(
            f"grew_submission: got answers {found.shape}, expected ({len(probe)}, {GREW_ANSWERS}) walks of known people"
        )
    lines = ["videoId," + ",".join(f"rank{place}" for place in range(1, GREW_ANSWERS + 1))]
    for row, answers in zip(probe, walks.identity[found], strict=True):
        numbers = [_number(walks.value_name("identity", int(code))) for code in answers]
        lines.append(",".join([walks.sample_id[row].rpartition("/")[2], *numbers]))
    return "\n".join(lines) + "\n"


def _number(name: str) -> str:
    if not name.isdigit():
        raise ValueError(f"grew_submission: got the person {name!r}, expected a number such as 00001")
    return str(int(name))


def _is_first(walks: SampleTable) -> np.ndarray:
    """(N,) whether a walk is its person's first, by its number, then by its name."""
    order = np.lexsort((np.array(walks.sample_id), walks.column("sequence"), walks.identity))
    is_first = np.zeros(len(walks), dtype=np.bool_)
    is_first[order[np.unique(walks.identity[order], return_index=True)[1]]] = True
    return is_first
