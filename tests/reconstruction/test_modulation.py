"""Normalisation, modulation and activation in one are those of plain torch, and so are all their gradients."""

from __future__ import annotations

import pytest
import torch

from dip4d.reconstruction import modulation
from dip4d.reconstruction.modulation import normalised_modulated_silu
from tests.interpreted import DEVICE, interpreted

WITH_TRITON = pytest.param(True, marks=pytest.mark.skipif(not interpreted(), reason="Triton cannot run here"))


@pytest.mark.parametrize("triton", [False, WITH_TRITON])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("shape", "groups"), [((2, 16, 5, 7), 8), ((3, 8, 1, 2), 4), ((2, 6, 40, 33), 2)])
def test_it_is_plain_torch_in_float64_and_so_are_its_gradients(shape, groups, layout, triton, generator, monkeypatch):
    monkeypatch.setattr(modulation, "triton_serves", lambda x: triton and x.dtype == torch.float32)
    draw = lambda *size: torch.randn(size, generator=generator)
    b, c = shape[:2]
    x = (3 * draw(*shape) + 2).contiguous(memory_format=layout)
    device = DEVICE if triton else "cpu"
    parts = [p.to(device) for p in (x, draw(c) + 1, draw(c), 0.5 * draw(b, c), draw(b, c))]
    weights = draw(*shape).to(device)
    results = []
    for kind in (torch.float32, torch.float64):
        inputs = [p.detach().to(kind).requires_grad_() for p in parts]
        x, weight, bias, gain, offset = inputs
        out = normalised_modulated_silu(x, weight, bias=bias, gain=gain, offset=offset, groups=groups)
        (out * weights.to(kind)).sum().backward()
        assert not (triton and kind == torch.float32) or out.is_contiguous(memory_format=torch.channels_last)
        results.append([out.detach(), *(p.grad for p in inputs)])
    for found, wanted in zip(*results, strict=True):
        size = float(wanted.abs().max())
        torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=3e-6 * max(size, 1.0))


def test_large_values_neither_overflow_nor_vanish():
    x = torch.tensor([-1e4, -50.0, 0.0, 50.0, 1e4]).view(1, 1, 1, 5)
    out = normalised_modulated_silu(
        x, torch.full((1,), 100.0), bias=torch.zeros(1), gain=torch.zeros(1, 1), offset=torch.zeros(1, 1), groups=1
    )
    assert torch.isfinite(out).all()
    assert out[..., -1] == pytest.approx(100 * 1e4 / float(x.std(unbiased=False)), rel=1e-4)
    assert out[..., 0].abs() < 1e-3
