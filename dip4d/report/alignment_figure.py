"""The figure of an alignment: sinograms, centres of mass, shifts and residuals, before and after."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from dip4d.alignment.shifts import Shifts
from dip4d.measures.consistency import centre_of_mass
from dip4d.report.style import AFTER, BEFORE, new_figure, save_figure
from dip4d.tilt_series import TiltSeries

_BEFORE, _AFTER = {"color": BEFORE, "linewidth": 1}, {"color": AFTER, "linewidth": 1.4}


def draw_alignment(
    before: TiltSeries,
    after: TiltSeries,
    *,
    path: Path,
    shifts: Shifts,
    report: dict,
) -> Path:
    """Draws an alignment to `path`; the arguments are what `dip4d.alignment.align.align` took and gave."""
    figure = new_figure(16, 7)
    axes = figure.subplots(2, 4)
    row = int(np.median(after.images, axis=0).sum(1).argmax())
    for (left, right), series, word in ((axes[0, :2], before, "before"), (axes[1, :2], after, "after")):
        _draw_sinogram(left, series, row=row, title=f"row z = {row}, {word}")
        _draw_profiles(right, series, title=f"sums over s, {word}")
    _draw_centres(axes[0, 2], before, after=after)
    _draw_shifts(axes[1, 2], shifts)
    _draw_mean(axes[0, 3], after)
    _draw_residuals(axes[1, 3], report)
    save_figure(figure, path)
    return path


def _draw_sinogram(axis: Axes, series: TiltSeries, *, row: int, title: str) -> None:
    order = np.argsort(series.angles_deg, kind="stable")
    axis.imshow(series.images[order, row], aspect="auto", cmap="inferno", interpolation="nearest")
    axis.set(title=title, xlabel="s (px)", ylabel="image, by tilt angle")


def _draw_profiles(axis: Axes, series: TiltSeries, *, title: str) -> None:
    axis.imshow(series.images.sum(2), aspect="auto", cmap="inferno", interpolation="nearest")
    axis.set(title=title, xlabel="z (px)", ylabel="image, by time")


def _draw_centres(axis: Axes, before: TiltSeries, *, after: TiltSeries) -> None:
    for series, style, word in ((before, _BEFORE, "before"), (after, _AFTER, "after")):
        order = np.argsort(series.angles_deg, kind="stable")
        axis.plot(series.angles_deg[order], centre_of_mass(series.images.sum(1))[order], label=word, **style)
    axis.set(title="centre of mass, across", xlabel="tilt angle (deg)", ylabel="s (px from the middle)")
    axis.legend(frameon=False)


def _draw_shifts(axis: Axes, shifts: Shifts) -> None:
    axis.plot(shifts.z - shifts.z.mean(), label="z", color="#003049", linewidth=1)
    axis.plot(shifts.s, label="s", color="#e09f3e", linewidth=1)
    title = f"axis {shifts.axis:+.2f} px, {shifts.rotation_deg:+.2f} deg; the rest:"
    axis.set(title=title, xlabel="image, by time", ylabel="px")
    axis.legend(frameon=False)


def _draw_mean(axis: Axes, after: TiltSeries) -> None:
    axis.imshow(after.images.mean(0), cmap="inferno", interpolation="nearest")
    axis.axvline((after.shape[2] - 1) / 2, color="white", linewidth=0.6, linestyle="--")
    axis.set(title="mean, aligned; tilt axis", xlabel="s (px)", ylabel="z (px)")


def _draw_residuals(axis: Axes, report: dict) -> None:
    for key, style, word in (
        ("left_out_residual_coarse", _BEFORE, "coarse"),
        ("left_out_residual_after", _AFTER, "matched"),
    ):
        if key in report:
            axis.plot(report[key], label=word, **style)
    for image in report.get("suspect_images", []):
        axis.axvline(image, color=AFTER, alpha=0.25)
    axis.set(
        title=f"SIRT residual {report['sirt_residual_before']:.3f} to {report['sirt_residual_after']:.3f}",
        xlabel="image, by time",
        ylabel="misfit of left-out images",
    )
    axis.set_ylim(bottom=0)
    if axis.lines:
        axis.legend(frameon=False)
