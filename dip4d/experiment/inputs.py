"""What a configuration asks to reconstruct: a tilt series, measured or simulated, and the truth where there is one."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import lightning as L
import numpy as np

from dip4d import io
from dip4d.alignment.align import aligned_if_better
from dip4d.alignment.row_profiles import JITTER_TO_ALIGN_PX, jitter_px
from dip4d.alignment.shifts import Shifts, apply
from dip4d.config.schema import Align, Camera, Config
from dip4d.errors import InputError
from dip4d.measures.background import border_advice, margin_of
from dip4d.measures.contrast import contrast_advice
from dip4d.measures.suspects import suspects_advice
from dip4d.reconstruction.fit import check_series
from dip4d.reconstruction.split import Split, choose_split
from dip4d.simulation.schemes import SCHEMES
from dip4d.simulation.simulate import FrozenImages, frozen_images, simulate
from dip4d.tilt_series import TiltSeries

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Inputs:
    """series: less its background, and aligned. truth: (t, z, y, x), or None. shifts: found by aligning it, or None."""

    series: TiltSeries
    truth: np.ndarray | None
    shifts: Shifts | None = None


def inputs_of(
    config: Config,
    loaded: tuple[TiltSeries, np.ndarray | None],
    *,
    seconds: float = math.inf,
    saved: dict | None = None,
) -> Inputs:
    """The series of the configuration, aligned if its images jump; says what was understood. Raises InputError.

    loaded: as by `load_data`.
    seconds: about how long the alignment may take.
    saved: the checkpoint of the fit to go on with: its images lie where they were found then.
    """
    series, truth = loaded
    _log.info(series.describe())
    if config.output.times is not None:
        series.tau_at(config.output.times)  # refused before hours of work
    if saved is None:
        test_images = split_of(config, series).test_images
        series, shifts = align_if_jittery(series, config.align, test_images=test_images, seconds=seconds)
    elif (shifts := Alignment.of(saved)) is not None:
        series = apply(series, shifts)
    return Inputs(series, truth, shifts)


class Alignment(L.Callback):
    """Keeps in the checkpoints of a fit where the images were found to lie; None if they stayed as they were.

    A limited time would have them found elsewhere the next time.
    """

    def __init__(self, shifts: Shifts | None = None) -> None:
        self.shifts = shifts

    def state_dict(self) -> dict:
        if self.shifts is None:
            return {"shifts": None}
        return {"shifts": {name: np.asarray(value).tolist() for name, value in vars(self.shifts).items()}}

    @classmethod
    def of(cls, saved: dict) -> Shifts | None:
        """What a checkpoint keeps of it."""
        kept = saved["callbacks"].get(cls.__qualname__, {})
        return Shifts(**shifts) if (shifts := kept.get("shifts")) else None


def outline(config: Config) -> TiltSeries:
    """What the series to simulate will be but for its images, which are all alike: it takes no time."""
    s = config.simulate
    images = np.ones((s.frames, s.n_z or s.size, s.size), np.float32)
    images[..., 0] = 0  # they are not blank
    angles = SCHEMES[s.scheme](s.frames, s.max_angle, sweeps=s.sweeps)
    return TiltSeries(images, angles, margin=config.data.margin_px or 0).without_images(config.data.exclude)


def split_of(config: Config, series: TiltSeries) -> Split:
    """What of the series is kept aside. With align.refine no image: it has to be seen to be placed."""
    data = config.data
    return choose_split(
        series,
        data.validation_rows,
        test_images=0.0 if config.align.refine else data.test_images,
        in_a_row=data.test_images_in_a_row,
        seed=config.run.seed,
    )


def load_data(config: Config) -> tuple[TiltSeries, np.ndarray | None]:
    """The tilt series of the configuration, measured or simulated, and the truth where there is one.

    Raises InputError for what cannot be reconstructed (`check_series`).
    """
    series, truth = _measured(config) if config.data.path else _simulated(config)
    if config.data.exclude:
        series = series.without_images(config.data.exclude)
        truth = None if truth is None else np.delete(truth, config.data.exclude, axis=0)
    check_series(series)
    return with_margin(series, config), truth


def with_margin(series: TiltSeries, config: Config) -> TiltSeries:
    """A series, less its background, with the margin of the configuration, else its own, else what its images need but
    for the test images.
    """
    width, margin = series.shape[2], config.data.margin_px
    if margin is None:
        margin = series.margin or margin_of(split_of(config, series).seen(series))
        if margin > series.margin:
            _log.info(
                "The images cut the specimen off across the tilt axis: it is reconstructed "
                f"{margin} px farther at each side (data.margin_px)"
            )
    if margin > width:
        raise InputError(f"data.margin_px={margin}: must be at most the width of the images, {width} px")
    return dataclasses.replace(series, margin=margin)


def _simulated(config: Config) -> tuple[TiltSeries, np.ndarray]:
    series, truth = simulate(**vars(config.simulate), seed=config.run.seed)
    if config.simulate.camera != Camera():  # as of a measured series
        series = series.without_background(config.data.background)
    return _shifted(config, series), truth


def frozen_of(config: Config) -> FrozenImages | None:
    """Those of the specimen that the configuration simulates; None for a measured series."""
    if config.data.path is not None:
        return None
    s, exclude = config.simulate, config.data.exclude
    return frozen_images(s.specimen, s.size, frames=s.frames, n_z=s.n_z, seed=config.run.seed, exclude=exclude)


def _shifted(config: Config, series: TiltSeries) -> TiltSeries:
    """The series as `align.shifts` says that its images lie."""
    return series if config.align.shifts is None else apply(series, Shifts.load(config.align.shifts))


def _measured(config: Config) -> tuple[TiltSeries, np.ndarray | None]:
    data = config.data
    assert data.path is not None
    series = io.read_tilt_series(data.path, data.angles, tilt_axis=data.tilt_axis, pixel_nm=data.pixel_nm)
    series = series.inverted() if data.invert else series
    warnings = [
        contrast_advice(series, key="data.invert=true"),
        suspects_advice(series, data.exclude, key="data.exclude"),
        border_advice(series, key="data.background") if data.background == "auto" else None,
    ]
    for warning in filter(None, warnings):
        _log.warning(warning)
    series = as_fitted(config, series)
    t, z, s = series.shape
    truth = None if data.truth is None else io.read_truth(data.truth, (t, z, s, s))
    return series, truth


def as_fitted(config: Config, series: TiltSeries) -> TiltSeries:
    """A series as it was read, less its background, cut and binned as the configuration says."""
    data, background = config.data, config.data.background
    if config.align.shifts is not None:  # what an image did not see is then filled with the background
        series, background = _shifted(config, series.without_background(background)), "none"
    if data.crop is not None:
        z0, z1, s0, s1 = data.crop
        series = series.cropped((z0, z1, s0, s1))
    return series.binned(data.bin).without_background(background)


def will_be_aligned(jitter: float, align: Align) -> bool:
    """Whether images that jump so far from one to the next, in pixels, are aligned before the fit."""
    return align.automatic and not align.refine and align.shifts is None and jitter >= JITTER_TO_ALIGN_PX


def align_if_jittery(
    series: TiltSeries,
    align: Align,
    *,
    test_images: Sequence[int] = (),
    seconds: float = math.inf,
) -> tuple[TiltSeries, Shifts | None]:
    """The series, aligned if its images jump from one to the next, and the shifts; None if it stays as it is.

    test_images: those that have no part in this; they are only put where the others say.
    seconds: about how long that may take.
    """
    jitter = jitter_px(series.without_images(test_images))
    if not will_be_aligned(jitter, align):
        return series, None
    _log.info(f"The images jump by {jitter:.2f} px along the tilt axis from one to the next: aligning them")
    tell = lambda line: _log.info(f"  {line}")
    found = aligned_if_better(series, tell, test_images=test_images, seconds=seconds)
    if found is None:
        _log.warning("SIRT does not fit them better then, they stay as they are; dip4d align shows them")
        return series, None
    return found
