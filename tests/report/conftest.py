"""The folder of a run whose volumes are a ball that grows, small enough for a page in no time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dip4d.config.load import config_of, save_config
from dip4d.report.preview import MEASURED, PREDICTED, add_preview, small_movie

FRAMES, EDGE = 6, 20


def ball(radius: float) -> np.ndarray:
    """A volume (z, y, x) with a ball of intensity 1, soft by a voxel at its surface, above the middle."""
    z, y, x = np.indices((EDGE, EDGE, EDGE)) - (EDGE - 1) / 2
    return np.clip(radius - np.sqrt((z - 2) ** 2 + y**2 + x**2) + 0.5, 0, 1).astype(np.float32)


def write_run(folder: Path, *, with_truth: bool = True) -> Path:
    """Writes what a page is made from."""
    folder.mkdir(exist_ok=True)
    times = [2.0 * t for t in range(FRAMES)]
    truth = [ball(3 + 0.8 * t) for t in range(FRAMES)]
    ours = [0.9 * v for v in truth]
    movies = {"dip": small_movie(ours, times, binned=1), "sirt_window": small_movie(truth[::5], times[::5], binned=1)}
    if with_truth:
        movies["truth"] = small_movie(truth, times, binned=1)
    for name, volumes in ((MEASURED, truth), (PREDICTED, ours)):
        movies[name] = small_movie((v.sum(1) for v in volumes), times, binned=1)
    add_preview(folder, movies)
    scores = {"psnr": [30.0 + t for t in range(FRAMES)], "ssim": [0.9] * FRAMES} if with_truth else {}
    metrics = {
        "methods": {"dip": scores, "sirt_window": {k: [v[0], *[None] * 4, v[5]] for k, v in scores.items()}},
        "held_out": {"dip": 0.125, "sirt_window": 0.25},
        "held_out_images": {"dip": 0.375},
        "noise_floor": {"held_out": 0.1, "held_out_images": 0.3},
        "network": {"name": "dip", "label": "DIP-4D"},
        "verdict": {"level": "doubtful", "because": ["its mass <grows>"]},
        "residual_per_image": [1.0] * FRAMES,
        "images": list(range(FRAMES)),
        "unseen_images": [3],
        "mass": {"images": [1.0] * FRAMES, "volumes": [1.1] * FRAMES},
        "times_s": times,
        "pixel_nm": 0.5,
        "steps": 7,
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    save_config(config_of(**{"train.steps": 7, "network.motion": "never"}), folder / "config.yaml")
    (folder / "figures").mkdir(exist_ok=True)
    Image.new("L", (8, 8), 99).save(folder / "figures" / "quality.png")
    return folder


@pytest.fixture
def run_of_a_ball(tmp_path) -> Path:
    return write_run(tmp_path / "growing")
