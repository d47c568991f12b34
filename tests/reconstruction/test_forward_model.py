"""The microscope moves rows with the shift, and its back-projections in windows show what was there then."""

from __future__ import annotations

import torch

from dip4d.reconstruction.forward_model import Microscope


def test_back_projections_in_windows_show_what_was_there_then():
    """Of a specimen that is bright in the first half and dark in the second, early windows are bright."""
    microscope = Microscope((16, 16), 16)
    truth = torch.zeros(1, 40, 16, 16)
    truth[:, :20, 5:11, 5:11] = 1
    angles = torch.linspace(-1.5, 1.5, 40).repeat(1, 1)[
        :, torch.randperm(40, generator=torch.Generator().manual_seed(0))
    ]
    rows = microscope.project(truth, angles)
    seen = microscope.back_project(rows, angles, tau=torch.linspace(0, 1, 40)[None], windows=4)[0]
    inside = seen[:, 6:10, 6:10].mean((1, 2))
    assert inside[0] > 0.6
    assert inside[-1] < 0.1
    assert seen[0, 6:10, 6:10].mean() > 4 * seen[0].abs().mean()


def test_the_microscope_moves_rows_with_the_shift():
    microscope = Microscope((16, 16), 16)
    slices = torch.zeros(1, 2, 16, 16)
    slices[..., 6:10, 7:9] = 1
    angles, shift = torch.zeros(1, 2), torch.tensor([[0.0, 2.0]])
    rows = microscope.project(slices, angles, shift=shift)
    torch.testing.assert_close(rows[0, 1, 2:], rows[0, 0, :-2])
    torch.testing.assert_close(rows[:, :1], microscope.project(slices[:, :1], angles[:, :1]))
    seen = microscope.back_project(rows, angles, tau=torch.tensor([[0.0, 1.0]]), windows=1, shift=shift)
    assert seen[0, 0].sum(0).argmax() in (7, 8)
