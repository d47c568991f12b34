"""The networks of other groups: what they promise."""

from __future__ import annotations

import pytest
import torch

from dip4d.reconstruction.networks.published import TDDIP, Dipster

TAU, ANGLES = torch.linspace(0, 1, 6), torch.linspace(-1, 1, 6)


def dipster(shape=(16, 16), **keys) -> Dipster:
    torch.manual_seed(0)
    return Dipster(shape, n_z=12, tau=TAU, angles=ANGLES, intensity_bound=1.0, **keys)


@pytest.mark.parametrize("shape", [(16, 16), (48, 48), (20, 37)])
def test_they_draw_any_shape(shape):
    for net in (dipster(shape), TDDIP(shape, n_z=12, intensity_bound=1.0)):
        slices = net.render(net.features(torch.tensor([0.0, 4.0]), None), torch.rand(2, 3))
        assert slices.shape == (2, 3, *shape)
        assert slices.std() > 0


def test_dipster_sees_the_angle_of_each_image_in_training_and_one_view_afterwards():
    z, between = torch.tensor([3.0]), torch.tensor([[0.18, 0.22, 0.28]])  # the nearest image of all is the second
    free = dipster(view=None).eval()
    fixed = dipster(view=float(ANGLES[1])).eval()
    torch.testing.assert_close(
        free.render(free.features(z, None), between), fixed.render(fixed.features(z, None), between)
    )
    elsewhere = dipster(view=0.9).eval()
    assert not torch.allclose(
        free.render(free.features(z, None), between), elsewhere.render(elsewhere.features(z, None), between)
    )
    own, other = dipster(view=0.9).train(), dipster(view=None).train()
    torch.testing.assert_close(
        own.render(own.features(z, None), between), other.render(other.features(z, None), between)
    )
