"""`Projector`: the operator with a transpose that hides which backend does the work."""

from __future__ import annotations

import warnings
from functools import cache, cached_property
from typing import cast

import torch
from torch import Tensor

from dip4d.projector import reference
from dip4d.projector.geometry import Geometry


def _backend(x: Tensor):
    """The module whose functions serve this tensor: numba for float32 on the CPU, Triton for anything but float64 on
    CUDA, else plain torch.
    """
    if triton_serves(x):
        from dip4d.projector import cuda

        return cuda
    if x.device.type == "cpu" and x.dtype == torch.float32:
        from dip4d.projector import cpu

        return cpu
    return reference


def triton_serves(x: Tensor) -> bool:
    """Whether kernels in Triton can work on this tensor."""
    return x.is_cuda and x.dtype in (torch.float32, torch.bfloat16, torch.float16) and _has_triton()


@cache
def _has_triton() -> bool:
    try:
        import triton  # noqa: F401
    except ImportError:
        warnings.warn("CUDA without Triton: the projector runs in plain torch, and slower", stacklevel=2)
        return False
    return True


class Projector:
    """Sums slices along the beam at the angles of a `Geometry`.

    ``A(x)``: x (B, Y, X), intensity per pixel, to rows (B, n, S), intensity. ``A.T(y)``: the exact transpose.
    When the geometry has own angles, B must be theirs. Differentiable in its argument, twice and more, and in the
    angles and the shift of the geometry, where these require a gradient.
    float32 on the CPU is fast; any other precision or device runs the reference. Raises ValueError for a tensor of the
    wrong shape.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry

    @property
    def domain_shape(self) -> tuple[int, int]:
        """(Y, X) of a slice."""
        ny, nx = self.geometry.slice_shape
        return ny, nx

    @property
    def range_shape(self) -> tuple[int, int]:
        """(n, S) of its projections."""
        return self.geometry.n_angles, self.geometry.bins

    @cached_property
    def T(self) -> _Transpose:
        return _Transpose(self)

    def __call__(self, x: Tensor) -> Tensor:
        self._check(x, self.domain_shape, "slices (B, Y, X)")
        return _Project.apply(x, self.geometry.angles, self.geometry.shift, self)

    def _check(self, tensor: Tensor, tail: tuple[int, int], what: str) -> None:
        own = None if self.geometry.shared else len(self.geometry.angles)
        if tensor.ndim != 3 or tuple(tensor.shape[1:]) != tail or own not in (None, len(tensor)):
            want = ("B" if own is None else own, *tail)
            raise ValueError(f"expected {what} of shape {want}, got {tuple(tensor.shape)}")

    def _forward(self, x: Tensor) -> Tensor:
        return _backend(x).forward(x, *self._views(x), self.geometry.bins)

    def _adjoint(self, y: Tensor) -> Tensor:
        return _backend(y).adjoint(y, *self._views(y), self.domain_shape)

    def _views(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Angles and shift where `like` is; Apple's MPS has no float64."""
        dtype = torch.float32 if like.device.type == "mps" else None
        angles, shift = self.geometry.angles, cast(Tensor, self.geometry.shift)  # `Geometry` makes it one
        return angles.detach().to(like.device, dtype), shift.detach().to(like.device, dtype)

    def _geometry_gradient(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The derivatives of <A x, y> by the angles and by the shift; both of their shape."""
        own = [v.expand(len(x), -1) for v in self._views(x)]
        found = _backend(x).geometry_gradient(x.detach(), y.detach(), *own)
        by_angle, by_shift = (v.to(self.geometry.angles) for v in found)
        return (by_angle.sum(0), by_shift.sum(0)) if self.geometry.shared else (by_angle, by_shift)


class _Transpose:
    """``A.T``: back-projects rows (B, n, S) to slices (B, Y, X)."""

    def __init__(self, operator: Projector) -> None:
        self.T = operator
        self.geometry = operator.geometry
        self.domain_shape, self.range_shape = operator.range_shape, operator.domain_shape

    def __call__(self, y: Tensor) -> Tensor:
        self.T._check(y, self.domain_shape, "rows (B, n, S)")
        return _BackProject.apply(y, self.geometry.angles, self.geometry.shift, self.T)


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, angles: Tensor, shift: Tensor, operator: Projector) -> Tensor:
        ctx.operator = operator
        ctx.save_for_backward(*([x] if any(ctx.needs_input_grad[1:3]) else []), angles, shift)
        return operator._forward(x)

    @staticmethod
    def backward(ctx, grad: Tensor):
        *x, angles, shift = ctx.saved_tensors
        of_geometry = ctx.operator._geometry_gradient(*x, grad) if x else (None, None)
        return _BackProject.apply(grad, angles, shift, ctx.operator), *of_geometry, None


class _BackProject(torch.autograd.Function):
    @staticmethod
    def forward(ctx, y: Tensor, angles: Tensor, shift: Tensor, operator: Projector) -> Tensor:
        ctx.operator = operator
        ctx.save_for_backward(*([y] if any(ctx.needs_input_grad[1:3]) else []), angles, shift)
        return operator._adjoint(y)

    @staticmethod
    def backward(ctx, grad: Tensor):
        *y, angles, shift = ctx.saved_tensors
        of_geometry = ctx.operator._geometry_gradient(grad, *y) if y else (None, None)
        return _Project.apply(grad, angles, shift, ctx.operator), *of_geometry, None
