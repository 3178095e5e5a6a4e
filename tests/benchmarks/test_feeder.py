"""What the feeder is measured against computes the same numbers."""

import numpy as np
import pytest

from benchmarks.feeder import BATCH, MODALITIES, TOLERANCE, Clips, make_clips, product, reference_batch
from benchmarks.reference import feeder as reference


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    return make_clips(tmp_path_factory.mktemp("clips"), BATCH)


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_product_feeds_what_the_published_feeder_does(clips: Clips, modality: str) -> None:
    samples = np.arange(BATCH)
    for first_seed in (0, 1000):
        seeds = np.arange(BATCH, dtype=np.uint64) + first_seed
        ours = product(clips, modality).batch(samples, seeds).pose
        plain = reference_batch(clips, modality, samples, seeds)
        assert ours.shape == plain.shape == (BATCH, 3, 64, 25, 2)
        assert float((ours - plain).abs().max()) < TOLERANCE
    assert float(ours.std()) > 0.01


def test_the_reference_resizes_as_a_loop_does() -> None:
    draw = np.random.default_rng(0)
    data = np.zeros((3, 300, 25, 2), np.float32)
    data[:, :90] = draw.normal(size=(3, 90, 25, 2))
    assert reference.valid_length(data) == 90
    result = reference.crop_and_resize(data, share=0.8, start=0.5, frames=64)
    kept, first = 72, int(0.5 * (90 - 72 + 1))
    for frame in range(64):
        at = min(max((frame + 0.5) * kept / 64 - 0.5, 0.0), kept - 1.0)
        low = int(at)
        expected = data[:, first + low] * (1 - (at - low)) + data[:, first + min(low + 1, kept - 1)] * (at - low)
        np.testing.assert_allclose(result[:, frame], expected, atol=1e-5)


def test_the_reference_turns_about_x_first() -> None:
    quarter = np.pi / 2
    up = np.array([0.0, 1.0, 0.0])
    np.testing.assert_allclose(reference.rotation([quarter, 0, 0]) @ up, [0, 0, -1], atol=1e-6)
    np.testing.assert_allclose(reference.rotation([quarter, quarter, 0]) @ up, [1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(reference.rotation([0, 0, quarter]) @ up, [1, 0, 0], atol=1e-6)
