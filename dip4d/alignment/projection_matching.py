"""Projection matching: every image is registered to what the images around it in time predict for its own angle.

A specimen that changes is reconstructed in a window of time around the image; the image itself is left out, so that
it is compared with what the others say (Penczek et al., Ultramicroscopy 53:251, 1994, for static specimens).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from skimage.registration import phase_cross_correlation
from torch import Tensor

from dip4d.alignment.shifts import Shifts, apply, inside, shown
from dip4d.conventional.algorithms import sirt
from dip4d.conventional.series import device_for
from dip4d.measures.consistency import residual_per_image
from dip4d.projector import Geometry, Projector
from dip4d.tilt_geometry import remove_unobservable_shift
from dip4d.tilt_series import TiltSeries

FOLDS = 8  # of the images in a window, one in eight is left out at a time
MATCHING_ITERATIONS, PREDICTION_ITERATIONS = 10, 20  # of SIRT in a round of matching, and to judge a window
SIDES = 0.75  # of the range of angles must lie in each window of time
LARGEST_STEP = 2.0  # pixels, of one image in one round

Plan = list[tuple[np.ndarray, np.ndarray]]  # images left out, images to reconstruct them from


def plans(frames: int, width: int) -> Plan:
    """Which images predict which: each image is left out once, and predicted from the `width` images around it.

    A window as wide as the series leaves out every `FOLDS`-th image at a time, a narrower one a few neighbours.
    """
    everything = np.arange(frames)
    if width >= frames:
        groups = [everything[k::FOLDS] for k in range(min(FOLDS, frames))]
        return [(group, np.setdiff1d(everything, group)) for group in groups]
    groups = np.array_split(everything, min(frames, -(-frames * FOLDS // width)))
    plan = []
    for group in groups:
        start = int(np.clip(group.mean() - (width - 1) / 2, 0, frames - width))
        plan.append((group, np.setdiff1d(np.arange(start, start + width), group)))
    return plan


class Predictor:
    """Predicts images of a series from others, as planned, by SIRT.

    Reconstructions are kept: the next call goes on from them, with `iterations` more.
    """

    def __init__(self, plan: Plan, *, iterations: int) -> None:
        self.plan, self.iterations = plan, iterations
        self._volumes: list[Tensor | None] = [None] * len(plan)

    def __call__(self, series: TiltSeries, row_mask: np.ndarray) -> np.ndarray:
        """(t, z, s), 0 where none is predicted. row_mask: (t, z), True for the rows to reconstruct from."""
        bins, device = series.shape[2], device_for()
        rows = torch.from_numpy(series.images).permute(1, 0, 2)  # (Z, T, S)
        mask = torch.from_numpy(row_mask).T
        angles = torch.from_numpy(np.deg2rad(series.angles_deg)).to(device)
        operator = lambda frames: Projector(Geometry(series.slice_shape, bins, angles[frames]))
        predicted = np.zeros_like(series.images)
        for k, (left_out, used) in enumerate(self.plan):
            y, start = rows[:, used].contiguous().to(device), self._volumes[k]
            x = sirt(
                operator(used),
                y,
                self.iterations,
                x=None if start is None else start.to(device),
                row_mask=mask[:, used],
            )
            predicted[left_out] = operator(left_out)(x).permute(1, 0, 2).cpu().numpy()
            self._volumes[k] = x.cpu()
        return predicted


def register(image: np.ndarray, reference: np.ndarray, *, seen: np.ndarray) -> tuple[float, float]:
    """How far `image` (z, s) is displaced from `reference`, as (z, s) in pixels, up to about two pixels.

    One step of least squares in the displacement and a gain, on pixels `seen`, with the gradient of the reference
    (Lucas and Kanade, IJCAI 1981). (0, 0) where there is nothing to hold on to.
    """
    along, across = (np.gradient(reference.astype(np.float64), axis=k) for k in (0, 1))
    design = np.stack([reference[seen], -along[seen], -across[seen]], axis=1)
    normal, right = design.T @ design, design.T @ image[seen]
    if normal.size == 0 or np.linalg.cond(normal) > 1e12:
        return 0.0, 0.0
    gain, *step = np.linalg.solve(normal, right)
    if not gain > 0.1:  # an image that shows something else
        return 0.0, 0.0
    z, s = np.clip(np.array(step) / gain, -LARGEST_STEP, LARGEST_STEP)
    return float(z), float(s)


def match_projections(
    series: TiltSeries,
    shifts: Shifts,
    *,
    width: int,
    rounds: int = 10,
    iterations: int = MATCHING_ITERATIONS,
    blur: float = 1.0,
    tolerance: float = 0.01,
    end: float = math.inf,
    report: Callable[[str], None] | None = None,
) -> Shifts:
    """Shifts refined by projection matching.

    series: the images as measured, less their background.
    shifts: those to start from.
    width: images in the window of time.
    rounds: at most so many.
    iterations: of SIRT in each round, which goes on from the round before.
    blur: of the images registered, in pixels.
    tolerance: it stops when the images move less than so many pixels (root mean square).
    end: the time.monotonic() by which the last round ends; there is always one.
    report: told after each round how far they moved, and if there is no time for another.
    What cannot be known stays as it was (`remove_unobservable_shift`).
    """
    predictor, took = Predictor(plans(len(shifts), width), iterations=iterations), 0.0
    tell = report or (lambda _: None)
    for round_ in range(rounds):
        began = time.monotonic()
        if round_ and began + took > end:
            tell(f"no time for more than {round_} of {rounds} rounds")
            break
        aligned, seen = apply(series, shifts), inside(series, shifts)
        predicted = predictor(aligned, shown(seen))
        found = displacements(aligned.images, predicted, seen=seen, blur=blur)
        z, s = remove_unobservable_shift(*found, angles_deg=series.angles_deg)
        shifts = shifts.plus(z, s)
        moved = float(np.sqrt(np.mean(z**2 + s**2)))
        tell(f"round {round_ + 1}: images moved by {moved:.3f} px")
        took = time.monotonic() - began
        if moved < tolerance:
            break
    return shifts


def place(
    series: TiltSeries,
    shifts: Shifts,
    *,
    images: np.ndarray,
    width: int,
    rounds: int = 10,
    blur: float = 1.0,
    tolerance: float = 0.01,
) -> Shifts:
    """The shifts with those of a few images found from what the others tell, which stay where they are.

    Each is registered to what the `width` others around it in time predict for its angle: it enters no volume, and
    moves no other image. First by their correlation, wherever it was, then as in `match_projections`.

    series: all images as measured, less their background.
    shifts: of all images; what they say of `images` (n,) does not count.
    rounds, blur, tolerance: as in `match_projections`.
    """
    others = np.setdiff1d(np.arange(len(shifts)), images)
    plan = [(images, others)]
    if width < len(others):
        plan = [(np.array([t]), _nearest(others, t, n=width)) for t in images]
    aligned, seen = apply(series, shifts), inside(series, shifts)
    predicted = Predictor(plan, iterations=PREDICTION_ITERATIONS)(aligned, shown(seen))[images]
    z, s = shifts.z.copy(), shifts.s.copy()
    few, found = series.images_at(images), Shifts(0 * z[images], 0 * s[images], shifts.axis, shifts.rotation_deg)
    lags = [_lag(image, p) for image, p in zip(apply(few, found).images, predicted, strict=True)]
    found = found.plus(*np.array(lags).T)
    for _ in range(rounds):
        steps = displacements(apply(few, found).images, predicted, seen=inside(few, found), blur=blur)
        found = found.plus(*steps)
        if np.abs(steps).max() < tolerance:
            break
    z[images], s[images] = found.z, found.s
    return replace(shifts, z=z, s=s)


def _nearest(others: np.ndarray, t: int, *, n: int) -> np.ndarray:
    """The n of the images `others`, in the order of time, that are nearest to the image t."""
    start = int(np.clip(np.searchsorted(others, t) - n // 2, 0, len(others) - n))
    return others[start : start + n]


def _lag(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """(z, s), whole pixels: by how much `image` is displaced from `reference`; 0 where one shows nothing."""
    if not image.any() or not reference.any():
        return np.zeros(2)
    lag, *_ = phase_cross_correlation(
        image,
        reference,
        normalization=None,  # pyright: ignore[reportArgumentType]  # its type is guessed from the default, a str
    )
    return lag


def displacements(
    images: np.ndarray,
    predicted: np.ndarray,
    *,
    seen: np.ndarray,
    blur: float,
) -> tuple[np.ndarray, np.ndarray]:
    """`register` for every image, both blurred by `blur` pixels: z and s, (t,) each."""
    soft = lambda image: gaussian_filter(image, blur) if blur else image
    found = [register(soft(i), soft(p), seen=m) for i, p, m in zip(images, predicted, seen, strict=True)]
    z, s = (np.array(v) for v in zip(*found, strict=True))
    return z, s


def prediction_residual(
    series: TiltSeries,
    shifts: Shifts,
    *,
    width: int,
    iterations: int = PREDICTION_ITERATIONS,
) -> np.ndarray:
    """(t,): `residual_per_image` of the aligned images and what the others in their windows predict for them."""
    aligned, seen = apply(series, shifts), inside(series, shifts)
    predicted = Predictor(plans(len(shifts), width), iterations=iterations)(aligned, shown(seen))
    return residual_per_image(predicted, aligned.images, counted=seen)


def choose_width(series: TiltSeries, shifts: Shifts, *, widths: Sequence[int], end: float = math.inf) -> int:
    """The window, among `widths` images, that predicts left-out images best with the shifts as they are.

    Only windows in which the specimen is seen from nearly all sides count: in a narrow sector of angles an image is
    easily predicted from its neighbours, wherever they lie. The whole series always counts; the others, from wide to
    narrow, only while half of the time until `end`, a time.monotonic(), is left.
    """
    half = (time.monotonic() + end) / 2
    frames = len(shifts)
    wide = {w for w in widths if w < frames and _sees_all_sides(series.angles_deg, w)}
    residuals = {}
    for width in sorted(wide | {frames}, reverse=True):
        began = time.monotonic()
        residuals[width] = prediction_residual(series, shifts, width=width).mean()
        if 2 * time.monotonic() - began > half:
            break
    return min(residuals, key=residuals.__getitem__)


def _sees_all_sides(angles_deg: np.ndarray, width: int) -> bool:
    """Whether each window of `width` images spans `SIDES` of the range of angles."""
    least = min(np.ptp(angles_deg[used]) for _, used in plans(len(angles_deg), width))
    return bool(least >= SIDES * np.ptp(angles_deg))
