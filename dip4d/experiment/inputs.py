"""What a configuration asks to reconstruct: a tilt series, measured or simulated, and the truth where there is one."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from dip4d import io
from dip4d.alignment.align import aligned_if_better
from dip4d.alignment.row_profiles import JITTER_TO_ALIGN_PX, jitter_px
from dip4d.alignment.shifts import Shifts, apply
from dip4d.config.schema import Align, Config
from dip4d.measures import input_checks
from dip4d.simulation.simulate import simulate
from dip4d.tilt_series import TiltSeries

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Inputs:
    """series: less its background, and aligned. truth: (t, z, y, x), or None. shifts: found by aligning it, or None."""

    series: TiltSeries
    truth: np.ndarray | None
    shifts: Shifts | None = None


def load_inputs(config: Config) -> Inputs:
    """The series of the configuration, aligned if its images jump; says what was understood. Raises InputError."""
    series, truth = load_data(config)
    _log.info(series.describe(config.data.tilt_axis))
    series, shifts = align_if_jittery(series, config.align)
    if config.output.times is not None:
        series.tau_at(config.output.times)  # refused before hours of work
    return Inputs(series, truth, shifts)


def load_data(config: Config) -> tuple[TiltSeries, np.ndarray | None]:
    """The tilt series of the configuration, measured or simulated, and the truth where there is one."""
    series, truth = _measured(config) if config.data.path else _simulated(config)
    if config.data.exclude:
        series = series.without_images(config.data.exclude)
        truth = None if truth is None else np.delete(truth, config.data.exclude, axis=0)
    return series, truth


def _simulated(config: Config) -> tuple[TiltSeries, np.ndarray]:
    series, truth = simulate(**vars(config.simulate), seed=config.run.seed)
    return _shifted(config, series), truth


def _shifted(config: Config, series: TiltSeries) -> TiltSeries:
    """The series as `align.shifts` says that its images lie."""
    return series if config.align.shifts is None else apply(series, Shifts.load(config.align.shifts))


def _measured(config: Config) -> tuple[TiltSeries, np.ndarray | None]:
    data = config.data
    assert data.path is not None
    series = io.read_tilt_series(data.path, data.angles, tilt_axis=data.tilt_axis, pixel_nm=data.pixel_nm)
    advice = input_checks.advice(series, data.exclude, key="data.exclude")
    if advice:
        _log.warning(advice)
    background = data.background
    if config.align.shifts is not None:  # what an image did not see is then filled with the background
        series, background = _shifted(config, series.without_background(background)), "none"
    if data.crop is not None:
        z0, z1, s0, s1 = data.crop
        series = series.cropped((z0, z1, s0, s1))
    series = series.binned(data.bin).without_background(background)
    t, z, s = series.shape
    truth = None if data.truth is None else io.read_truth(data.truth, (t, z, s, s))
    return series, truth


def align_if_jittery(series: TiltSeries, align: Align) -> tuple[TiltSeries, Shifts | None]:
    """The series, aligned if its images jump from one to the next, and the shifts; None if it stays as it is."""
    if not align.automatic or align.refine or align.shifts is not None:
        return series, None
    size = jitter_px(series)
    if size < JITTER_TO_ALIGN_PX:
        return series, None
    _log.info(f"The images jump by {size:.2f} px along the tilt axis from one to the next: aligning them")
    found = aligned_if_better(series, lambda line: _log.info(f"  {line}"))
    if found is None:
        _log.warning("SIRT does not fit them better then, they stay as they are; dip4d align shows them")
        return series, None
    return found
