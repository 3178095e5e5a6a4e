"""The gait protocols, each on walks few enough to be ranked by hand: every embedding is a place on a line."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from feeders import casia_b, gait3d, grew, oumvlp_pose
from feeders.gait.protocols import (
    casia_b_protocols,
    enrolled_each,
    gait3d_protocols,
    grew_official,
    grew_protocols,
    grew_submission,
    one_walk,
    oumvlp_protocols,
    protocols_of,
    steps_of,
    walks_of,
)
from feeders.store import Recording, Store, StoreWriter, Track
from torchlight.metrics.distance import EmbeddingSpace
from torchlight.metrics.protocol import RetrievalProtocol, SampleTable
from torchlight.metrics.ranking import Pairing, nearest
from torchlight.metrics.retrieval import Trials, cross_table, trials_of

Walk = tuple[str, int, int, int, float]
"""Person, camera, condition, number of the walk, and where its embedding lies."""


def table_of(walks: Sequence[Walk], names: Mapping[str, tuple[str, ...]] | None = None) -> SampleTable:
    people = sorted({walk[0] for walk in walks})
    camera, condition, sequence = (np.array([walk[n] for walk in walks], dtype=np.int64) for n in (1, 2, 3))
    identity = np.array([people.index(walk[0]) for walk in walks])
    steps = steps_of(identity, camera, condition, sequence)
    return SampleTable(
        tuple(f"{person}/{camera}-{condition}-{number}" for person, camera, condition, number, _ in walks),
        identity,
        {"camera": camera, "condition": condition, "sequence": sequence, "steps": steps},
        tuple(people),
        names or {},
    )


def space_of(walks: Sequence[Walk]) -> EmbeddingSpace:
    place = np.array([walk[4] for walk in walks], dtype=np.float32)[:, None, None]
    return EmbeddingSpace.of(place, np.ones(place.shape[:2], dtype=bool), "vector/euclidean")


def ask(walks: Sequence[Walk], protocol: RetrievalProtocol, table: SampleTable) -> Trials:
    pairing = Pairing.of(table, protocol)
    return trials_of(table, protocol, pairing, space_of(walks).between(pairing.probe, pairing.gallery))


def mean(trials: Trials, metric: str) -> float:
    return trials.interval(metric, draws=1).estimate


# Gait3D: one probe per test person, everything else is searched, whatever its camera.
TRAIN, GALLERY, PROBE = gait3d.TRAIN, gait3d.GALLERY, gait3d.PROBE
GAIT3D_WALKS = [
    # Anna asks at 0. Nearest first: anna 1 (her own camera), ben 2, anna 4, ben 9, dora 10, dora 20: ranks 1 and 3.
    ("anna", 1, PROBE, 0, 0.0),
    ("anna", 1, GALLERY, 1, 1.0),
    ("anna", 2, GALLERY, 2, 4.0),
    # Ben asks at 3: at distance 1 stand ben 2 and anna 4, level, so anna stands before him; ben 9 is at 6.
    ("ben", 1, PROBE, 0, 3.0),
    ("ben", 1, GALLERY, 1, 2.0),
    ("ben", 2, GALLERY, 2, 9.0),
    # Chen asks, and nobody else is Chen.
    ("chen", 1, PROBE, 0, 100.0),
    # Dora asks at 10 and finds herself at 10, and last of all at 20; her camera filmed all three.
    ("dora", 3, PROBE, 0, 10.0),
    ("dora", 3, GALLERY, 1, 10.0),
    ("dora", 3, GALLERY, 2, 20.0),
]


def test_gait3d_by_hand() -> None:
    table = table_of(GAIT3D_WALKS)
    official, cross_camera = gait3d_protocols(table)
    found = ask(GAIT3D_WALKS, official, table)
    assert (found.probes, found.gallery, found.unmatched) == (4, 6, 1)
    assert [table.sample_id[row][:4] for row in found.probe] == ["anna", "ben/", "dora"]
    # Anna's matches stand at ranks 1 and 3. Ben's gallery by distance: anna 4 and ben 2 at 1, anna 1 at 2, ben 9 at 6,
    # dora 10 at 7: his matches stand at 2 (the tie counts against him) and 4. Dora's: dora 10 at 0, ben 9 at 1, anna 4
    # at 6, ben 2 at 8, anna 1 at 9, dora 20 at 10: ranks 1 and 6.
    np.testing.assert_array_equal(found.values["rank1"], [100, 0, 100])
    np.testing.assert_array_equal(found.values["rank5"], [100, 100, 100])
    np.testing.assert_allclose(
        found.values["mAP"], [100 * (1 + 2 / 3) / 2, 100 * (1 / 2 + 2 / 4) / 2, 100 * (1 + 2 / 6) / 2]
    )
    np.testing.assert_allclose(found.values["mINP"], [100 * 2 / 3, 100 * 2 / 4, 100 * 2 / 6])
    assert mean(found, "rank1") == pytest.approx(200 / 3)
    # Across cameras anna keeps anna 4, second behind ben 2; ben keeps ben 9, third; dora has nobody left.
    crossed = ask(GAIT3D_WALKS, cross_camera, table)
    assert crossed.unmatched == 2
    np.testing.assert_allclose(crossed.values["mAP"], [100 / 2, 100 / 3])


def test_people_whom_gait3ds_list_does_not_divide_ask_with_their_first_walk() -> None:
    walks = [("anna", 1, TRAIN, 2001, 0.0), ("anna", 1, TRAIN, 1002, 1.0), ("ben", 1, TRAIN, 1, 2.0)]
    assert gait3d_protocols(table_of(walks))[0].role.tolist() == [1, 0, 0]


def test_gait3ds_test_people_without_a_listed_probe_are_refused_not_asked_otherwise() -> None:
    walks = [walk for walk in GAIT3D_WALKS if walk[2] != PROBE]
    with pytest.raises(ValueError, match=r"^gait3d: got none of the listed probes among 6 walks .*PROBE_SET.*$"):
        gait3d_protocols(table_of(walks))


# CASIA-B: two people, two views.
CASIA_WALKS = [
    ("075", 0, 0, 1, 0.0),
    ("075", 90, 0, 2, 1.0),
    ("076", 0, 0, 4, 10.0),
    # nm-05. 075 from 0°: the view 90° is searched, where 075 is alone: right. 076 from 0°: not in view 90°: a failure.
    ("075", 0, 0, 5, 4.0),
    ("076", 0, 0, 6, 10.0),
    # 075 from 90° at 6: 076 is nearer in view 0° (4, not 6); at 1 stands 075, but in the view it asks from. Wrong.
    ("075", 90, 0, 5, 6.0),
    ("076", 90, 0, 5, 9.0),
    # bg-01 and 02.
    ("075", 0, 1, 1, 0.0),
    ("076", 90, 1, 1, 2.0),
    ("075", 90, 1, 2, 0.0),
    # cl-01, from 0° alone.
    ("075", 0, 2, 1, 100.0),
]


def test_casia_b_by_hand() -> None:
    table = table_of(CASIA_WALKS, {"condition": casia_b.CONDITIONS})
    (protocol,) = casia_b_protocols(table)
    found = ask(CASIA_WALKS, protocol, table)
    assert (found.probes, found.gallery, found.unmatched) == (8, 3, 1)
    groups = {name: found.within(code) for name, code in found.groups().items()}
    assert list(groups) == ["nm", "bg", "cl"]
    probe_view, gallery_view, cells = groups["nm"].cell_table("rank1")
    assert (probe_view.tolist(), gallery_view.tolist()) == ([0, 90], [0, 90])
    # Identical views are no cells. 0° to 90°: 075 right, 076 a failure; 90° to 0°: 075 wrong, 076 right.
    np.testing.assert_array_equal(cells, [[np.nan, 50], [50, np.nan]])
    assert mean(groups["nm"], "rank1") == 50
    # bg, 0° to 90°: right. 90° to 0°: 076 at 2 is nearer to 075 at 0 than to itself at 10; 075 right.
    np.testing.assert_array_equal(groups["bg"].cell_table("rank1")[2], [[np.nan, 100], [50, np.nan]])
    assert mean(groups["bg"], "rank1") == 75
    lines = [
        "probe      0     90   mean",
        "0          -  100.0  100.0",
        "90      50.0      -   50.0",
        "mean    50.0  100.0   75.0",
    ]
    assert cross_table(groups["bg"], "rank1").splitlines() == lines
    assert mean(groups["cl"], "rank1") == 100


def test_a_table_whose_cells_are_whole_is_averaged_as_published() -> None:
    draw = np.random.default_rng(0)
    walks = [
        (f"{person:03d}", view, condition, walk, float(person + 2 * draw.normal()))
        for person in range(75, 81)
        for view in casia_b.VIEWS
        for condition, count in ((0, 6), (1, 2), (2, 2))
        for walk in range(1, count + 1)
    ]
    table = table_of(walks, {"condition": casia_b.CONDITIONS})
    (protocol,) = casia_b_protocols(table)
    assert (len(protocol.probes), len(protocol.gallery)) == (6 * 6 * 11, 6 * 4 * 11)
    found = ask(walks, protocol, table)
    for code in found.groups().values():
        cells = found.within(code).cell_table("rank1")[2]
        # The published mean: without the diagonal over ten views, then over the probes' views.
        published = (np.nansum(np.where(np.eye(11) > 0, 0, cells), axis=1) / 10).mean()
        assert mean(found.within(code), "rank1") == pytest.approx(published)


def test_oumvlp_with_and_without_illegal_probes() -> None:
    walks = [
        ("00002", 0, 0, oumvlp_pose.GALLERY, 0.0),
        ("00002", 15, 0, oumvlp_pose.GALLERY, 0.0),
        ("00004", 15, 0, oumvlp_pose.GALLERY, 9.0),
        ("00002", 0, 0, oumvlp_pose.PROBE, 1.0),
        # Not in view 0°: an illegal probe from 15°, a legal one from 0°.
        ("00004", 0, 0, oumvlp_pose.PROBE, 8.0),
        ("00004", 15, 0, oumvlp_pose.PROBE, 8.0),
        ("00002", 15, 0, oumvlp_pose.PROBE, 1.0),
    ]
    table = table_of(walks)
    published, legal = (ask(walks, protocol, table) for protocol in oumvlp_protocols(table))
    assert published.unmatched == legal.unmatched == 1
    np.testing.assert_array_equal(published.cell_table("rank1")[2], [[np.nan, 100], [50, np.nan]])
    np.testing.assert_array_equal(legal.cell_table("rank1")[2], [[np.nan, 100], [100, np.nan]])
    assert (mean(published, "rank1"), mean(legal, "rank1")) == (75, 100)


def test_grew_ranks_its_gallery_and_writes_what_the_server_asks_for() -> None:
    walks: list[Walk] = [
        (f"{person:05d}", -1, grew.GALLERY, walk, float(person)) for person in range(1, 13) for walk in (1, 2)
    ]
    walks += [("probe", -1, grew.PROBE, 0, 3.2), ("probe", -1, grew.PROBE, 1, 12.0)]
    table = table_of(walks, {"condition": ("train", "gallery", "probe")})
    (local,) = grew_protocols(table)
    assert mean(ask(walks, local, table), "rank1") == 100
    official = grew_official(table)
    pairing = Pairing.of(table, official)
    distances, excluded = space_of(walks).between(pairing.probe, pairing.gallery), pairing.excluded(table, official)
    found, _ = nearest(distances, len(pairing.probe), pairing.gallery, 20, excluded)
    lines = grew_submission(table, pairing.probe, found).splitlines()
    assert lines[0].startswith("videoId,rank1,rank2,")
    assert lines[0].endswith(",rank20")
    assert lines[1].startswith("-1-2-0,3,3,4,4,2,2,5,5,1,1,6,6,")
    assert lines[2].startswith("-1-2-1,12,12,11,11,")
    with pytest.raises(ValueError, match="got answers"):
        grew_submission(table, pairing.probe, found[:, :19])
    with pytest.raises(ValueError, match="'probe'"):
        grew_submission(table, pairing.probe, np.full((2, 20), pairing.probe[0]))


def test_one_walk_of_everybody_is_the_gallery_or_each_walk_asks_the_others() -> None:
    walks = [("anna", -1, 0, n, 0.1 * n) for n in (2, 3, 1)] + [("ben", -1, 0, n, 5 + 0.1 * n) for n in (4, 5)]
    table = table_of(walks)
    first, each = one_walk(table)
    assert first.role.tolist() == [0, 0, 1, 1, 0]
    assert first.exclude == each.exclude == ()
    found = ask(walks, each, table)
    assert (found.probes, found.gallery) == (5, 5)
    assert (mean(found, "rank1"), mean(found, "mINP")) == (100, 100)


def test_the_same_steps_by_two_cameras_are_not_compared() -> None:
    #         camera, condition, number: walk 1 and its twin, walk 2, walk 1 of another condition.
    anna = [("anna", 1, 0, 1, 0.0), ("anna", 2, 0, 1, 0.1), ("anna", 2, 0, 2, 3.0), ("anna", 1, 5, 1, 4.0)]
    ben = [("ben", 2, 0, 7, 1.0), ("ben", 2, 0, 8, 1.1), ("ben", 2, 0, 9, 1.2)]
    table = table_of(anna + ben)
    first, each, crossed = one_walk(table)
    assert first.role.tolist() == [1, -1, 0, 0, 1, 0, 0]
    found = ask(anna + ben, each, table)
    # Without the twin, ben is nearer to both of anna's first walks.
    assert found.probes == 7
    assert mean(found, "rank1") == pytest.approx(100 * 5 / 7)
    assert crossed.exclude[1:] == (("identity", "camera"),)


def test_walks_that_one_camera_gave_one_number_are_no_twins() -> None:
    # Files named by dates: the day is all that a number tells. Ben's cameras filmed two walks at once.
    anna = [(0, 1, 0, 1)] * 3
    ben = [(1, camera, 0, number) for camera in (1, 2) for number in (1, 2)]
    steps = steps_of(*np.array([*anna, *ben]).T)
    assert steps[:3].tolist() == [-1, -1, -1]
    assert steps[3:5].tolist() == steps[5:].tolist()
    assert len(set(steps[3:5].tolist())) == 2
    assert steps_of(*(np.array(column) for column in ([0, 0], [1, 2], [0, 0], [-1, -1]))).tolist() == [-1, -1]


def test_enrolled_walks_are_not_compared_with_what_another_camera_saw_of_them() -> None:
    # Whichever walk of anna is enrolled, the other one shows the same steps.
    walks = [("anna", 1, 0, 1, 0.0), ("anna", 2, 0, 1, 0.0), ("ben", 1, 0, 1, 5.0), ("ben", 1, 0, 2, 5.0)]
    found = ask(walks, enrolled_each(table_of(walks), 1), table_of(walks))
    assert (found.probes, found.unmatched) == (2, 1)


def test_as_many_walks_of_each_are_enrolled_as_asked_for() -> None:
    walks = [("anna", 1, 0, n, 0.0) for n in range(5)] + [("ben", 1, 0, n, 1.0) for n in range(2)]
    table = table_of(walks)
    for count in (1, 2, 3):
        role = enrolled_each(table, count).role
        assert role[:5].sum() == min(count, 5)
        assert role[5:].sum() == min(count, 2)
    assert enrolled_each(table, 2).role[:5].tolist() == enrolled_each(table.take(np.arange(5)), 2).role.tolist()


def test_a_stores_walks_know_their_cameras_conditions_and_people(tmp_path: Path) -> None:
    joints = Track(np.arange(4), np.zeros((4, 17, 2), np.float32))
    people = ("00001train", "00001", "probe")
    with StoreWriter(
        tmp_path / "s", dataset="grew", skeleton="COCO17", joints=17, coordinates=2, class_names=people
    ) as w:
        for n, (label, side) in enumerate([(0, grew.TRAIN), (1, grew.GALLERY), (2, grew.PROBE)]):
            w.add(Recording(f"walk{n}", label, 4, (joints,), camera=n, setup=side, replication=7 + n))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grew, "PROBE_LABEL", 2)
        walks = walks_of(Store(tmp_path / "s"), np.array([2, 1]))
    assert walks.identity.tolist() == [-1, 1]
    assert walks.column("camera").tolist() == [2, 1]
    assert walks.column("sequence").tolist() == [9, 8]
    assert walks.value_name("condition", int(walks.column("condition")[0])) == "probe"


@pytest.mark.parametrize("dataset", ["gait3d", "casia_b", "oumvlp_pose", "grew", "kinect_gait", "my walkers"])
def test_every_data_set_has_protocols(dataset: str) -> None:
    protocols = protocols_of(dataset, table_of(CASIA_WALKS))
    assert len({protocol.name for protocol in protocols}) == len(protocols)
    assert all(len(protocol.role) == len(CASIA_WALKS) for protocol in protocols)
