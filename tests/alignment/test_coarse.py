"""The coarse alignment, by centres of mass, of a specimen that changes; and the brightness of the images."""

from __future__ import annotations

import dataclasses

import numpy as np

from dip4d.alignment.coarse import by_mass, coarse, lies_inside, normalised
from dip4d.alignment.shifts import Shifts, apply
from tests.helpers import error


def test_images_are_brought_to_one_brightness(changing):
    gains = np.linspace(0.5, 2, 48).astype(np.float32)
    gains[7] = 0
    series = dataclasses.replace(changing[0], images=changing[0].images * gains[:, None, None])
    even, factors = normalised(series)
    means = even.images.mean((1, 2))
    assert factors[7] == 1
    np.testing.assert_allclose(np.delete(means, 7), np.median(series.images.mean((1, 2))), rtol=1e-4)


def test_the_centre_of_mass_does_not_need_a_static_specimen(changing):
    clean, measured, true = changing
    assert lies_inside(clean, 1)
    assert lies_inside(clean, 2)
    found = Shifts(by_mass(measured, 1), by_mass(measured, 2))
    assert max(error(found, true, clean.angles_deg)) < 0.25
    assert max(error(Shifts.none(48), true, clean.angles_deg)) > 1.5


def test_the_rotation_of_a_round_specimen_is_not_guessed(changing):
    turned = apply(changing[0], Shifts(np.zeros(48), np.zeros(48), rotation_deg=-3.0))
    found, _ = coarse(turned)
    assert found.rotation_deg == 0
    given, _ = coarse(turned, rotation_deg=3.0)
    assert given.rotation_deg == 3.0
    assert np.abs(given.across).max() < 0.3
