"""The pipeline round the readers, on simulated files in NTU's layout."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import feeders.prepare.shards
from feeders.locate import open_store
from feeders.ntu import NTU60
from feeders.prepare import Preparation, plan, raw_source, report_path
from feeders.prepare.__main__ import main
from feeders.prepare.check import find_faults, served_protocols
from feeders.prepare.raw_files import find_files
from feeders.prepare.source import RawSource, Reading
from feeders.store import Recording, Store, StoreWriter, Track
from feeders.synthetic import SyntheticConfig, skeleton_text
from torchlight.digest import file_sha256

ROOT = Path(__file__).parent.parent.parent
MISSING = "S001C002P005R002A008"
SOURCE = raw_source("ntu60")


def write(folder: Path, name: str, bodies: int = 1, frames: int = 30) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng([int(name[1:4]), int(name[5:8]), int(name[9:12]), int(name[17:20])])
    walk = draw.normal(scale=0.3, size=(bodies, frames, 25, 3)).clip(-0.5, 0.5) + [0.0, 0.0, 3.0]
    walk[..., 1] += np.linspace(-1, 1, 25)
    path = folder / f"{name}.skeleton"
    path.write_bytes(skeleton_text(walk))
    return path


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """22 files of both sides of both protocols: one on the published list, one broken, one without a body."""
    monkeypatch.setattr(feeders.prepare.shards, "_FILES", 4)
    folder = tmp_path / "raw"
    for subject in (1, 2, 3, 6, 7):
        for camera in (1, 2, 3):
            name = f"S001C00{camera}P00{subject}R001A{1 + subject:03}"
            write(folder / f"p{subject}", name, bodies=1 + subject % 2)
    for subject in (9, 10, 11):
        write(folder, f"S002C001P{subject:03}R001A060")
    write(folder, MISSING)
    broken = write(folder, "S001C001P001R002A001")
    broken.write_bytes(broken.read_bytes()[:-400])
    (folder / "S001C001P002R002A001.skeleton").write_text("2\n0\n0\n")
    write(folder, "S018C001P001R001A061")
    (folder / "notes.txt").write_text("not a recording")
    return folder


def prepared(raw: Path, out: Path, **change: object) -> Preparation:
    return plan(SOURCE, raw, out, **change)


def content(out: Path) -> dict[str, bytes]:
    """Every byte that a preparation leaves, but for where it was."""
    found = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    report = report_path(out).read_text().replace(str(out), "OUT")
    return {**found, "report": report.encode()}


def counting(read: list[str]) -> RawSource:
    def once(name: str, data: bytes) -> Reading:
        read.append(name)
        return SOURCE.read(name, data)

    return replace(SOURCE, read=once)


def in_a_process_that_dies(action: Callable[[], object], event: int) -> bool:
    """Fork, act, and be killed at some access to the file system; whether it came to that."""
    child = os.fork()
    if child == 0:
        seen = 0

        def count(name: str, _: tuple) -> None:
            nonlocal seen
            if name in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"):
                seen += 1
                if seen == event:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            action()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_broken_and_missing_files_are_reported_and_stop_nobody(raw: Path, tmp_path: Path) -> None:
    report = prepared(raw, tmp_path / "out").finish()
    assert (report.files, report.clips) == (21, 18)
    assert "truncated" in report.broken["S001C001P001R002A001"]
    assert report.left_out == {
        MISSING: "on the list of missing skeletons",
        "S001C001P002R002A001": "without a body in any frame",
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out-report.json", "raw"]
    assert find_faults(Store(tmp_path / "out")) == []
    with pytest.raises(ValueError, match="1 broken of 21 files"):
        prepared(raw, tmp_path / "strict", skip_broken=False).finish()
    assert not list(tmp_path.glob("*strict")) + list(tmp_path.glob(".strict*"))


def test_killed_anywhere_it_ends_with_the_same_bytes(raw: Path, tmp_path: Path) -> None:
    prepared(raw, tmp_path / "whole").finish()
    expected = content(tmp_path / "whole")
    event, deaths = 1, 0
    while True:
        out = tmp_path / f"out{event}"
        # Twice, as who is killed once may be killed while going on.
        dies = in_a_process_that_dies(lambda out=out: prepared(raw, out).finish(), event)
        in_a_process_that_dies(lambda out=out: prepared(raw, out).finish(), event // 2 + 20)
        prepared(raw, out).finish()
        assert content(out) == expected
        assert not list(tmp_path.glob(f".out{event}*"))
        deaths += dies
        if not dies:
            break
        event += 3
    assert deaths > 20


def test_a_killed_command_takes_its_processes_along_and_goes_on(raw: Path, tmp_path: Path) -> None:
    for subject in range(1, 300):
        write(raw, f"S003C001P{subject:03}R001A001", frames=60)
    command = [sys.executable, "-m", "feeders.prepare", "ntu60", "--raw", str(raw), "--jobs", "2", "--out"]
    subprocess.run([*command, str(tmp_path / "whole")], cwd=ROOT, check=True, capture_output=True)
    process = subprocess.Popen([*command, str(tmp_path / "out")], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    while process.poll() is None and not list(tmp_path.glob(".out-partial/shard-*")):
        time.sleep(0.001)
    process.kill()
    # The pipe ends when the last process that holds it does.
    ends = threading.Thread(target=process.communicate)
    ends.start()
    ends.join(timeout=20)
    assert not ends.is_alive()
    again = subprocess.run([*command, str(tmp_path / "out")], cwd=ROOT, check=True, capture_output=True, text=True)
    assert "files were read before" in again.stderr
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_what_was_read_is_not_read_again(raw: Path, tmp_path: Path) -> None:
    read: list[str] = []
    plan(counting(read), raw, tmp_path / "out").read()
    assert len(read) == 20
    write(raw, "S017C001P001R001A001")
    plan(counting(read), raw, tmp_path / "out").read()
    # The new file fills up the last shard.
    assert len(read) == 20 + 1
    plan(counting(read), raw, tmp_path / "out").finish()
    assert len(read) == 20 + 1
    assert len(Store(tmp_path / "out")) == 19


@pytest.mark.parametrize("whole_from", [None, 2**30, 4096])
def test_a_shard_that_a_loss_of_power_emptied_is_made_again(raw: Path, tmp_path: Path, whole_from: int | None) -> None:
    prepared(raw, tmp_path / "whole").finish()
    prepared(raw, tmp_path / "out").read()
    shard = min((tmp_path / ".out-partial").glob("shard-*"))
    held = shard.read_bytes()
    shard.write_bytes(b"" if whole_from is None else bytes(len(held[:whole_from])) + held[whole_from:])
    with pytest.raises(ValueError, match="expected a whole shard; it is removed, run this again"):
        prepared(raw, tmp_path / "out").finish()
    prepared(raw, tmp_path / "out").finish()
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_work_of_other_files_or_options_is_thrown_away(raw: Path, tmp_path: Path) -> None:
    prepared(raw, tmp_path / "out").read()
    work = tmp_path / ".out-partial"
    before = set(work.glob("shard-*"))
    published = raw_source("ntu60", "published")
    plan(published, raw, tmp_path / "out").read()
    assert before.isdisjoint(work.glob("shard-*"))
    plan(published, raw, tmp_path / "out").finish()
    plan(published, raw, tmp_path / "fresh").finish()
    assert content(tmp_path / "out") == content(tmp_path / "fresh")


def test_a_finished_store_is_known_again_and_never_replaced(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["ntu60", "--raw", str(raw), "--jobs", "1", "--out", str(tmp_path / "out")]
    assert main(command) == 0
    before = content(tmp_path / "out")
    assert "already" not in capsys.readouterr().out
    assert main(command) == 0
    assert "already prepared" in capsys.readouterr().out
    assert main([*command, "--denoise", "published"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "'cleaning': 'default'" in said
    assert "remove it" in said
    assert main([*command, "--strict"]) == 1
    assert "1 broken" in capsys.readouterr().err
    write(raw, "S017C001P001R001A001")
    assert main(command) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert content(tmp_path / "out") == before


def test_two_cannot_prepare_the_same_store_at_once(raw: Path, tmp_path: Path) -> None:
    second: list[str] = []

    def read(name: str, data: bytes) -> Reading:
        if not second:
            with pytest.raises(ValueError, match="another process") as refused:
                prepared(raw, tmp_path / "out").read()
            second.append(str(refused.value))
        return SOURCE.read(name, data)

    plan(replace(SOURCE, read=read), raw, tmp_path / "out").finish()
    assert second


@pytest.mark.parametrize("calls_before", [0, 2, 5])
def test_a_full_disk_is_one_line_and_nothing_half_written_counts_as_done(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, calls_before: int
) -> None:
    calls, chmod = iter(range(100)), Path.chmod

    def full(path: Path, mode: int) -> None:
        if path.is_file() and next(calls) >= calls_before:
            raise OSError(28, "No space left on device")
        chmod(path, mode)

    command = ["ntu60", "--raw", str(raw), "--jobs", "1", "--out", str(tmp_path / "out")]
    with monkeypatch.context() as patch:
        # What is written is given its mode when it is whole, and before it is put in place.
        patch.setattr(Path, "chmod", full)
        assert main(command) == 1
    said = capsys.readouterr()
    assert said.err.splitlines()[-1].startswith("error: ")
    assert "No space left on device" in said.err
    assert "Traceback" not in said.err
    assert not (tmp_path / "out").exists()
    assert len(list((tmp_path / ".out-partial").glob("shard-*"))) == min(calls_before, 5)
    assert main(command) == 0
    prepared(raw, tmp_path / "fresh").finish()
    assert content(tmp_path / "out") == content(tmp_path / "fresh")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zips_give_the_store_that_their_content_gives(raw: Path, tmp_path: Path, method: int) -> None:
    halves = [tmp_path / "zips" / name for name in ("one.zip", "two.zip")]
    halves[0].parent.mkdir()
    paths = sorted(raw.rglob("*.skeleton"))
    for half, archive in enumerate(halves):
        with zipfile.ZipFile(archive, "w", method) as target:
            for path in paths[half::2]:
                target.write(path, f"nturgb+d_skeletons/{path.name}")
            target.writestr(f"__MACOSX/._{paths[0].name}", "resource fork")
    prepared(raw, tmp_path / "folder").finish()
    for number, places in enumerate(([tmp_path / "zips"], halves)):
        out = tmp_path / f"out{number}"
        report = plan(SOURCE, places, out, jobs=2).finish()
        assert report.clips == 18
        for name in ("poses.npy", "index.npz", "header.json"):
            assert (out / name).read_bytes() == (tmp_path / "folder" / name).read_bytes()


def test_a_damaged_zip_member_is_one_broken_file_and_a_damaged_zip_one_line(tmp_path: Path) -> None:
    names = [f"S001C001P00{person}R001A001" for person in (1, 2, 3)]
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for name in names:
            target.write(write(tmp_path / "raw", name), f"{name}.skeleton")
        offsets = [member.header_offset for member in target.infolist()]
    damaged = bytearray(archive.read_bytes())
    damaged[offsets[1] + 200] ^= 255
    archive.write_bytes(damaged)
    report = plan(SOURCE, archive, tmp_path / "out").finish()
    assert report.clips == 2
    assert list(report.broken) == [names[1]]
    assert "download the zip again" in report.broken[names[1]]
    archive.write_bytes(damaged[:-30])
    with pytest.raises(ValueError, match=r"all\.zip: got a file that is no whole zip"):
        plan(SOURCE, archive, tmp_path / "other")


def test_the_same_file_twice_is_read_once_and_another_one_of_its_name_is_reported(raw: Path, tmp_path: Path) -> None:
    name = "S002C001P009R001A060"
    (raw / "again").mkdir()
    (raw / "again" / f"{name}.skeleton").write_bytes((raw / f"{name}.skeleton").read_bytes())
    write(raw / "other", name, frames=40)
    (raw / "loop").symlink_to(raw)
    report = prepared(raw, tmp_path / "out").finish()
    assert report.clips == 18
    assert report.left_out[str(raw / "again" / f"{name}.skeleton")].startswith("the same as")
    assert "another content" in report.broken[str(raw / "other" / f"{name}.skeleton")]


def test_of_two_files_of_one_name_and_size_the_content_tells(tmp_path: Path) -> None:
    names = [f"S001C001P00{person}R001A001" for person in (1, 2)]
    raw = tmp_path / "raw"
    for name in names:
        write(raw, name)
    content = (raw / f"{names[0]}.skeleton").read_bytes()
    other = content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]
    (raw / "other").mkdir()
    (raw / "other" / f"{names[0]}.skeleton").write_bytes(other)
    for archive, held in (("same", content), ("changed", other)):
        with zipfile.ZipFile(raw / f"{archive}.zip", "w", zipfile.ZIP_DEFLATED) as target:
            target.writestr(f"{names[0]}.skeleton", held)
    first = raw / f"{names[0]}.skeleton"
    for places, is_same in (
        ([raw], {"other": False, "same.zip": True, "changed.zip": False}),
        ([raw / "same.zip", raw / "changed.zip"], {"changed.zip": False}),
        ([raw / "changed.zip", first.parent / "other"], {"other": True}),
    ):
        found = find_files(SOURCE, places)
        for place, same in is_same.items():
            one = str(raw / place / first.name)
            assert (one in found.left_out) == same, place
            assert ("another content" in found.broken.get(one, "")) != same, place
        assert len(found.left_out) + len(found.broken) == len(is_same)


def test_a_list_of_ones_own_takes_the_place_of_the_published_one(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / "missing.txt"
    names.write_text("S002C001P009R001A060\nS002C001P010R001A060\n", encoding="utf-8-sig")
    command = ["ntu60", "--raw", str(raw), "--out", str(tmp_path / "out"), "--jobs", "1", "--missing-list", str(names)]
    assert main(command) == 0
    found = set(Store(tmp_path / "out").index.sample_id.tolist())
    assert MISSING in found
    assert found.isdisjoint(names.read_text(encoding="utf-8-sig").split())
    assert "2 on the list of missing skeletons" in capsys.readouterr().out
    assert main([*command[:-1], str(tmp_path / "none.txt")]) == 1
    assert "none.txt" in capsys.readouterr().err
    names.write_bytes(b"S002C001P009R001A060 \xe9")
    assert main(command) == 1
    assert "missing.txt: got 'utf-8' codec" in capsys.readouterr().err


def test_a_raw_folder_that_is_not_there_is_named_even_beside_one_that_is(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing at .*nowhere, expected .*rose1"):
        plan(SOURCE, [raw, tmp_path / "nowhere"], tmp_path / "out")


def test_the_documented_commands_make_the_store_that_training_opens(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw.rename(tmp_path / "nturgbd_raw")
    monkeypatch.setenv("PARTCLIP_DATA", str(tmp_path))

    def run(script: str, *options: str) -> str:
        command = [sys.executable, script, *options]
        done = subprocess.run(command, cwd=ROOT / "data/ntu", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "20 files are read" in run("get_raw_skes_data.py")
    assert not (tmp_path / "ntu60").exists()
    assert "18 clips" in run("get_raw_denoised_data.py")
    assert "already prepared" in run("get_raw_skes_data.py")
    assert "already prepared" in run("get_raw_denoised_data.py")
    ready = run("seq_transformation.py")
    assert "protocol cross_subject: served (7 to train, 11 to test)" in ready
    assert "protocol cross_view: served" in ready
    assert open_store(NTU60, None, SyntheticConfig()).folder == tmp_path / "ntu60"


def test_preparing_needs_no_torch() -> None:
    check = "import sys, feeders.prepare.__main__, feeders.prepare.steps; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=False).returncode == 0


@pytest.fixture
def store(raw: Path, tmp_path: Path) -> Store:
    prepared(raw, tmp_path / "out").finish()
    return Store(tmp_path / "out")


def test_info_counts_what_is_there(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(store.folder)]) == 0
    said = capsys.readouterr().out
    for line in (
        "18 clips of ntu60",
        "camera (clips): 1 (8), 2 (5), 3 (5)",
        "class 59 'walking apart from each other': 3",
        "9 with 1, 9 with 2",
    ):
        assert line in said
    assert f"{store.index.frames.sum()} " in said


def test_info_and_validate_count_clips_that_show_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here, zeros = np.ones((2, 25, 3)), np.zeros((2, 25, 3))
    seen, unseen = np.ones((2, 25)), np.zeros((2, 25))
    clips = {"a": [(here, seen)], "b": [(zeros, unseen)], "c": [(zeros, unseen), (here, seen)], "d": [(zeros, seen)]}
    with StoreWriter(tmp_path / "s", dataset="mine", skeleton="NTU25", class_names=("x",)) as writer:
        for name, bodies in clips.items():
            writer.add(Recording(name, 0, 2, tuple(Track(np.arange(2), *body) for body in bodies)))
    for command in ("info", "validate"):
        assert main([command, str(tmp_path / "s")]) == 0
        said = capsys.readouterr().out
        assert "1 clips in which no joint is ever seen, as b\n" in said
        assert "2 clips of which every position is zero, as b, d\n" in said


def rewritten(store: Store, **columns: np.ndarray) -> Store:
    """Change the index as somebody would who also writes the header's checksum."""
    path = store.folder / "index.npz"
    np.savez(path, **{**vars(store.index), **columns})
    header = json.loads((store.folder / "header.json").read_text())
    header["files"]["index.npz"] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    (store.folder / "header.json").write_text(json.dumps(header))
    return Store(store.folder)


