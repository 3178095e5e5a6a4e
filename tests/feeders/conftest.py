from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from feeders.batch import SkeletonBatch
from feeders.skeleton import Skeleton
from feeders.store import Recording, Store, StoreWriter


@pytest.fixture
def write_store(tmp_path: Path) -> Callable[..., Store]:
    def write(recordings: list[Recording], joints: int = 25, name: str = "store") -> Store:
        facts = {"dataset": "toy", "skeleton": "NTU25", "class_names": ("a", "b")}
        with StoreWriter(tmp_path / name, joints=joints, coordinates=3, **facts) as writer:
            for recording in recordings:
                writer.add(recording)
        return Store(tmp_path / name)

    return write


@pytest.fixture
def upper() -> Skeleton:
    """A skeleton that no file of ours knows, without legs, with a part scheme of its own."""
    tree = {"pelvis": "pelvis", "neck": "pelvis", "head": "neck"}
    for side in ("left", "right"):
        tree |= {f"{side}_shoulder": "neck", f"{side}_elbow": f"{side}_shoulder", f"{side}_wrist": f"{side}_elbow"}
    sides = {side: ((f"{side}_elbow", f"{side}_wrist"), (f"{side}_arms",)) for side in ("left", "right")}
    return Skeleton.from_tree("UPPER9", tree, 3, schemes={"forearms": sides})


@pytest.fixture
def batch() -> SkeletonBatch:
    """Three clips, 9 frames, two bodies: the second is absent, comes late, leaves in between."""
    draw = torch.Generator().manual_seed(0)
    seen = torch.ones(3, 9, 2)
    seen[0, :, 1] = 0
    seen[1, :4, 1] = 0
    seen[2, 3:6, 1] = 0
    weight = seen[:, :, None].expand(-1, -1, 25, -1).contiguous()
    return SkeletonBatch(
        pose=torch.randn(3, 3, 9, 25, 2, generator=draw) * weight[:, None],
        joint_weight=weight,
        body_mask=seen.amax(1) > 0,
        frame_mask=torch.ones(3, 9, dtype=torch.bool),
        label=torch.arange(3),
        sample_id=("a", "b", "c"),
        meta={"subject": torch.arange(3)},
    )


@pytest.fixture
def seeds() -> np.ndarray:
    return np.array([11, 22, 33], dtype=np.int64)
