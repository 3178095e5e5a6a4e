from pathlib import Path

import pytest

from feeders.loading import ActionDataConfig, build_loaders
from feeders.synthetic import TEST_CAMERAS, TEST_SUBJECTS, VALIDATION_SUBJECTS, SyntheticConfig


def test_the_demo_walks_from_its_own_recordings_to_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTCLIP_CACHE", str(tmp_path))
    data = ActionDataConfig(dataset="demo", frames=16, synthetic=SyntheticConfig(people=3, cameras=2, repetitions=1))
    loaders = build_loaders(data, 8, 8, 0)
    seen = {
        name: [batch for batch in loader.epoch(0)]
        for name, loader in {"train": loaders.train, **loaders.evaluation}.items()
    }
    people = {name: {int(s) for b in batches for s in b.meta["subject"]} for name, batches in seen.items()}
    cameras = {name: {int(c) for b in batches for c in b.meta["camera"]} for name, batches in seen.items()}
    assert people["val"] <= set(VALIDATION_SUBJECTS)
    assert people["test"] <= set(TEST_SUBJECTS)
    assert cameras["test"] <= set(TEST_CAMERAS)
    assert not people["train"] & (people["val"] | people["test"])
    assert not cameras["train"] & cameras["test"]
    assert seen["test"][0].pose.shape[1:] == (3, 16, 25, 2)
    assert len(list((tmp_path / "stores").glob("demo-*-report.json"))) == 1
