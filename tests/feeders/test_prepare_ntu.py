from pathlib import Path

import numpy as np
import pytest

from feeders.prepare.ntu import RawBody, find, ntu_source, read, read_skeleton, select_bodies
from feeders.store import Track

NAME = "S001C002P003R002A013"
# Two ids that one float64 cannot tell apart.
ANNA, BERT = "72057594037931101", "72057594037931102"


def skeleton_text(frames: list[dict[str, np.ndarray]]) -> str:
    """Frames of {body id: (25, 3)} as an NTU file."""
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for body_id, joints in bodies.items():
            lines.append(f"{body_id} 0 1 1 1 1 0 0.01 -0.2 2")
            lines.append("25")
            lines += [f"{x:.7f} {y:.7f} {z:.7f} 266 189 988 430 -0.2 0.02 0.9 -0.03 2" for x, y, z in joints]
    return "\n".join(lines) + "\n"


def bodies(seed: int, **presence: str) -> list[dict[str, np.ndarray]]:
    """Frames in which a body is seen where its presence says 1."""
    draw, ids = np.random.default_rng(seed), {"anna": ANNA, "bert": BERT}
    frames = len(next(iter(presence.values())))
    pose = {name: draw.normal(size=(frames, 25, 3)).round(6) for name in presence}
    return [
        {ids.get(name, name): pose[name][t] for name, seen in presence.items() if seen[t] == "1"} for t in range(frames)
    ]


def write(folder: Path, text: str, name: str = NAME) -> Path:
    path = folder / f"{name}.skeleton"
    path.write_text(text)
    return path


def test_a_file_reads_back_with_gaps_and_empty_frames(tmp_path: Path) -> None:
    frames = bodies(0, anna="0110011", bert="0101100")
    clip = read_skeleton(write(tmp_path, skeleton_text(frames)))
    assert clip.frames == 7
    assert [body.body_id for body in clip.bodies] == [ANNA, BERT]
    assert [body.frames.tolist() for body in clip.bodies] == [[1, 2, 5, 6], [1, 3, 4]]
    for body in clip.bodies:
        expected = np.stack([frames[t][body.body_id] for t in body.frames]).astype(np.float32)
        np.testing.assert_array_equal(body.joints, expected)


def test_columns_that_nobody_reads_may_be_no_numbers(tmp_path: Path) -> None:
    text = skeleton_text(bodies(0, anna="11")).replace(" 988 430 ", " -1.#INF NaN ")
    assert read_skeleton(write(tmp_path, text)).bodies[0].joints.shape == (2, 25, 3)


def test_a_recording_keeps_true_frames_and_starts_at_the_spine(tmp_path: Path) -> None:
    seen = "0" + "1" * 15 + "0" * 3 + "1" * 5 + "0"
    other = "00" + "1" * 20 + "0" * 3
    frames = bodies(1, anna=seen, bert=other)
    recording = read(120, write(tmp_path, skeleton_text(frames)))
    assert (recording.setup, recording.camera, recording.subject, recording.replication) == (1, 2, 3, 2)
    assert recording.label == 12
    assert recording.frames == 23  # the first and last frames show nobody
    present = {tuple(track.frames.tolist()) for track in recording.bodies}
    assert present == {tuple(np.flatnonzero([s == "1" for s in who[1:-1]])) for who in (seen, other)}
    assert (recording.bodies[0].joints[0, 1] == 0).all()
    away = [set(map(tuple, (t.joints[:, 0] - t.joints[0, 0]).round(4).tolist())) for t in recording.bodies]
    assert all((0.0, 0.0, 0.0) in way for way in away)


def body(name: str, frames: list[int], motion: float) -> RawBody:
    draw = np.random.default_rng(len(frames))
    return RawBody(name, np.array(frames), (motion * draw.normal(size=(len(frames), 25, 3))).astype(np.float32))


def test_bodies_are_ordered_by_motion_and_false_detections_left_out() -> None:
    still, lively, flash = (
        body("still", list(range(40)), 0.1),
        body("lively", list(range(30)), 1.0),
        body("flash", list(range(11)), 9.0),
    )
    chosen = select_bodies([still, flash, lively])
    assert [len(track.frames) for track in chosen] == [30, 40]
    assert len(select_bodies([flash])) == 1
    assert len(select_bodies([flash, body("glimpse", [50, 51], 5.0)])) == 1


def test_a_body_that_comes_back_under_another_id_keeps_its_slot_and_frames() -> None:
    early, late = body("1", list(range(20)), 1.0), body("2", list(range(30, 50)), 0.5)
    chosen: list[Track] = select_bodies([late, early])
    assert len(chosen) == 1
    assert chosen[0].frames.tolist() == [*range(20), *range(30, 50)]
    np.testing.assert_array_equal(chosen[0].joints[20:], late.joints)


def test_at_most_two_bodies_are_kept() -> None:
    crowd = [body(str(n), list(range(20)), 1.0 + n) for n in range(4)]
    assert len(select_bodies(crowd)) == 2


GOOD = skeleton_text(bodies(0, anna="111"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "truncated"),
        (GOOD[: len(GOOD) // 2].rsplit("\n", 1)[0], "truncated"),
        (GOOD.replace("\n25\n", "\n24\n", 1), "24 as the joint count"),
        (GOOD.replace("3\n", "two\n", 1), "'two' as the frame count"),
        (GOOD + "1 2 3\n", "malformed"),
        ("3\n0\n0\n0\n", "no body"),
        (GOOD.replace("\n25\n", "\n25\nx ", 1).replace(" 2\n", "\n", 1), "no numbers|malformed|count"),
    ],
)
def test_a_broken_file_says_why(text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=reason):
        read(60, write(tmp_path, text))


def test_an_action_or_name_out_of_range_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="action 61"):
        read(60, write(tmp_path, GOOD, "S001C001P001R001A061"))
    with pytest.raises(ValueError, match="unknown name"):
        read(60, write(tmp_path, GOOD, "someone"))


def test_published_missing_skeletons_are_left_out_by_name(tmp_path: Path) -> None:
    for name in ("S001C002P005R002A008", NAME, "S018C001P001R001A001"):
        write(tmp_path, GOOD, name)
    found = find(17, tmp_path)
    assert [path.stem for path in found.files] == [NAME]
    assert list(found.left_out) == ["S001C002P005R002A008"]
    assert len(ntu_source("ntu120").find(tmp_path).files) == 2
