"""Facts of the real NW-UCLA recordings."""

import os
from pathlib import Path

import pytest

from feeders.loading import ActionDataConfig, build_loaders
from feeders.prepare import Report, prepare

RAW = Path(os.environ.get("PARTCLIP_DATA", "data")) / "NW-UCLA" / "all_sqe"
pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not RAW.is_dir(), reason=f"no NW-UCLA recordings at {RAW}; set PARTCLIP_DATA"),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return prepare("ucla", RAW, tmp_path_factory.mktemp("stores") / "ucla")


def test_every_clip_is_read_and_every_copy_found(report: Report) -> None:
    assert (report.clips, report.frames, report.body_frames) == (1484, 58534, 58534)
    assert not report.broken
    pairs = report.copies["published"]
    assert len(pairs) == 95
    assert all(train[:-3] == test[:-3] and train[:3] in ("a02", "a03") for train, test in pairs)
    assert all(train.endswith("v02") and test.endswith("v03") for train, test in pairs)


@pytest.mark.parametrize(
    ("split", "validation", "sizes"),
    [
        ("published", (), (1020, 0, 464)),
        ("without_copies", (), (925, 0, 464)),
        ("published", (9, 10), (None, None, 464)),
    ],
)
def test_splits_have_the_known_sizes(report: Report, split: str, validation: tuple, sizes: tuple) -> None:
    data = ActionDataConfig(
        dataset="ucla", root=Path(report.store).resolve(), split=split, validation_subjects=validation
    )
    loaders = build_loaders(data, 32, 64, seed=0)
    clips = loaders.extra["clips"]
    assert clips["train"] + clips["val"] == (925 if split == "without_copies" else 1020)
    assert all(size in (None, clips[name]) for name, size in zip(("train", "val", "test"), sizes, strict=True))
    assert sum(len(batch) for batch in loaders.evaluation["test"].epoch(0)) == 464
