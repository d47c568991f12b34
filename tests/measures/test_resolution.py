"""Correlation by frequency, on rows and volumes whose resolution is known."""

from __future__ import annotations

import numpy as np
import pytest

from dip4d.measures.resolution import (
    Correlation,
    in_words,
    mean_correlation,
    record,
    resolution_nm,
    shell_correlation,
    unseen_correlation,
)


def noise(seed: int, shape=(32, 32, 32)) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def low_passed(volume: np.ndarray, cutoff: float) -> np.ndarray:
    """Without the frequencies above `cutoff`, in cycles per voxel."""
    grid = np.meshgrid(*(np.fft.fftfreq(n) for n in volume.shape), indexing="ij")
    radius = np.sqrt(sum(g**2 for g in grid))
    return np.fft.ifftn(np.fft.fftn(volume) * (radius < cutoff)).real


@pytest.mark.parametrize("shape", [(32, 32, 32), (8, 31, 40)])
def test_identical_volumes_agree_up_to_nyquist(shape):
    fsc = shell_correlation(noise(0, shape), 3 * noise(0, shape) + 7)
    np.testing.assert_allclose(fsc.correlation, 1)
    assert resolution_nm(fsc, 0.5) == (pytest.approx(1.0, rel=0.05), True)


def test_independent_noise_does_not_agree():
    fsc = shell_correlation(noise(0), noise(1))
    assert np.abs(fsc.correlation[4:]).max() < 0.2
    assert resolution_nm(fsc, 1.0)[0] > 8


def test_opposite_volumes_correlate_negatively():
    np.testing.assert_allclose(shell_correlation(noise(0), -noise(0)).correlation, -1)


@pytest.mark.parametrize("cutoff", [0.15, 0.25, 0.4])
@pytest.mark.parametrize("threshold", [0.143, 0.5])
def test_agreement_up_to_a_known_frequency(cutoff, threshold):
    """Two volumes that share what lies below a frequency, with independent noise above it."""
    shared = low_passed(noise(0, (48, 48, 48)), cutoff)
    a, b = (shared + n - low_passed(n, cutoff) for n in (noise(1, shared.shape), noise(2, shared.shape)))
    fsc = shell_correlation(a, b)
    assert resolution_nm(fsc, 2.0, threshold=threshold) == (pytest.approx(2.0 / cutoff, rel=0.1), False)


def test_signal_to_noise_sets_the_correlation():
    """With the spectral ratio of signal to noise r in each half, the correlation is r / (1 + r)."""
    signal = noise(0, (48, 48, 48))
    fsc = shell_correlation(signal + noise(1, signal.shape), signal + noise(2, signal.shape))
    assert np.average(fsc.correlation, weights=fsc.frequency**2) == pytest.approx(0.5, abs=0.02)


def test_volumes_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        shell_correlation(noise(0), noise(0, (16, 32, 32)))


def test_a_movie_has_the_mean_of_its_frames():
    movies = [[noise(k + 10 * half) + noise(k + 100) for k in range(3)] for half in (0, 1)]
    mean = mean_correlation(iter(movies[0]), iter(movies[1]), taper=0)
    frames = [shell_correlation(a, b).correlation for a, b in zip(*movies, strict=True)]
    np.testing.assert_allclose(mean.correlation, np.mean(frames, axis=0))


def rows(cutoff: float, *, noise: float, seed: int = 0, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and measured rows: the first lack what the specimen has beyond a frequency, the second are noisy."""
    random = np.random.default_rng(seed)
    true = random.normal(size=(count, 64))
    kept = np.fft.rfftfreq(64) < cutoff
    predicted = np.fft.irfft(np.fft.rfft(true) * kept, 64)
    return predicted, true + noise * random.normal(size=true.shape)


@pytest.mark.parametrize("cutoff", [0.15, 0.3])
@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_unseen_rows_tell_the_resolution_whatever_their_noise(cutoff, noise):
    found = unseen_correlation(*rows(cutoff, noise=noise), noise=noise**2)
    np.testing.assert_allclose(found.correlation[found.frequency < cutoff - 0.04], 1, atol=0.1)
    assert resolution_nm(found, 1.0) == (pytest.approx(1 / cutoff, rel=0.2), False)


def test_what_noise_hides_is_not_claimed():
    """The specimen has nothing beyond a frequency, and nor has the prediction: nobody can tell."""
    predicted, _ = rows(0.2, noise=0.0)
    measured = predicted + np.random.default_rng(5).normal(size=predicted.shape)
    found = unseen_correlation(predicted, measured, noise=1.0)
    assert np.isnan(found.correlation[found.frequency > 0.24]).all()
    value, or_finer = resolution_nm(found, 1.0)
    assert or_finer
    assert 1 / value < 0.24


def test_a_prediction_that_is_noise_has_no_resolution():
    _, measured = rows(0.5, noise=0.0)
    found = unseen_correlation(np.random.default_rng(3).normal(size=measured.shape), measured, noise=0.0)
    assert record(found, 1.0)["resolution"] is None


def test_the_record_is_in_nm_or_in_voxels():
    found = Correlation(np.array([0.1, 0.2, 0.3, 0.4]), np.array([1.0, 0.9, 0.1, np.nan]))
    nm, voxels = record(found, 0.5), record(found, None)
    assert voxels["resolution"] == pytest.approx(1 / 0.25)
    assert nm["resolution"] == pytest.approx(0.5 / 0.25)
    assert nm["frequency"] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert nm["correlation"] == [1.0, 0.9, 0.1, None]
    assert (in_words(nm), in_words(voxels)) == ("2 nm", "4 voxels")
    assert in_words(record(Correlation(found.frequency, np.array([1, 1, np.nan, np.nan])), None)) == "5 voxels or finer"
    assert in_words(record(Correlation(found.frequency, np.zeros(4)), None)) == "none"
    assert in_words(record(Correlation(found.frequency, np.full(4, np.nan)), None)) == "cannot be told"
