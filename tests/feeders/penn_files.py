"""Files as Penn Action publishes them, of random poses."""

import io
from pathlib import Path

import numpy as np
from scipy.io import savemat

WIDTH, HEIGHT = 480, 270


def variables(frames: int = 6, seed: int = 0, **change: object) -> dict[str, object]:
    """The variables of a whole file; a change to None leaves one out."""
    draw = np.random.default_rng(seed)
    content = {
        "action": "tennis_serve",
        "pose": "left",
        "x": draw.uniform(2, WIDTH, size=(frames, 13)),
        "y": draw.uniform(2, HEIGHT, size=(frames, 13)),
        "visibility": np.ones((frames, 13), dtype=np.uint8),
        "train": 1,
        "bbox": np.ones((frames, 4)),
        "dimensions": np.array([HEIGHT, WIDTH, frames], dtype=np.uint16),
        "nframes": frames,
        **change,
    }
    return {name: value for name, value in content.items() if value is not None}


def mat(content: dict[str, object]) -> bytes:
    stream = io.BytesIO()
    savemat(stream, content, do_compression=True)
    return stream.getvalue()


def write_clips(folder: Path, clips: int) -> None:
    """Clips of three classes, every third of the test side, none of the validation fold."""
    folder.mkdir(parents=True)
    for number in range(clips):
        first, action = ((1, "baseball_pitch"), (168, "baseball_swing"), (341, "bench_press"))[number % 3]
        side = -1 if number % 9 >= 6 else 1
        content = mat(variables(20 + number % 7, seed=number, action=action, train=side))
        (folder / f"{first + number // 3:04}.mat").write_bytes(content)
