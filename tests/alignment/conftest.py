"""The specimen that most tests of the alignment look at."""

from __future__ import annotations

import pytest

from dip4d.alignment.shifts import Shifts
from dip4d.tilt_series import TiltSeries
from tests.helpers import displaced_alloying


@pytest.fixture(scope="session")
def changing() -> tuple[TiltSeries, TiltSeries, Shifts]:
    """A particle that changes: its series without noise, as measured, and the shifts."""
    return displaced_alloying(32, 48, 2.0)
