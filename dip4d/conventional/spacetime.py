"""Space-time total variation: all frames of a series at once, each held to its image, to its neighbours in space and to
those in time. The strongest conventional rival of a reconstruction that is drawn by a network.

x: (Z, T, Y, X), intensity per pixel, a frame for each image; unlike in `dip4d.conventional.algorithms` the slices do
influence each other.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from dip4d.conventional.algorithms import reciprocal, row_weights, sirt
from dip4d.projector import Geometry, Projector

START_ITERATIONS = 10  # of SIRT of the whole series, from which it starts
BALANCE, SPACE_STEP, TIME_STEP = 0.5, 1.0, 4.0  # of dual to primal steps: any are safe, these were found fast


def sttv_steps(
    A: Projector,
    y: Tensor,
    *,
    weight: float,
    time_weight: float,
    row_mask: Tensor | None = None,
) -> Iterator[Tensor]:
    """Least squares with total variation in space and time, one iterate at a time, for ever: to the minimiser over
    x >= 0 of ``1/2 sum_t |A_t x_t - y_t|^2 + weight sum_t TV(x_t) + time_weight sum_t |x_t+1 - x_t|_1``, with the
    isotropic TV of each volume, along z too.

    A: the operator of all images, angles (T,).
    y: (Z, T, S), rows.
    weight: of the total variation in space, >= 0, intensity.
    time_weight: of that in time, >= 0, intensity.
    row_mask: (Z, T), 0 for rows to leave out; or (Z, T, S), the weight of each squared difference.
    Yields x (Z, T, Y, X). Primal-dual as `dip4d.conventional.algorithms.tv_steps`. Raises ValueError for a negative
    weight. Source of the model: Ritschl et al., Phys. Med. Biol. 57:1517, 2012.
    """
    if not min(weight, time_weight) >= 0:
        raise ValueError(f"weights of the total variation must be >= 0, got {weight} and {time_weight}")
    each = frames_operator(A, len(y))
    project = lambda x: each(x.flatten(0, 1)).view(y.shape)
    use, balance = row_weights(y, row_mask), BALANCE * max(A.domain_shape) ** 0.5
    now = sirt(A, y, START_ITERATIONS, row_mask=row_mask)[:, None].repeat(1, y.shape[1], 1, 1)
    back_project = lambda rows: each.T(rows.flatten(0, 1)[:, None]).view(now.shape)
    row_step = balance * reciprocal(project(torch.ones_like(now)))
    step = 1 / (balance * (back_project((use > 0).to(y).expand(y.shape)) + 6 * SPACE_STEP + 2 * TIME_STEP))
    shrink = use * reciprocal(use + row_step)
    ahead, residual = now, torch.zeros_like(y)
    edges, changes = now.new_zeros(3, *now.shape), now.new_zeros(now[:, 1:].shape)
    while True:
        residual = shrink * (residual + row_step * (project(ahead) - y))
        _add_gradient(ahead, edges, step=SPACE_STEP * balance / 2)
        length = (edges[0].square() + edges[1].square() + edges[2].square()).sqrt_()
        edges *= weight / length.clamp_(min=max(weight, torch.finfo(y.dtype).tiny))
        changes.add_(ahead.diff(dim=1), alpha=TIME_STEP * balance / 2).clamp_(-time_weight, time_weight)
        slope = back_project(residual)
        _add_transposed(edges, changes, onto=slope)
        before, now = now, (now - step * slope).clamp_(min=0)
        ahead = 2 * now - before
        yield now


def frames_operator(A: Projector, n_z: int) -> Projector:
    """The operator of frames (n_z T, Y, X), each seen at the one angle of its image, to rows (n_z T, 1, S)."""
    angles = A.geometry.angles
    return Projector(Geometry(A.domain_shape, A.geometry.bins, angles.repeat(n_z)[:, None], known_finite=True))


def frame_rows(A: Projector, x: Tensor) -> Tensor:
    """The rows (Z, T, S) of frames x (Z, T, Y, X), each at the angle of its image; A: angles (T,)."""
    return frames_operator(A, len(x))(x.flatten(0, 1)).view(*x.shape[:2], -1)


def _add_gradient(x: Tensor, onto: Tensor, *, step: float) -> None:
    """Adds `step` times the differences of x (Z, T, Y, X) to the next along z, y and x to (3, Z, T, Y, X)."""
    onto[0, :-1].add_(x.diff(dim=0), alpha=step)
    onto[1, :, :, :-1].add_(x.diff(dim=2), alpha=step)
    onto[2, ..., :-1].add_(x.diff(dim=3), alpha=step)


def _add_transposed(edges: Tensor, changes: Tensor, *, onto: Tensor) -> None:
    """Adds the transposes of the differences in space (3, Z, T, Y, X) and in time (Z, T - 1, Y, X) to (Z, T, Y, X)."""
    z, y, x = edges[0, :-1], edges[1, :, :, :-1], edges[2, ..., :-1]
    onto[1:] += z
    onto[:-1] -= z
    onto[:, :, 1:] += y
    onto[:, :, :-1] -= y
    onto[..., 1:] += x
    onto[..., :-1] -= x
    onto[:, 1:] += changes
    onto[:, :-1] -= changes
