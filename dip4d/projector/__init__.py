"""The projector: parallel-beam Radon transform of slices, each at its own angles, with an exact adjoint.

>>> A = Projector(Geometry(slice_shape=(64, 64), bins=64, angles=angles))
>>> rows = A(slices)          # (B, Y, X) -> (B, n, S)
>>> A.T(rows)                 # (B, n, S) -> (B, Y, X), exactly the transpose; A.T.T is A

One operator, one backend for each device; the formula, its source and its conventions are in `reference` and
`Geometry`. Both directions are differentiable, any number of times.
"""

from dip4d.projector.geometry import Geometry
from dip4d.projector.operator import Projector

__all__ = ["Geometry", "Projector"]
