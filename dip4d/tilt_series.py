"""`TiltSeries`: the images of one tilt series in the one convention that all of dip4d uses.

| quantity    | convention                                                                                     |
|-------------|------------------------------------------------------------------------------------------------|
| images      | (t, z, s): time, along the tilt axis, across it; float32                                       |
| volumes     | (t, z, y, x): y along the beam at 0 degrees, x along s                                         |
| angles      | degrees here, in files and in configs; radians in `dip4d.projector`; names say which           |
| tilt        | the voxel (x, y) falls on ``s = x cos + y sin``, all counted from the middle of the image      |
| times       | seconds                                                                                        |
| lengths     | nm                                                                                             |
| intensities | volumes hold image intensity per voxel: their sum along the beam is the image                  |

Readers convert to it at the door (`dip4d.io`); nothing converts later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from dip4d.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

Slices = TypeVar("Slices", np.ndarray, "Tensor")

SAME_ANGLE_DEG = 0.1  # angles that differ by no more count as the same
MOST_REPEATED = 7  # images of one view
_BY_CHANCE = 1e-4  # chance of a line of zeros below which it is the filling of a shift
_ROUNDS = 3  # of leaving out what lies far from the middle
_SPREAD_PER_MAD = 1.4826  # of a normal distribution
_SURE, _MEDIAN_ERROR, _FEWEST_TO_TELL = 4.0, 1.2533, 10  # standard errors, of a median, and images that tell a gradient


@dataclass(frozen=True, eq=False)
class TiltSeries:
    """One tilt series: its images, and how each was taken.

    images: (t, z, s) intensity.
    angles_deg: (t,).
    times_s: (t,), 0, 1, 2, ... if not given.
    pixel_nm: size of a pixel, None if unknown.
    background: the mean level that was subtracted from the file's values.
    source: where it came from.
    notes: what a reader had to assume.
    shown: (t, z), False for rows of which an image that was shifted shows nothing; None if all images show all rows.
    tilt_axis: the axis of the images in the file, x (columns) or y (rows), along which the tilt axis lies.
    margin: pixels by which the orthoslices that are reconstructed are wider than the images, at each side of the tilt
        axis: for a specimen that the images cut off. Volumes are given without it.
    Raises InputError for counts that differ or values that are not finite.
    """

    images: np.ndarray
    angles_deg: np.ndarray
    times_s: np.ndarray = None  # pyright: ignore[reportAssignmentType]  # filled in below
    pixel_nm: float | None = None
    background: float = 0.0
    source: str = ""
    notes: tuple[str, ...] = ()
    shown: np.ndarray | None = None
    tilt_axis: str = "y"
    margin: int = 0

    def __post_init__(self) -> None:
        images = np.ascontiguousarray(self.images, dtype=np.float32)
        if images.ndim != 3 or images.size == 0:
            raise InputError(f"{self.source}: a tilt series has axes (t, z, s), found shape {images.shape}")
        times = np.arange(len(images)) if self.times_s is None else self.times_s
        for name, values in (("tilt angles", self.angles_deg), ("times", times)):
            if np.shape(values) != (len(images),):
                raise InputError(f"{self.source}: {len(images)} images but {np.size(values)} {name}")
            if not np.isfinite(values).all():
                raise InputError(f"{self.source}: {name} must be finite numbers")
        finite = np.isfinite(images).all(axis=(1, 2))
        if not finite.all():
            bad = np.flatnonzero(~finite)
            raise InputError(f"{self.source}: NaN or infinite pixels in image {', '.join(map(str, bad[:8]))}")
        if self.shown is not None and (
            np.shape(self.shown) != images.shape[:2] or np.asarray(self.shown).dtype != bool
        ):
            raise InputError(
                f"{self.source}: shown must be true or false for each of {images.shape[:2]} (images, rows z)"
            )
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "angles_deg", np.asarray(self.angles_deg, dtype=np.float64))
        object.__setattr__(self, "times_s", np.asarray(times, dtype=np.float64))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, Z, S)."""
        return self.images.shape

    @property
    def slice_shape(self) -> tuple[int, int]:
        """(Y, X) of an orthoslice that is reconstructed, with the margin."""
        bins = self.images.shape[2]
        return bins, bins + 2 * self.margin

    def field(self, slices: Slices) -> Slices:
        """What the images show of orthoslices (..., Y, X), as they are reconstructed: (..., S, S)."""
        return slices[..., self.margin : self.margin + self.images.shape[2]]

    @property
    def tau(self) -> np.ndarray:
        """(t,): the times, scaled to 0..1 over the series."""
        return self.tau_at(self.times_s)

    def tau_at(self, times_s: Sequence[float] | np.ndarray) -> np.ndarray:
        """Any times in seconds, scaled to 0..1 over the series. Raises InputError for times outside of it."""
        times, start, end = np.asarray(times_s, dtype=np.float64), self.times_s.min(), self.times_s.max()
        outside = times[~((times >= start) & (times <= end))]
        if outside.size:
            raise InputError(
                f"times: {outside[0]:g} s is not within the series, {start:g} to {end:g} s", argument="times"
            )
        return (times - start) / max(end - start, np.finfo(float).tiny)

    @property
    def views(self) -> np.ndarray:
        """(t,): the number of the view that each image shows; 0, 1, 2, ... in the order of time.

        Images taken one after the other at one angle show one view, unless there are more than `MOST_REPEATED` of them:
        then the specimen may have changed meanwhile, and each is a view of its own.
        """
        first = [0]  # images that begin a run at one angle
        for t, angle in enumerate(self.angles_deg):
            if abs(angle - self.angles_deg[first[-1]]) > SAME_ANGLE_DEG:
                first.append(t)
        runs = np.diff([*first, len(self.angles_deg)])
        images = [[1] * n if n > MOST_REPEATED else [n] for n in runs.tolist()]  # of each view
        return np.repeat(np.arange(sum(map(len, images))), np.concatenate(images))

    def in_time_order(self) -> TiltSeries:
        """The images sorted by their times."""
        order = np.argsort(self.times_s, kind="stable")
        return self.images_at(order)

    def without_images(self, frames: Sequence[int]) -> TiltSeries:
        """The series less some images, counted from 0 in the order of time, with their angles and times.

        Raises InputError for a number that is not an image of the series, and if fewer than two images remain.
        """
        wrong = [f for f in frames if not 0 <= f < len(self.images)]
        if wrong:
            raise InputError(
                f"exclude={list(frames)}: no image {wrong[0]}; {len(self.images)} images count from 0 to "
                f"{len(self.images) - 1}",
                argument="exclude",
            )
        keep = np.setdiff1d(np.arange(len(self.images)), frames)
        if len(keep) < 2:
            raise InputError(
                f"exclude leaves {len(keep)} of {len(self.images)} images; a tilt series needs two", argument="exclude"
            )
        return self.images_at(keep)

    def images_at(self, frames: np.ndarray | slice) -> TiltSeries:
        """The series of these images, in this order."""
        per_image = {name: getattr(self, name) for name in ("images", "angles_deg", "times_s", "shown")}
        return replace(self, **{name: None if v is None else v[frames] for name, v in per_image.items()})

    def at_positions(self, z: np.ndarray | list[int] | slice) -> TiltSeries:
        """The series at these positions z along the tilt axis, in this order."""
        shown = None if self.shown is None else self.shown[:, z]
        return replace(self, images=self.images[:, z], shown=shown)

    def cropped(self, window: tuple[int, int, int, int]) -> TiltSeries:
        """The window (z0, z1, s0, s1) in pixels. Raises InputError if it does not fit."""
        z0, z1, s0, s1 = window
        _, nz, ns = self.shape
        if not (0 <= z0 < z1 <= nz and 0 <= s0 < s1 <= ns):
            raise InputError(f"crop={list(window)} must be (z0, z1, s0, s1) inside (0, {nz}, 0, {ns})", argument="crop")
        shown = None if self.shown is None else self.shown[:, z0:z1]
        return replace(self, images=self.images[:, z0:z1, s0:s1], shown=shown)

    def without_background(self, level: str | float) -> TiltSeries:
        """The images less a level: a number, 'none', or 'auto'.

        auto: of each image the level of the outer tenth at both sides of the tilt axis (`border_levels`), where the
        specimen must not be (along the axis it may reach the border), and of all images the gradient from side to side
        (`border_slope`). What an image does not show stays 0. A film or a liquid of even thickness goes with it,
        whatever the tilt.
        """
        if level == "none":
            return self
        empty, images = empty_pixels(self.images, self.shown), self.images
        if level == "auto":
            images, levels = _even(images, empty)
        else:
            levels = np.full(len(images), level, float)
        images = images - levels.astype(np.float32)[:, None, None]
        if empty is not None:
            images[empty] = 0
        return replace(self, images=images, background=self.background + float(levels.mean()))

    def inverted(self) -> TiltSeries:
        """Each image as the level of its border less the image: of a bright field, where a specimen is dark.

        What an image does not show is 0. That is right for weak absorption only: no logarithm is taken.
        """
        empty = empty_pixels(self.images, self.shown)
        images, levels = _even(self.images, empty)
        images = levels.astype(np.float32)[:, None, None] - images
        if empty is not None:
            images[empty] = 0
        said = "the contrast was inverted: the level of the border of each image, less the image"
        return replace(self, images=images, notes=(*self.notes, said))

    @property
    def one_sweep(self) -> bool:
        """Whether the tilt goes one way only: then time and angle are one, and a turn cannot be told from a tilt."""
        steps = np.diff(self.angles_deg)
        return bool((steps >= 0).all() or (steps <= 0).all())

    def describe(self) -> str:
        """One line: what was understood."""
        t, z, _ = self.shape
        scheme = "one sweep" if self.one_sweep else "several sweeps or scattered"
        return (
            f"{self.source}: {t} images (t, z, s) = {self.shape}, tilt axis along image {self.tilt_axis} ({z} rows z), "
            f"angles {self.angles_deg.min():g} to {self.angles_deg.max():g} deg ({scheme}), "
            f"times {self.times_s.min():g} to {self.times_s.max():g} s, "
            f"pixel {'unknown' if self.pixel_nm is None else f'{self.pixel_nm:.4g} nm'}, "
            f"background {self.background:.4g} subtracted, intensity {self.images.min():.4g} to {self.images.max():.4g}"
            + (f"; assumed: {'; '.join(self.notes)}" if self.notes else "")
        )

    def binned(self, k: int) -> TiltSeries:
        """The mean over blocks of k x k pixels, what is left over at the far edges cut off.

        Raises InputError if an image is smaller than a block.
        """
        if k == 1:
            return self
        t, z, s = self.shape[0], self.shape[1] // k, self.shape[2] // k
        if z == 0 or s == 0:
            raise InputError(f"bin={k} is larger than the images, {self.shape[1:]}", argument="bin")
        blocks = self.images[:, : z * k, : s * k].reshape(t, z, k, s, k).mean((2, 4))
        shown = None if self.shown is None else self.shown[:, : z * k].reshape(t, z, k).all(2)
        pixel_nm = None if self.pixel_nm is None else self.pixel_nm * k
        return replace(self, images=blocks, shown=shown, pixel_nm=pixel_nm, margin=-(-self.margin // k))


def empty_pixels(images: np.ndarray, shown: np.ndarray | None = None) -> np.ndarray | None:
    """True where an image (t, z, s) shows nothing, because a shift has filled it with 0; None if all show everything.

    shown: (t, z), as `TiltSeries` has it. Rows and columns of 0 at the edges of an image count, too, unless the line
    beside them has so many zeros that they may be measured: no count where there is no specimen.
    """
    rows = np.zeros(images.shape[:2], bool) if shown is None else ~shown
    columns = np.zeros((len(images), images.shape[2]), bool)
    for t, image in enumerate(images):
        there = image != 0
        if there.any() and not (there[0].any() and there[-1].any() and there[:, 0].any() and there[:, -1].any()):
            rows[t] |= _filled(there)
            columns[t] = _filled(there.T)
    if not rows.any() and not columns.any():
        return None
    return rows[:, :, None] | columns[:, None, :]


def _filled(there: np.ndarray) -> np.ndarray:
    """The rows (n,) at both edges of an image that are filled; there: (n, m), where it is not 0."""
    filled = np.zeros(len(there), bool)
    some = np.flatnonzero(there.any(1))
    zeros = np.flatnonzero(there.any(0))
    inside = there[:, zeros[0] : zeros[-1] + 1]
    for edge, beside in ((slice(None, some[0]), some[0]), (slice(some[-1] + 1, None), some[-1])):
        share = 1 - inside[beside].mean()
        filled[edge] = share ** inside.shape[1] < _BY_CHANCE
    return filled


def border_levels(images: np.ndarray, empty: np.ndarray | None = None) -> np.ndarray:
    """(t,): the level of the outer tenth at both sides of the tilt axis, of each of the images (t, z, s).

    The mean of what lies near the median (`middle_of`): of whole numbers the median jumps by
    1, and the mean of few counts is not their median. empty: (t, z, s), pixels that do not count, or None.
    """
    width = max(1, images.shape[2] // 10)
    return _levels(images, empty, columns=np.r_[0:width, images.shape[2] - width : images.shape[2]])


def border_slope(images: np.ndarray, empty: np.ndarray | None = None) -> float:
    """By how much the level beside the specimen rises from pixel to pixel across the tilt axis, in images (t, z, s).

    The median over the images, which one that a specimen reaches does not change; 0 where it is less than `_SURE` of
    its standard errors, or too few images tell it. empty: as for `border_levels`.
    """
    apart = images.shape[2] - max(1, images.shape[2] // 10)
    if len(images) < _FEWEST_TO_TELL or apart < images.shape[2] / 2:
        return 0.0
    left, right = _sides(images, empty)
    rises = right - left
    rise = float(np.median(rises))
    error = _MEDIAN_ERROR * _SPREAD_PER_MAD * float(np.median(np.abs(rises - rise))) / len(images) ** 0.5
    return rise / apart if abs(rise) > _SURE * error else 0.0


def _even(images: np.ndarray, empty: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Images (t, z, s) less the gradient of their background, about the middle; and their levels (t,)."""
    slope, n = border_slope(images, empty), images.shape[2]
    if not slope:
        return images, border_levels(images, empty)
    images = images - np.float32(slope) * (np.arange(n, dtype=np.float32) - (n - 1) / 2)
    return images, np.mean(_sides(images, empty), axis=0)  # each side has noise of its own


def _sides(images: np.ndarray, empty: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The levels (t,) of the outer tenth at the left and at the right."""
    width, n = max(1, images.shape[2] // 10), images.shape[2]
    left, right = (_levels(images, empty, columns=np.arange(start, start + width)) for start in (0, n - width))
    return left, right


def _levels(images: np.ndarray, empty: np.ndarray | None, *, columns: np.ndarray) -> np.ndarray:
    """(t,): the level of some columns of each image."""
    levels = np.zeros(len(images))
    for t, image in enumerate(images):
        some = image[:, columns] if empty is None else image[:, columns][~empty[t][:, columns]]
        levels[t] = middle_of(some.ravel()) if some.size else 0.0
    return levels


def middle_of(values: np.ndarray) -> float:
    """The mean of the values (n,) from three robust standard deviations, or steps, below their median to four above it.

    Three above are too few of few counts, of which more lie far above than below: 6 % of the mass at 4 counts. Far
    below lies what an image does not show.
    """
    values = values.astype(np.float64)
    above = values - np.median(values)
    steps = np.diff(np.unique(values))
    spread = max(_SPREAD_PER_MAD * float(np.median(np.abs(above))), float(steps.min()) if steps.size else 0.0)
    for _ in range(_ROUNDS):  # few counts scatter more than half of them tell
        kept = values[np.abs(above) <= 3 * spread]
        spread = max(spread, float(kept.std()))
    return float(values[(above >= -3 * spread) & (above <= 4 * spread)].mean())
