"""Fourier shell correlation, on volumes whose resolution is known."""

from __future__ import annotations

import numpy as np
import pytest

from dip4d.measures.resolution import (
    half_bit,
    in_words,
    mean_correlation,
    odd_and_even,
    record,
    resolution_nm,
    shell_correlation,
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
    assert resolution_nm(fsc, 0.5) == pytest.approx(1.0, rel=0.05)


def test_independent_noise_does_not_agree():
    fsc = shell_correlation(noise(0), noise(1))
    assert np.abs(fsc.correlation[4:]).max() < 0.2
    assert resolution_nm(fsc, 1.0, threshold=half_bit) > 8


def test_opposite_volumes_correlate_negatively():
    np.testing.assert_allclose(shell_correlation(noise(0), -noise(0)).correlation, -1)


@pytest.mark.parametrize("cutoff", [0.15, 0.25, 0.4])
@pytest.mark.parametrize("threshold", [0.143, half_bit])
def test_agreement_up_to_a_known_frequency(cutoff, threshold):
    """Two volumes that share what lies below a frequency, with independent noise above it."""
    shared = low_passed(noise(0, (48, 48, 48)), cutoff)
    a, b = (shared + n - low_passed(n, cutoff) for n in (noise(1, shared.shape), noise(2, shared.shape)))
    fsc = shell_correlation(a, b)
    assert resolution_nm(fsc, 2.0, threshold=threshold) == pytest.approx(2.0 / cutoff, rel=0.1)


def test_signal_to_noise_sets_the_correlation():
    """With the spectral ratio of signal to noise r in each half, the correlation is r / (1 + r)."""
    signal = noise(0, (48, 48, 48))
    fsc = shell_correlation(signal + noise(1, signal.shape), signal + noise(2, signal.shape))
    assert np.average(fsc.correlation, weights=fsc.voxels) == pytest.approx(0.5, abs=0.02)


def test_shells_hold_every_voxel_once():
    n = 16
    fsc = shell_correlation(noise(0, (n, n, n)), noise(1, (n, n, n)))
    grid = np.stack(np.meshgrid(*[np.fft.fftfreq(n) * n] * 3, indexing="ij"))
    radius = np.rint(np.sqrt((grid**2).sum(0)))
    assert fsc.voxels.sum() == ((radius >= 1) & (radius <= n // 2)).sum()


def test_half_bit_falls_with_the_size_of_the_shell():
    levels = half_bit(np.array([2, 20, 200, 1e9]))
    assert levels[0] == pytest.approx(1.0)
    assert (np.diff(levels) < 0).all()
    assert levels[-1] == pytest.approx(0.2071 / 1.2071, rel=1e-3)


def test_volumes_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        shell_correlation(noise(0), noise(0, (16, 32, 32)))


def test_halves():
    odd, even = odd_and_even(5)
    assert odd.tolist() == [0, 2, 4]
    assert even.tolist() == [1, 3]


def test_a_movie_has_the_mean_of_its_frames():
    movies = [[noise(k + 10 * half) + noise(k + 100) for k in range(3)] for half in (0, 1)]
    mean = mean_correlation(iter(movies[0]), iter(movies[1]), taper=0)
    frames = [shell_correlation(a, b).correlation for a, b in zip(*movies, strict=True)]
    np.testing.assert_allclose(mean.correlation, np.mean(frames, axis=0))


def test_the_record_is_in_nm_or_in_voxels():
    shared = low_passed(noise(0), 0.25)
    fsc = shell_correlation(shared + 0.01 * noise(1), shared + 0.01 * noise(2))
    nm, voxels = record(fsc, 0.5), record(fsc, None)
    assert nm["fixed"] == pytest.approx(0.5 / 0.25, rel=0.1)
    assert voxels["fixed"] == pytest.approx(1 / 0.25, rel=0.1)
    assert max(nm["frequency"]) == pytest.approx(1.0)  # Nyquist, cycles per nm
    assert in_words(voxels, "fixed") == f"{voxels['fixed']:.3g} voxels"
    assert in_words(record(shell_correlation(noise(0), noise(0)), 0.5), "fixed") == "1 nm or finer (Nyquist)"
    assert in_words(record(shell_correlation(shared, -shared), 0.5), "half_bit") == "none"