def changed(array: np.ndarray, place: object, value: object) -> np.ndarray:
    array = array.copy()
    array[place] = value
    return array


@pytest.mark.parametrize(
    ("column", "place", "value", "fault"),
    [
        ("label", 0, 60, "a label outside 0 to 59 in 1 clips"),
        ("sample_id", 1, "S001C001P001R001A002", "a name that another clip has in 2 clips"),
        ("bodies", 3, 3, "another number of bodies"),
        ("frames", 0, 5, "segments outside its frames"),
        ("segments", (0, 0), 1, "segments out of order"),
        ("segment_end", 0, 0, "segment_end that does not cut"),
    ],
)
def test_validate_says_what_is_wrong_with_an_index(
    store: Store, capsys: pytest.CaptureFixture[str], column: str, place: object, value: object, fault: str
) -> None:
    assert main(["validate", str(store.folder)]) == 0
    assert "protocol cross_view: served (10 to train, 8 to test)" in capsys.readouterr().out
    rewritten(store, **{column: changed(getattr(store.index, column), place, value)})
    assert main(["validate", str(store.folder)]) == 1
    said = capsys.readouterr()
    assert fault in said.err
    assert all(line.startswith("error: ") for line in said.err.splitlines())


def test_validate_sees_other_bytes_nan_and_foreign_class_names(store: Store) -> None:
    header_path, poses = store.folder / "header.json", store.folder / "poses.npy"
    header = json.loads(header_path.read_text())
    header["class_names"][3] = "another"
    header_path.write_text(json.dumps(header))
    assert find_faults(Store(store.folder)) == ["class names: got 60, expected the 60 of ntu60"]
    whole = poses.read_bytes()
    poses.write_bytes(whole[:-4] + np.float32(np.nan).tobytes())
    assert "another checksum" in find_faults(Store(store.folder))[0]
    header["files"]["poses.npy"]["sha256"] = file_sha256(poses)
    header_path.write_text(json.dumps(header))
    assert any("NaN" in fault for fault in find_faults(Store(store.folder)))


def test_a_protocol_without_clips_is_not_served(tmp_path: Path) -> None:
    write(tmp_path / "raw", "S001C001P001R001A001")
    prepared(tmp_path / "raw", tmp_path / "out").finish()
    assert served_protocols(Store(tmp_path / "out")) == [
        "protocol cross_subject: not served, no clip to test (1 to train, 0 to test)",
        "protocol cross_view: not served, no clip to train (0 to train, 1 to test)",
    ]
