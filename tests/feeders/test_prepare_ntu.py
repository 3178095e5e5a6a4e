import pickle

import numpy as np
import pytest

from feeders.prepare.ntu import ntu_source
from feeders.store import Recording
from tests.feeders.ntu_files import ANNA, BERT, CARL, clip_of, skeleton_file

NAME = "S001C002P003R002A013"
BOTH = skeleton_file(clip_of({ANNA: "0" + "1" * 15 + "000" + "1" * 5 + "0", BERT: "00" + "1" * 20 + "000"}))


def read(content: bytes, name: str = NAME, dataset: str = "ntu120") -> Recording:
    return ntu_source(dataset).read(name, content).recording


def test_a_file_becomes_its_clip() -> None:
    recording = read(BOTH)
    assert (recording.setup, recording.camera, recording.subject, recording.replication) == (1, 2, 3, 2)
    assert (recording.sample_id, recording.label, recording.frames) == (NAME, 12, 23)
    assert [track.frames.tolist() for track in recording.bodies] == [[*range(15), *range(18, 23)], [*range(1, 21)]]
    assert (recording.bodies[0].joints[0, 1] == 0).all()


def test_what_was_mended_is_reported_and_kept_as_published_on_request() -> None:
    mended = ntu_source("ntu60").read(NAME, BOTH)
    kept = ntu_source("ntu60", "published").read(NAME, BOTH)
    assert (mended.notes, kept.notes) == (("body returned after a gap",), ())
    assert [track.frames.tolist() for track in kept.recording.bodies] == [[*range(20)], [*range(1, 21)]]
    alone = skeleton_file(clip_of({CARL: "1" * 4}))
    assert [len(ntu_source(name, "published").read(NAME, alone).recording.bodies) for name in ("ntu60", "ntu120")] == [
        1,
        2,
    ]
    assert ntu_source("ntu60", "published").cleaning == "published"
    with pytest.raises(ValueError, match="denoise: got 'none', expected"):
        ntu_source("ntu60", "none")


def test_an_action_or_name_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="action 61"):
        read(BOTH, "S001C001P001R001A061", "ntu60")
    with pytest.raises(ValueError, match="unknown name"):
        read(BOTH, "someone")


def test_setups_and_the_published_missing_skeletons_tell_which_files_are_read() -> None:
    ntu60, ntu120, demo = map(ntu_source, ("ntu60", "ntu120", "demo"))
    assert (len(ntu60.missing), len(ntu120.missing), len(demo.missing)) == (302, 535, 0)
    assert "S001C002P005R002A008" in ntu60.missing < ntu120.missing
    names = ("S017C001P001R001A001", "S018C001P001R001A001", "S033C001P001R001A001", "someone")
    assert [ntu60.belongs(name) for name in names] == [True, False, False, True]
    assert [ntu120.belongs(name) for name in names] == [True, True, False, True]


def test_the_reader_travels_to_other_processes() -> None:
    reader = ntu_source("ntu60").read
    again = pickle.loads(pickle.dumps(reader))  # noqa: S301
    np.testing.assert_array_equal(
        again(NAME, BOTH).recording.bodies[0].joints, reader(NAME, BOTH).recording.bodies[0].joints
    )
