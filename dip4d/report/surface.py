"""A surface of equal intensity, seen from a distance: rays through a volume, shaded where they meet it."""

from __future__ import annotations

import numba
import numpy as np

TIP_DEG = 22.0  # from which a volume is seen above the equator
_STEP, _HALVINGS = 0.7, 6  # voxels from one sample of a ray to the next; how often the last step is halved
_REACH = 1.2  # voxels from a place to where its slope is looked for
_jit = numba.njit(nogil=True, cache=True)
_LIGHTS = np.array([[-0.45, 0.7, 0.6, 0.62], [0.6, -0.1, 0.7, 0.2]])  # right, up, towards the eye; strength


def surface_picture(
    volume: np.ndarray,
    level: float,
    *,
    turn_deg: float,
    reach: float,
    edge: int,
) -> np.ndarray:
    """A picture (edge, edge) of a surface: its brightness, 0..1; NaN beside it.

    volume: (z, y, x); z points upwards, and y, the beam, away from the eye at turn 0.
    level: the intensity of the surface.
    turn_deg: how far the volume is turned about z, degrees.
    reach: half the edge of the picture, voxels.
    """
    inside = np.argwhere(volume > level)
    if not len(inside):
        return np.full((edge, edge), np.nan)
    turn, tip = np.deg2rad(turn_deg), np.deg2rad(TIP_DEG)
    right = np.array([0.0, np.sin(turn), np.cos(turn)])  # z, y, x
    ahead = np.array([-np.sin(tip), np.cos(tip) * np.cos(turn), -np.cos(tip) * np.sin(turn)])
    up = np.array([np.cos(tip), np.sin(tip) * np.cos(turn), -np.sin(tip) * np.sin(turn)])
    last = np.array(volume.shape) - 1.0
    box = np.stack([np.maximum(inside.min(0) - 1.0, 0.0), np.minimum(inside.max(0) + 1.0, last)])
    picture = np.empty((2 * edge, 2 * edge))
    eye = np.stack([right, up, ahead])
    _march(np.ascontiguousarray(volume, np.float32), float(level), box, eye, last / 2, float(reach), _LIGHTS, picture)
    four = picture.reshape(edge, 2, edge, 2)
    hit = np.isfinite(four)
    share = hit.mean((1, 3))
    with np.errstate(invalid="ignore"):
        bright = np.where(hit, four, 0).sum((1, 3)) / hit.sum((1, 3))
    return np.where(share > 0, share * bright + (1 - share), np.nan)  # white shines through at the outline


@_jit
def _march(volume, level, box, eye, middle, reach, lights, out):  # pragma: no cover  # compiled
    """Fills `out` (rows, columns) with the brightness of the surface at every pixel, NaN where there is none."""
    rows, columns = out.shape
    right, up, ahead = eye[0], eye[1], eye[2]
    dz, dy, dx = ahead[0], ahead[1], ahead[2]
    for row in range(rows):
        for column in range(columns):
            across = (2 * (column + 0.5) / columns - 1) * reach
            above = (1 - 2 * (row + 0.5) / rows) * reach
            z = middle[0] + across * right[0] + above * up[0]
            y = middle[1] + across * right[1] + above * up[1]
            x = middle[2] + across * right[2] + above * up[2]
            near, far = -1e9, 1e9
            for a in range(3):
                slope = ahead[a] if abs(ahead[a]) > 1e-9 else 1e-9
                start = z if a == 0 else y if a == 1 else x
                one, other = (box[0, a] - start) / slope, (box[1, a] - start) / slope
                near, far = max(near, min(one, other)), min(far, max(one, other))
            t, found = near, near < far and _at(volume, z + near * dz, y + near * dy, x + near * dx) > level
            while not found and t < far:
                t = min(t + _STEP, far)
                found = _at(volume, z + t * dz, y + t * dy, x + t * dx) > level
            out[row, column] = np.nan
            if found:
                low, high = max(t - _STEP, near), t
                for _ in range(_HALVINGS):
                    half = 0.5 * (low + high)
                    if _at(volume, z + half * dz, y + half * dy, x + half * dx) > level:
                        high = half
                    else:
                        low = half
                out[row, column] = _brightness(volume, z + high * dz, y + high * dy, x + high * dx, eye, lights)


@_jit
def _brightness(volume, z, y, x, eye, lights):  # pragma: no cover  # compiled
    """Of the surface at a place, voxels: light from two sides, and darker where it turns away."""
    slope_z = _at(volume, z - _REACH, y, x) - _at(volume, z + _REACH, y, x)
    slope_y = _at(volume, z, y - _REACH, x) - _at(volume, z, y + _REACH, x)
    slope_x = _at(volume, z, y, x - _REACH) - _at(volume, z, y, x + _REACH)
    steepness = max(np.sqrt(slope_z**2 + slope_y**2 + slope_x**2), 1e-12)
    right = (slope_z * eye[0, 0] + slope_y * eye[0, 1] + slope_x * eye[0, 2]) / steepness
    up = (slope_z * eye[1, 0] + slope_y * eye[1, 1] + slope_x * eye[1, 2]) / steepness
    ahead = (slope_z * eye[2, 0] + slope_y * eye[2, 1] + slope_x * eye[2, 2]) / steepness
    bright = 0.2 - 0.1 * (1 - abs(ahead)) ** 3
    for light in lights:
        length = np.sqrt(light[0] ** 2 + light[1] ** 2 + light[2] ** 2)
        bright += light[3] * max((right * light[0] + up * light[1] - ahead * light[2]) / length, 0.0)
    return min(max(bright, 0.0), 1.0)


@_jit
def _at(volume, z, y, x):  # pragma: no cover  # compiled
    """The intensity at a place, voxels, between eight of them; at the border that of the border."""
    i, j, k = int(np.floor(z)), int(np.floor(y)), int(np.floor(x))
    fz, fy, fx = z - i, y - j, x - k
    i0, i1 = min(max(i, 0), volume.shape[0] - 1), min(max(i + 1, 0), volume.shape[0] - 1)
    j0, j1 = min(max(j, 0), volume.shape[1] - 1), min(max(j + 1, 0), volume.shape[1] - 1)
    k0, k1 = min(max(k, 0), volume.shape[2] - 1), min(max(k + 1, 0), volume.shape[2] - 1)
    below = (volume[i0, j0, k0] * (1 - fx) + volume[i0, j0, k1] * fx) * (1 - fy)
    below += (volume[i0, j1, k0] * (1 - fx) + volume[i0, j1, k1] * fx) * fy
    above = (volume[i1, j0, k0] * (1 - fx) + volume[i1, j0, k1] * fx) * (1 - fy)
    above += (volume[i1, j1, k0] * (1 - fx) + volume[i1, j1, k1] * fx) * fy
    return below * (1 - fz) + above * fz
