"""The published NTU feeder, one sample at a time, written plainly from its description.

Crop and resize in time, rotate, bone, motion, in this order (the NTU feeder of CTR-GCN, GAP and BPI). It reads the
padded layout, and is what `feeders.loading.Pipeline` is held against. What is drawn at random is passed in.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

JOINTS, BODIES = 25, 2


def valid_length(data: np.ndarray) -> int:
    """How many frames of (C, T, V, M) show anything, by the sum of their coordinates."""
    return int((data.sum(axis=(0, 2, 3)) != 0).sum())


def crop_and_resize(data: np.ndarray, share: float, start: float, frames: int) -> np.ndarray:
    """Cut a window out of the valid frames of (C, T, V, M) and resample it linearly on half-pixel centres.

    The window keeps a share of the valid frames, but at least 64; ``start``, in [0, 1), says where among all legal
    places it begins.
    """
    length = valid_length(data)
    kept = min(max(int(np.floor(share * length)), 64), length)
    first = int(np.floor(start * (length - kept + 1)))
    channels, _, joints, bodies = data.shape
    window = torch.tensor(data[:, first : first + kept])
    image = window.permute(0, 2, 3, 1).contiguous().view(1, 1, channels * joints * bodies, kept)
    image = F.interpolate(image, size=(channels * joints * bodies, frames), mode="bilinear", align_corners=False)
    resized: np.ndarray = image.view(channels, joints, bodies, frames).permute(0, 3, 1, 2).contiguous().numpy()
    return resized


def rotation(angles: Sequence[float]) -> np.ndarray:
    """R_z R_y R_x of three angles in radians."""
    (sin_x, sin_y, sin_z), (cos_x, cos_y, cos_z) = np.sin(angles), np.cos(angles)
    about_x = np.array([[1, 0, 0], [0, cos_x, sin_x], [0, -sin_x, cos_x]])
    about_y = np.array([[cos_y, 0, -sin_y], [0, 1, 0], [sin_y, 0, cos_y]])
    about_z = np.array([[cos_z, sin_z, 0], [-sin_z, cos_z, 0], [0, 0, 1]])
    turn: np.ndarray = (about_z @ about_y @ about_x).astype(np.float32)
    return turn


def rotate(data: np.ndarray, angles: Sequence[float]) -> np.ndarray:
    """Turn every joint of every frame and person alike."""
    turned: np.ndarray = (rotation(angles) @ data.reshape(3, -1)).reshape(data.shape)
    return turned


def bones(data: np.ndarray, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """Child minus parent, in the child's slot."""
    bone = np.zeros_like(data)
    for child, parent in pairs:
        bone[:, :, child] = data[:, :, child] - data[:, :, parent]
    return bone


def motion(data: np.ndarray) -> np.ndarray:
    """Next frame minus this one; the last frame is zero."""
    moved = np.zeros_like(data)
    moved[:, :-1] = data[:, 1:] - data[:, :-1]
    return moved


def sample(
    row: np.ndarray,
    share: float,
    start: float,
    angles: Sequence[float],
    modality: str,
    pairs: Sequence[tuple[int, int]],
    frames: int,
) -> np.ndarray:
    """One training sample; share, start and angles are what was drawn, pairs the (child, parent) of every bone.

    Shapes:
        row: (300, 150) of the padded file; returns: (C, frames, V, M)
    """
    data = row.reshape(len(row), BODIES, JOINTS, 3).transpose(3, 0, 2, 1)
    data = crop_and_resize(data, share, start, frames)
    data = rotate(data, angles)
    if modality.startswith("bone"):
        data = bones(data, pairs)
    return motion(data) if modality.endswith("motion") else data
