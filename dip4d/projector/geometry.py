"""The parallel-beam geometry that every backend of the projector shares."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Geometry:
    """How slices across the tilt axis are seen by the detector.

    Conventions (the same everywhere in dip4d): a slice is (y, x) with y along the beam at 0 degrees; a tilt by
    `angles` sends the pixel centre (x, y), counted from the middle of the slice, to the detector coordinate
    ``x cos + y sin + shift``, counted in bins from the middle of the detector. Pixels and bins have the same size.

    slice_shape: (Y, X) in pixels.
    bins: S, the width of the detector in bins; it may be narrower or wider than the slice.
    angles: tilt angles in **radians**; (n,) when all slices share them, (B, n) when each has its own.
    shift: where the rotation axis falls on the detector, in bins from its middle; anything that broadcasts to
        `angles` (an off-centre axis, or the jitter of each image).
    known_finite: angles and shift are not looked at again; on a GPU a look makes the CPU wait.

    Raises ValueError for an empty shape, a wrong number of axes or a value that is not finite.
    """

    slice_shape: tuple[int, int]
    bins: int
    angles: Tensor
    shift: Tensor | float = 0.0
    known_finite: bool = False

    def __post_init__(self) -> None:
        angles = torch.as_tensor(self.angles)
        if not angles.is_floating_point():
            angles = angles.double()
        shift = torch.as_tensor(self.shift, dtype=angles.dtype, device=angles.device)
        if angles.ndim not in (1, 2) or angles.numel() == 0:
            raise ValueError(f"angles must be (n,) or (B, n) with n > 0, got shape {tuple(angles.shape)}")
        for name, value in (("angles", angles), ("shift", shift)):
            if not self.known_finite and not bool(torch.isfinite(value).all()):
                raise ValueError(f"{name} must be finite numbers, found {value[~torch.isfinite(value)][0].item()}")
        try:
            shift = shift.expand_as(angles)
        except RuntimeError:
            raise ValueError(f"shift {tuple(shift.shape)} must broadcast to the angles {tuple(angles.shape)}") from None
        if len(self.slice_shape) != 2 or min(self.slice_shape) < 1 or self.bins < 1:
            raise ValueError(f"slice_shape must be (Y, X) and bins S, all >= 1; got {self.slice_shape}, {self.bins}")
        object.__setattr__(self, "angles", angles)
        object.__setattr__(self, "shift", shift)

    @property
    def shared(self) -> bool:
        """True when all slices have the same angles."""
        return self.angles.ndim == 1

    @property
    def n_angles(self) -> int:
        return self.angles.shape[-1]
