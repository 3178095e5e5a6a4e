import errno
import logging
from pathlib import Path

import pytest
from tensorboardX.event_file_writer import EventsWriter

from torchlight.log import ScalarWriter


def test_scalars_are_in_the_file_as_soon_as_they_are_added(tmp_path: Path) -> None:
    writer = ScalarWriter(tmp_path, first_step=0)
    writer.add({"train/loss": 1.5}, step=3)
    (file,) = tmp_path.iterdir()
    assert b"train/loss" in file.read_bytes()
    writer.close()


def test_a_full_disk_ends_the_plots_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = ScalarWriter(tmp_path, first_step=0)
    monkeypatch.setattr(EventsWriter, "write_event", full)
    with caplog.at_level(logging.WARNING):
        writer.add({"a": 1.0, "b": 2.0}, step=1)
        writer.close()
    assert [record.getMessage() for record in caplog.records] == [
        "TensorBoard's scalars cannot be written: No space left on device"
    ]
