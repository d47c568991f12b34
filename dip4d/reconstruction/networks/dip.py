"""Ours: bounded low rank, drawn by a deep image prior, in the frame of a specimen that moves if it does."""

from __future__ import annotations

import math

import torch

from dip4d.reconstruction.networks.base import OrthosliceNetwork, Problem, register_network
from dip4d.reconstruction.networks.ensemble import Ensemble
from dip4d.reconstruction.networks.low_rank import BoundedLowRank, Decoder, TimeWarp, octaves_of_z
from dip4d.reconstruction.networks.moving import Moving
from dip4d.tilt_series import TiltSeries

CLOSED_SHARE = 0.02  # of the largest row sum: a specimen whose first and last row hold less ends inside of the volume
MARGIN_SHARE = 1 / 8  # of the width: so many planes are drawn beyond a volume in which it does not


@register_network("dip", label="DIP-4D", follows_motion=True)
def build(problem: Problem) -> OrthosliceNetwork:
    """The default. A specimen that moves has one material and one network, which take less time; it is shown no rows,
    for they do not lie in its frame.
    """
    count = 1 if problem.motion is not None else problem.settings.ensemble or 1
    return _one(problem) if count == 1 else Ensemble([_one(problem) for _ in range(count)])


def _one(problem: Problem) -> OrthosliceNetwork:
    """A network alone."""
    n, motion = problem.settings, problem.motion
    margin = 0 if motion is None else planes_beyond(problem.seen)
    n_z = problem.n_z + 2 * margin
    windows = n.windows if n.use_row and motion is None else 0
    octaves = octaves_of_z(n_z, n.z_detail_px)
    materials = n.materials if motion is None else 1
    rank = 1 if n.change == "never" else n.rank
    maps = materials * rank
    decoder = Decoder(problem.slice_shape, maps, n_z=n_z, images=windows, channels=n.channels, octaves=octaves)
    tau = torch.from_numpy(problem.series.tau)
    specimen = BoundedLowRank(
        decoder,
        rank,
        damping=n.damping,
        intensity_bound=problem.intensity_bound,
        time_warp=TimeWarp(tau) if n.time_warp else None,
        windows=windows,
        materials=materials,
    )
    return specimen if motion is None else Moving(specimen, motion, tau=tau, n_z=problem.n_z, margin=margin)


def planes_beyond(series: TiltSeries) -> int:
    """Planes of a moving specimen to draw at each end of the volume: none if it ends inside, along the tilt axis."""
    rows = series.images.mean((0, 2))
    ends_inside = max(rows[0], rows[-1]) < CLOSED_SHARE * rows.max()
    return 0 if ends_inside else math.ceil(series.shape[2] * MARGIN_SHARE)
