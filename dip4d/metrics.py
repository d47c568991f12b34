"""Scores of volumes against the truth, and the table of them.

The data range is that of the whole truth, never of the volume that is scored.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from skimage.metrics import structural_similarity


def psnr(volume: np.ndarray, truth: np.ndarray, data_range: float) -> float:
    """Peak signal-to-noise ratio in dB of one volume (z, y, x)."""
    return psnr_from_mse(float(np.mean((volume - truth) ** 2, dtype=np.float64)), data_range)


def psnr_from_mse(mse: float, data_range: float) -> float:
    return float(10 * np.log10(data_range**2 / max(mse, 1e-20)))


def ssim(volume: np.ndarray, truth: np.ndarray, data_range: float) -> float:
    """Structural similarity of one volume (z, y, x), in 3D with windows of 7^3 voxels (Wang et al. 2004)."""
    window = min(7, *(n - 1 + n % 2 for n in truth.shape))  # odd, and no larger than the volume
    if window < 3:
        return float("nan")
    return float(structural_similarity(volume, truth, data_range=data_range, win_size=window))


def comparison_rows(metrics: dict) -> list[dict[str, Any]]:
    """One row for each method of a metrics.json: mean and worst PSNR and SSIM over the frames, held-out error."""
    rows = []
    for name in metrics["methods"] | metrics["held_out"]:
        row: dict[str, Any] = {"method": name}
        for score in ("psnr", "ssim"):
            values = [v for v in metrics["methods"].get(name, {}).get(score, []) if v is not None]
            row[f"{score} mean"] = float(np.mean(values)) if values else None
            row[f"{score} worst"] = min(values) if values else None
        rows.append(row | {"held-out error": metrics["held_out"].get(name)})
    return rows
