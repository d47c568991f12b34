"""What several files of tests need: whole runs, fits that are interrupted, images that are displaced."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from dip4d.__main__ import main
from dip4d.alignment.shifts import Shifts
from dip4d.reconstruction.module import DIP4D
from dip4d.simulation.schemes import SCHEMES
from dip4d.simulation.simulate import add_noise, simulate
from dip4d.tilt_geometry import remove_unobservable_shift
from dip4d.tilt_series import TiltSeries

ROOT = Path(__file__).parents[1]
AXIS_PX = 3.0  # how far the tilt axis of `random_shifts` lies from the middle


def run(folder: Path, *arguments: str) -> dict:
    """A whole run; its metrics.json."""
    assert main(["reconstruct", *arguments, f"run.dir={folder}"]) in (0, 3)
    return json.loads((folder / "metrics.json").read_text())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Those in the checkpoint of a run."""
    return torch.load(folder / "checkpoint.ckpt", weights_only=True)["state_dict"]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether two sets of weights are equal to the last bit."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


class StopNowError(Exception):
    """The plug is pulled."""


def interrupt(monkeypatch, step: int) -> None:
    """The next fit ends with an exception at this step; checkpoints are due at every look at the clock."""
    hook, pulled = DIP4D.on_train_batch_start, []

    def pull(self, *arguments):
        if self.global_step == step and not pulled:
            pulled.append(step)
            raise StopNowError
        return hook(self, *arguments)

    # a second at each look
    monkeypatch.setattr("dip4d.experiment.callbacks.time.monotonic", itertools.count().__next__)
    monkeypatch.setattr(DIP4D, "on_train_batch_start", pull)


def measured(folder: Path, images: np.ndarray, angles_deg: np.ndarray) -> str:
    """Writes images as a file of a tilt series; the argument that names it."""
    np.savez(folder / "s.npz", images=images, angles=angles_deg)
    return f"data.path={folder / 's.npz'}"


def displaced(clean: TiltSeries, shifts: Shifts, peak_counts: float, seed: int = 0) -> TiltSeries:
    """What a microscope sees whose images are displaced: shifted without noise, in a wide field, then exposed."""
    pad = 16
    wide = np.pad(clean.images, ((0, 0), (pad, pad), (pad, pad)))
    moved = [ndimage.shift(i, d) for i, d in zip(wide, zip(shifts.z, shifts.across, strict=True), strict=True)]
    images = np.clip(np.stack(moved)[:, pad:-pad, pad:-pad], 0, None)
    return dataclasses.replace(clean, images=add_noise(images.astype(np.float32), peak_counts, seed=seed))


def random_shifts(frames: int, rms: float, seed: int = 1, axis: float = AXIS_PX) -> Shifts:
    rng = np.random.default_rng(seed)
    return Shifts(rng.normal(0, rms, frames), rng.normal(0, rms, frames), axis)


def error(found: Shifts, true: Shifts, angles_deg: np.ndarray) -> tuple[float, float]:
    """Root mean square error along z and s, in pixels, up to the position of the specimen in space."""
    z, s = remove_unobservable_shift(found.z - true.z, found.across - true.across, angles_deg=angles_deg)
    return float(np.sqrt(np.mean(z**2))), float(np.sqrt(np.mean(s**2)))


def displaced_alloying(
    size: int, frames: int, rms: float, axis: float = AXIS_PX
) -> tuple[TiltSeries, TiltSeries, Shifts]:
    """A particle that changes shape and composition: its series without noise, as measured, and the shifts."""
    clean, _ = simulate("nanostar_alloying", size, frames=frames, scheme="grs", peak_counts=0, seed=0)
    shifts = random_shifts(frames, rms, axis=axis)
    return clean, displaced(clean, shifts, 500), shifts


def blobs(angles_deg: np.ndarray, size: int = 48, drift: float = 0.0, seed: int = 0) -> np.ndarray:
    """Images (t, z, s) of some Gaussian blobs, in closed form, at places that do not lie on the tilt axis."""
    rng = np.random.default_rng(seed)
    x, y, z = rng.uniform(-0.25, 0.25, (3, 5)) * size * np.array([[1.0], [0.4], [0.7]])
    widths = rng.uniform(1.5, 3, 5)
    theta = np.deg2rad(angles_deg)[:, None]
    s = x * np.cos(theta) + y * np.sin(theta) + drift * np.linspace(0, 1, len(angles_deg))[:, None]
    grid = np.arange(size) - (size - 1) / 2
    along_z = np.exp(-(((grid[:, None] - z) / widths) ** 2) / 2)  # (z, blob)
    across = np.exp(-(((grid[None, :, None] - s[:, None]) / widths) ** 2) / 2)  # (t, s, blob)
    return np.einsum("zb,tsb->tzs", along_z, across)


ORDERS = {  # of tilt angles, degrees
    "one sweep": np.linspace(-70, 70, 60),
    "scattered": SCHEMES["grs"](60, 70),
    "repeated": np.repeat(np.linspace(-70, 70, 20), 3),
}
