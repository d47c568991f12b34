"""Scores of volumes against the truth, and the table of them.

The data range is that of the whole truth, never of the volume that is scored. A score of `SCORES` stands in every
metrics.json, in the table and in the figure of quality: to add one is to add an entry.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np

SSIM_WINDOW = 7  # voxels, along each axis
SPECIMEN, NEAR_PX = 0.05, 2  # part of the largest intensity from which a voxel is the specimen's; and near it is
Frame = TypeVar("Frame", np.ndarray, np.ndarray | None)


def psnr(volume: np.ndarray, truth: np.ndarray, *, data_range: float) -> float:
    """Peak signal-to-noise ratio in dB of one volume (z, y, x)."""
    return psnr_from_mse(float(np.mean((volume - truth) ** 2, dtype=np.float64)), data_range)


def psnr_from_mse(mse: float, data_range: float) -> float:
    return float(10 * np.log10(data_range**2 / max(mse, 1e-20)))


def psnr_near(volume: np.ndarray, truth: np.ndarray, *, data_range: float) -> float:
    """As `psnr`, of the voxels within `NEAR_PX` of the specimen alone: what is empty is easy to get right.

    NaN where the truth is empty.
    """
    from scipy import ndimage

    near = cast(np.ndarray, ndimage.binary_dilation(truth > SPECIMEN * data_range, iterations=NEAR_PX))
    return psnr(volume[near], truth[near], data_range=data_range) if near.any() else math.nan


def ssim(volume: np.ndarray, truth: np.ndarray, *, data_range: float) -> float:
    """Structural similarity of one volume (z, y, x), in 3D with windows of 7^3 voxels (Wang et al. 2004)."""
    window = min(SSIM_WINDOW, *(n - 1 + n % 2 for n in truth.shape))  # odd, and no larger than the volume
    if window < 3:
        return float("nan")
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_initialized():
        return ssim_by_torch(volume, truth, data_range=data_range, window=window, device="cuda")
    from skimage.metrics import structural_similarity  # slow to import

    return float(cast(float, structural_similarity(volume, truth, data_range=data_range, win_size=window)))


def ssim_by_torch(
    volume: np.ndarray,
    truth: np.ndarray,
    *,
    data_range: float,
    window: int,
    device: str,
) -> float:
    """As scikit-image's, with windows of window^3 voxels, on a device of torch: 256^3 voxels take the CPU seconds."""
    import torch
    from torch.nn.functional import avg_pool3d

    mean = lambda v: avg_pool3d(v[None, None], window, stride=1)  # of the windows that lie inside
    x, y = (torch.from_numpy(np.ascontiguousarray(v)).to(device, torch.float64) for v in (volume, truth))
    sample = window**3 / (window**3 - 1)  # from the mean of squares to the variance of a sample
    mx, my = mean(x), mean(y)
    xx, yy, xy = (sample * (mean(a * b) - ma * mb) for a, b, ma, mb in ((x, x, mx, mx), (y, y, my, my), (x, y, mx, my)))
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    similar = (2 * mx * my + c1) * (2 * xy + c2) / ((mx**2 + my**2 + c1) * (xx + yy + c2))
    return float(similar.mean())


@dataclass(frozen=True)
class Score:
    """A score of a volume against the truth, the more the better.

    function: ``function(volume, truth, data_range=...)``, of volumes (z, y, x).
    label: as in figures, with its unit.
    digits: of it in tables.
    """

    function: Callable[..., float]
    label: str
    digits: int


SCORES: dict[str, Score] = {
    "psnr": Score(psnr, "PSNR (dB)", 2),
    "psnr_near": Score(psnr_near, "PSNR near the specimen (dB)", 2),
    "ssim": Score(ssim, "SSIM", 4),
}


@dataclass(frozen=True)
class ErrorKind:
    """An error that needs no truth. attribute: of a baseline. words: for tables."""

    attribute: str
    words: str


NOISE = "noise"  # the row of the errors that noise alone makes
OURS = "dip"  # the key of ours in a metrics.json, whichever network it is
ERRORS: dict[str, ErrorKind] = {  # by the key that a metrics.json has for it
    "held_out": ErrorKind("validation_error", "validation rows"),
    "held_out_images": ErrorKind("test_error", "test images"),
    "held_out_without_noise": ErrorKind("test_error_without_noise", "test images, less their noise"),
}


