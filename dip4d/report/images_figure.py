"""Images beside what the movie predicts of them: those that nothing has seen first."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dip4d.report.arrays import read_arrays
from dip4d.report.style import Look, new_figure, save_figure
from dip4d.run_folder import FIGURES, IMAGES

WIDTH, FLATTEST = 2.3, 0.5  # inches of an image, and its least height
SIGMAS = 3.0  # rms of all differences, that are drawn black and white


def read_images(run: Path) -> dict[str, np.ndarray]:
    """images.npz of a run: `frames` (n,), `unseen` (n,), True of test images, `measured` and `predicted` (n, z, s).

    Empty where a run has none. Raises InputError.
    """
    path = run / IMAGES
    if not path.exists():
        return {}
    return read_arrays(path, needed=("frames", "unseen", "measured", "predicted"))


def draw_images(run: Path, metrics: dict, *, look: Look) -> list[Path]:
    """A column for each image: measured, predicted and their difference, into the figures of a run."""
    images = read_images(run)
    if not images:
        return []
    measured, predicted, numbers = images["measured"], images["predicted"], metrics["images"]
    difference = measured - predicted
    spread = SIGMAS * float(np.sqrt((difference**2).mean())) or 1.0
    rows, columns = measured.shape[1:]
    height = min(max(WIDTH * rows / columns, FLATTEST), 2 * WIDTH)
    figure = new_figure(WIDTH * len(measured) + 2.0, 3 * height + 0.8)
    axes = figure.subplots(3, len(measured), squeeze=False)
    scale = {"cmap": look.cmap, "vmin": min(0.0, float(measured.min())), "vmax": float(measured.max())}
    lines = {
        "measured": (measured, scale),
        "predicted": (predicted, scale),
        "difference": (difference, {"cmap": "RdBu", "vmin": -spread, "vmax": spread}),
    }
    for line, (words, (pictures, how)) in zip(axes, lines.items(), strict=True):
        for axis, picture in zip(line, pictures, strict=True):
            drawn = axis.imshow(picture, interpolation="nearest", **how)
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(words, fontsize=9, rotation=0, ha="right", va="center")
        figure.colorbar(drawn, ax=line, pad=0.01, aspect=10).ax.tick_params(labelsize=7)
    for axis, frame, unseen in zip(axes[0], images["frames"], images["unseen"], strict=True):
        told = "test image, not fitted" if unseen else "fitted"
        axis.set_title(f"image {numbers[frame]}, {metrics['times_s'][frame]:g} s\n{told}", fontsize=8)
    figure.supxlabel("s across the tilt axis, to the right; z along it, downwards", fontsize=8)
    return save_figure(figure, run / FIGURES / "images.png", look=look)
