"""Alignment refined during the fit: gradients, gauge, and a small fit of a specimen that changes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from dip4d.alignment.shifts import Shifts, apply
from dip4d.reconstruction.data import TiltRows
from dip4d.reconstruction.forward_model import Microscope
from dip4d.reconstruction.networks.low_rank import BoundedLowRank, Decoder
from dip4d.reconstruction.pose_refinement import PoseRefinement
from dip4d.reconstruction.split import Split, choose_validation_rows
from tests.helpers import displaced_alloying, error

SIZE, FRAMES = 24, 40


@pytest.fixture(scope="module")
def changing():
    """A particle that changes, displaced, and by how much."""
    return displaced_alloying(SIZE, FRAMES, 1.0, axis=0.5)[1:]


def indices(series) -> tuple[torch.Tensor, torch.Tensor]:
    """All positions z (Z,) and all images t (Z, T)."""
    frames, n_z, _ = series.shape
    return torch.arange(n_z), torch.arange(frames).expand(n_z, -1)


def test_nothing_changes_before_anything_is_learned(changing):
    series, _ = changing
    poses = PoseRefinement(series, tilt=True)
    z, t = indices(series)
    rows = poses.rows(z.float(), t)
    np.testing.assert_allclose(rows.detach(), series.images.transpose(1, 0, 2), atol=1e-3 * series.images.max())
    angles = torch.from_numpy(np.deg2rad(series.angles_deg)).float().expand(SIZE, -1)
    views = poses.views(t, angles)
    torch.testing.assert_close(views[0], angles)
    assert (views[1] == 0).all()


def test_rows_are_read_where_the_image_is_displaced_to(changing):
    series, _ = changing
    poses = PoseRefinement(series)
    with torch.no_grad():
        poses.raw_z.normal_(generator=torch.Generator().manual_seed(0)).mul_(0.3)
    z, t = indices(series)
    want = apply(series, poses.shifts().plus(s=-poses.s.detach().numpy())).images.transpose(1, 0, 2)
    rows = poses.rows(z, t).detach().numpy()
    np.testing.assert_allclose(rows[4:-4], want[4:-4], atol=1e-3 * series.images.max())


def test_what_cannot_be_known_is_never_learned(changing):
    series, _ = changing
    theta, time = np.deg2rad(series.angles_deg), series.tau
    for drift in (1, 3):
        poses = PoseRefinement(series, tilt=True, drift=drift)
        with torch.no_grad():
            poses.raw_z += torch.tensor(2 + sum(np.cos(np.pi * k * time) for k in range(drift)))
            slow = sum(np.cos(np.pi * k * time) * (3 * np.cos(theta) - np.sin(theta)) for k in range(drift))
            poses.raw_s += torch.from_numpy(slow)
            poses.raw_tilt += 5
        assert poses.z.abs().max() < 1e-4
        assert poses.s.abs().max() < 1e-4
        assert poses.tilt.abs().max() < 1e-5
        with torch.no_grad():
            poses.raw_s += 1
        assert poses.s.abs().max() > 0.1  # an offset of the axis is no position of the specimen


def test_noise_does_not_pull_rows_in_between(changing):
    """Of images of noise alone, the expected gradient along z vanishes wherever the rows are read."""
    series, _ = changing
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(200, 32, 200)).astype(np.float32)
    series = dataclasses.replace(series, images=noise, angles_deg=np.linspace(-70, 70, 200), times_s=np.arange(200.0))
    poses = PoseRefinement(series)
    with torch.no_grad():  # a quarter of a pixel, both ways: where the spline's own derivative is most biased
        poses.raw_z += torch.where(torch.arange(200) % 2 == 0, 0.25, -0.25) / 3
    rows = poses.rows(torch.arange(4, 28), torch.arange(200).expand(24, -1))
    slope = torch.autograd.grad(rows.square().mean(), poses.raw_z)[0]
    sign = torch.where(torch.arange(200) % 2 == 0, 1.0, -1.0)
    assert abs(float((slope * sign).sum())) < 0.05 * float(rows.detach().square().mean())


def fit(series, poses: PoseRefinement, steps: int) -> list[float]:
    """A small fit of a bounded low-rank network together with the poses; returns the losses."""
    torch.manual_seed(0)
    frames, n_z, bins = series.shape
    decoder = Decoder((bins, bins), 5, n_z=n_z, images=0, channels=16, octaves=3)
    network = BoundedLowRank(decoder, 5, damping=0.3, intensity_bound=1.0)
    microscope = Microscope((bins, bins), bins)
    parameters = [*network.parameters(), *(p for p in poses.parameters() if p.requires_grad)]
    optimizer = torch.optim.Adam(parameters, 5e-3, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps)
    none = choose_validation_rows((n_z, frames), 0.0, seed=0)
    data = TiltRows(series, Split(none), slices=8, steps=steps, seed=0)
    tau, peak, losses = data.tau, float(series.images.max()), []
    for _ in range(steps):
        z = torch.randperm(n_z)[:8]
        slices = network.render(network.features(z.float(), None), tau.expand(len(z), -1))
        rows, shift = poses(z, data.batch(z).rows)
        loss = 100 * ((microscope.project(slices, rows.angles, shift=shift) - rows.values) / peak).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    return losses


def test_shifts_are_recovered_while_a_network_learns_the_changing_specimen(changing):
    series, true = changing
    poses = PoseRefinement(series)
    before = error(Shifts.none(FRAMES), true, series.angles_deg)
    losses = fit(series, poses, steps=400)
    after = error(poses.shifts(), true, series.angles_deg)
    assert min(before) > 0.6
    assert max(after) < 0.25
    assert np.mean(losses[-20:]) < 0.5