def scored(
    frames: Iterable[Frame],
    truth: np.ndarray,
    *,
    into: dict[str, list[float | None]],
    seconds: float = math.inf,
) -> Iterator[Frame]:
    """The same frames, each scored against the truth as it passes, several at a time where there are threads.

    frames: volumes (z, y, x), one for each of truth; None for one that is not scored.
    truth: (t, z, y, x).
    into: gets a list for each of `SCORES`, None where there is no score.
    seconds: about how long the scores may take; where that does not suffice, frames between are left out, evenly.
    """
    from dip4d.threads import each_alone  # slow to import

    data_range, stride = float(truth.max()), 1
    into |= {name: [] for name in SCORES}

    def pairs() -> Iterator[tuple[Frame, np.ndarray, bool]]:
        passed = 0
        for volume, true in zip(frames, truth, strict=True):
            yield volume, true, volume is not None and passed % stride == 0
            passed += volume is not None

    def values_of(pair: tuple[Frame, np.ndarray, bool]) -> tuple[Frame, list[float], float]:
        volume, true, counts = pair
        began = time.perf_counter()
        values = [s.function(volume, true, data_range=data_range) if counts else math.nan for s in SCORES.values()]
        return volume, values, time.perf_counter() - began

    for volume, values, took in each_alone(values_of, pairs()):
        if seconds < math.inf and stride == 1:
            stride = max(1, math.ceil(took * len(truth) / seconds))
        for name, value in zip(SCORES, values, strict=True):
            into[name].append(None if math.isnan(value) else value)
        yield volume


def dice(volume: np.ndarray, truth: np.ndarray, *, threshold: float) -> float:
    """Dice overlap of the voxels above a threshold in a volume and in the truth; 1 where both have none."""
    a, b = volume > threshold, truth > threshold
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0


def mass_error(volume: np.ndarray, truth: np.ndarray) -> float:
    """Total intensity of a volume over that of the truth, less 1."""
    return float(volume.sum(dtype=np.float64) / truth.sum(dtype=np.float64)) - 1


def change(before: np.ndarray, after: np.ndarray) -> float:
    """How much a volume changes to the next: the sum of the absolute differences, intensity."""
    return float(np.abs(after - before).sum(dtype=np.float64))


def all_scores(volumes: Iterable[np.ndarray], truth: np.ndarray) -> dict[str, list[float]]:
    """Every score of every frame of a volume-time series against truth (t, z, y, x).

    psnr (dB), psnr_near (dB, near the specimen), ssim, dice (at half of the largest intensity of the truth), mass
    (relative error), and of each frame but the first: change, and change_of_truth, from the frame before (intensity),
    and stillness: how well the frame equals the one before (dB, as a PSNR).
    """
    data_range = float(truth.max())
    names = ("psnr", "psnr_near", "ssim", "dice", "mass", "change", "change_of_truth", "stillness")
    scores: dict[str, list[float]] = {name: [] for name in names}
    before = None
    for t, (volume, true) in enumerate(zip(volumes, truth, strict=True)):
        scores["psnr"].append(psnr(volume, true, data_range=data_range))
        scores["psnr_near"].append(psnr_near(volume, true, data_range=data_range))
        scores["ssim"].append(ssim(volume, true, data_range=data_range))
        scores["dice"].append(dice(volume, true, threshold=data_range / 2))
        scores["mass"].append(mass_error(volume, true))
        if before is not None:
            scores["change"].append(change(before, volume))
            scores["change_of_truth"].append(change(truth[t - 1], true))
            scores["stillness"].append(psnr(volume, before, data_range=data_range))
        before = volume
    return scores


def comparison_rows(metrics: dict) -> list[dict[str, Any]]:
    """One row for each method of a metrics.json: mean and worst of every score over the frames, and the relative errors
    of validation rows and test images.

    Means are compared over the same frames: where others are scored at fewer frames than ours, rows such as
    "dip, at 25 of 100 frames" tell how good ours is at these. The last row has the errors that noise alone makes.
    """
    rows, methods = [], metrics["methods"]
    for name in methods | metrics["held_out"]:
        row = {"method": name} | _mean_and_worst(methods.get(name, {}))
        rows.append(row | {kind.words: metrics.get(key, {}).get(name) for key, kind in ERRORS.items()})
        if name == OURS:
            ours = set(scored_frames(methods[name]))
            shared = {tuple(t for t in scored_frames(of) if t in ours) for of in methods.values()}
            for frames in sorted(shared - {tuple(sorted(ours)), ()}):
                there = {score: [methods[name][score][t] for t in frames] for score in methods[name]}
                row = {"method": name + at_frames(len(frames), methods[name])} | _mean_and_worst(there)
                rows.append(row | dict.fromkeys((kind.words for kind in ERRORS.values()), None))
    if floors := metrics.get("noise_floor"):
        rows.append({"method": NOISE} | _mean_and_worst({}) | {k.words: floors.get(n) for n, k in ERRORS.items()})
    return rows


def _mean_and_worst(scores: dict[str, Any]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for score in SCORES:
        values = [v for v in scores.get(score, []) if v is not None]
        found[f"{score} mean"] = float(np.mean(values)) if values else None
        found[f"{score} worst"] = min(values) if values else None
    return found


def scored_frames(scores: dict[str, Any]) -> tuple[int, ...]:
    """The frames at which a method of a metrics.json is scored."""
    lists = [scores[name] for name in SCORES if scores.get(name)]
    return tuple(t for t, values in enumerate(zip(*lists, strict=True)) if any(v is not None for v in values))


def at_frames(count: int, scores: dict[str, Any]) -> str:
    """Words for scores that are those of so many of the frames."""
    return f", at {count} of {max(len(scores.get(name, ())) for name in SCORES)} frames"
