"""The direction of the tilt axis, from a specimen that is long along it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dip4d.alignment.residual import common_rows
from dip4d.alignment.shifts import Shifts, apply
from dip4d.alignment.tilt_axis import axis_rotation


def test_rotation_of_the_tilt_axis_from_a_long_specimen(changing):
    clean = changing[0]
    long = dataclasses.replace(clean, images=np.repeat(clean.images, 2, axis=1))
    turned = apply(long, Shifts(np.zeros(48), np.zeros(48), rotation_deg=-3.0))
    line = axis_rotation(turned, common_rows(turned, Shifts.none(48)))
    assert line.rotation_deg == pytest.approx(3.0, abs=0.5)
    assert line.error_deg < 1
