"""What another acquisition of the same specimen would tell: the twin experiment with other series.

The movie of a run, or a simulated specimen, is imaged as each acquisition would, and reconstructed. What comes back is
compared with what was imaged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import lightning as L
import numpy as np
import torch
from torch import Tensor

from dip4d.config.schema import Config
from dip4d.errors import InputError
from dip4d.experiment.inputs import outline, split_of, with_margin
from dip4d.experiment.measures import is_relative
from dip4d.experiment.twin import Original, kind_of, original_of
from dip4d.measures.elements import Elements
from dip4d.measures.error_bars import error_bars
from dip4d.measures.image_quality import psnr
from dip4d.measures.noise import NoiseModel
from dip4d.measures.quantities import measure, table_of
from dip4d.reconstruction.fit import Fit, steps_of_fit
from dip4d.reconstruction.motion_test import Behaviour, find_behaviour
from dip4d.reconstruction.refits import motion_copy, refit
from dip4d.reconstruction.split import Split
from dip4d.reconstruction.warm_up import pace_of
from dip4d.simulation.schemes import SCHEMES
from dip4d.simulation.simulate import simulate
from dip4d.simulation.specimens import elements_of_specimen
from dip4d.tilt_series import TiltSeries

FEWEST_IMAGES = 8  # of an acquisition
FAR_LESS = 0.5  # of the images, the dose and so on: what is tried where nothing is asked for
MORE = 2.0  # times the dose
NARROWER = 0.7  # of the tilt range
TOLD = ("volume", "surface")  # quantities of every table; elements and the mixing index where they are known
_SEED = 2000  # of the first acquisition, after that of the run


@dataclass(frozen=True)
class Acquisition:
    """How a tilt series is taken, in the time of the one that is known.

    images: how many.
    dose: of each image, times that of the known series.
    max_angle: the largest tilt, degrees.
    order: of the angles, a name of `dip4d.simulation.schemes.SCHEMES`; None for that of the known series.
    """

    images: int
    dose: float
    max_angle: float
    order: str | None = None


@dataclass(frozen=True, eq=False)
class Found:
    """What an acquisition tells.

    errors: of quantities by name, relative to them but for those that are not `is_relative`: a standard deviation;
        NaN where nothing of the specimen came back.
    psnr: mean of the frames against what was imaged, dB.
    """

    acquisition: Acquisition
    errors: dict[str, float]
    psnr: float


class Source(Protocol):
    """What can be imaged in other ways than it was.

    taken: how it was imaged.
    steps: of a fit.
    counts: of the brightest pixel then; None if unknown.
    widened: whether errors are those of a twin, which is optimistic, and become error bars as such.
    """

    config: Config
    taken: Acquisition
    steps: int
    counts: float | None
    elements: Elements | None
    widened: bool

    def imaged(self, acquisition: Acquisition, *, seed: int) -> tuple[TiltSeries, Callable[[], Iterator[np.ndarray]]]:
        """The series of an acquisition, and what makes the volumes (z, y, x) at its images."""
        ...

    def outline(self) -> TiltSeries:
        """A series of the shape, angles and times of the one that was taken."""
        ...

    def behaviour(self, series: TiltSeries, split: Split) -> Behaviour:
        """What the specimen does in a series."""
        ...


class SpecimenSource:
    """A simulated specimen, the section `simulate` of a configuration: its errors are those against the truth."""

    widened = False

    def __init__(self, config: Config) -> None:
        s = config.simulate
        self.config, self.counts = config, s.peak_counts or None
        self.taken = Acquisition(s.frames, 1.0, s.max_angle)
        self.steps = steps_of_fit(config.train, s.n_z or s.size)
        self.elements: Elements | None = elements_of_specimen(s.specimen)

    def imaged(self, acquisition: Acquisition, *, seed: int) -> tuple[TiltSeries, Callable[[], Iterator[np.ndarray]]]:
        a, known = acquisition, self.config.simulate
        keys = {"frames": a.images, "max_angle": a.max_angle, "peak_counts": a.dose * known.peak_counts}
        keys |= {"scheme": a.order or known.scheme}
        series, truth = simulate(**(vars(known) | keys), seed=self.config.run.seed)
        return with_margin(series, self.config), lambda: iter(truth)

    def outline(self) -> TiltSeries:
        return outline(self.config)

    def behaviour(self, series: TiltSeries, split: Split) -> Behaviour:
        return find_behaviour(series, split, settings=self.config)


class RunSource:
    """The movie of a finished run. Raises InputError for a folder without one."""

    widened = True

    def __init__(self, folder: Path) -> None:
        self.original = original = original_of(folder)
        self.config, self.elements, self.steps = original.config, original.elements, original.steps
        series, gain = original.series, original.noise.gain
        self.counts = float(original.predicted.max()) / gain if gain else None
        self.taken = Acquisition(len(series.images), 1.0, float(np.abs(series.angles_deg).max()))

    def imaged(self, acquisition: Acquisition, *, seed: int) -> tuple[TiltSeries, Callable[[], Iterator[np.ndarray]]]:
        a, original, series = acquisition, self.original, self.original.series
        each = np.linspace(0, len(series.times_s) - 1, a.images)
        times = np.interp(each, np.arange(len(series.times_s)), series.times_s)
        tau, angles = series.tau_at(times), self._angles(a)
        at = torch.from_numpy(tau).float()
        projected = zip(original.whole_movie(at), angles, strict=True)
        clean = np.stack([_image(original, whole, angle_deg=angle) for whole, angle in projected])
        noise = NoiseModel(original.noise.gain / a.dose, original.noise.offset / a.dose**2)
        images, margin = noise.added_to(clean, seed=seed), series.margin
        planned = TiltSeries(images, angles, times, series.pixel_nm, source="planned", margin=margin)
        return planned, lambda: original.movie(at)

    def _angles(self, acquisition: Acquisition) -> np.ndarray:
        """(t,), degrees: in the order of the known series, thinned or drawn together; or in another order."""
        a, known = acquisition, self.original.series.angles_deg
        if a.order is not None:
            return SCHEMES[a.order](a.images, a.max_angle, sweeps=self.config.simulate.sweeps)
        some = known[np.round(np.linspace(0, len(known) - 1, a.images)).astype(int)]
        return some * (a.max_angle / self.taken.max_angle)

    def outline(self) -> TiltSeries:
        return self.original.series

    def behaviour(self, series: TiltSeries, split: Split) -> Behaviour:
        return Behaviour(motion=motion_copy(self.original.module))


def _image(original: Original, volume: np.ndarray, *, angle_deg: float) -> np.ndarray:
    """The image (z, s) of a volume, with its margin, without noise."""
    angles = torch.full((len(volume), 1), np.deg2rad(angle_deg), device=original.module.device)
    slices: Tensor = torch.from_numpy(volume).to(angles.device)[:, None]
    return original.module.microscope.project(slices, angles)[:, 0].float().cpu().numpy()


def acquisitions_of(
    taken: Acquisition,
    *,
    images: Sequence[int] = (),
    doses: Sequence[float] = (),
    max_angles: Sequence[float] = (),
    orders: Sequence[str] = (),
) -> list[Acquisition]:
    """What to try: the series as it was taken, and each change of it by itself.

    images, doses, max_angles, orders: as of `Acquisition`; without any of them some that are usual.
    Raises InputError for what cannot be taken.
    """
    if not (images or doses or max_angles or orders):
        images, doses = [max(FEWEST_IMAGES, round(FAR_LESS * taken.images))], [FAR_LESS, MORE]
        max_angles, orders = [round(NARROWER * taken.max_angle)], ["incremental"]
    for name, values, low, high in (
        ("images", images, FEWEST_IMAGES, 100_000),
        ("dose", doses, 1e-3, 1e3),
        ("tilt", max_angles, 10, 90),
    ):
        for value in values:
            if not low <= value <= high:
                raise InputError(f"--{name} {value:g}: must be {low:g} to {high:g}")
    vary = lambda **keys: dataclasses.replace(taken, **keys)
    tried = [taken, *(vary(images=n) for n in images), *(vary(dose=d) for d in doses)]
    tried += [vary(max_angle=float(a)) for a in max_angles] + [vary(order=o) for o in orders]
    return list(dict.fromkeys(tried))


def what_would_be_found(
    source: Source,
    acquisitions: Sequence[Acquisition],
    *,
    callbacks: Sequence[L.Callback] = (),
) -> Iterator[Found]:
    """Images the specimen in each way, reconstructs it, and yields what is found; each takes as long as a whole run
    without its comparison.
    """
    for k, acquisition in enumerate(acquisitions):
        seed = source.config.run.seed + _SEED + k
        series, put_in = source.imaged(acquisition, seed=seed)
        split = split_of(source.config, series)
        behaviour = source.behaviour(series, split)
        done = refit(
            series,
            split,
            settings=behaviour.settings(source.config),
            steps=source.steps,
            seed=seed,
            motion=behaviour.motion,
            callbacks=callbacks,
        )
        yield _compared(source, acquisition, done=done, put_in=put_in)


def expected_seconds(source: Source, acquisitions: Sequence[Acquisition]) -> float:
    """How long all of it will take, from a few timed steps."""
    series = source.outline()
    pace = pace_of(series, split_of(source.config, series), settings=source.config)
    return len(acquisitions) * pace.fit(source.steps)


def _compared(
    source: Source,
    acquisition: Acquisition,
    *,
    done: Fit,
    put_in: Callable[[], Iterator[np.ndarray]],
) -> Found:
    peak = max(float(v.max()) for v in put_in())
    before, after, scores = [], [], []
    for true, volume in zip(put_in(), done.module.volumes(done.data, done.data.tau), strict=True):
        before.append(measure(true, elements=source.elements))
        after.append(measure(volume.numpy(), elements=source.elements))
        scores.append(psnr(volume.numpy(), true, data_range=peak))
    truth, found = table_of(before), table_of(after)
    errors = {}
    for name in _told(source.elements):
        deviation = (found[name] - truth[name]) / (truth[name] if is_relative(name) else 1.0)
        kind = kind_of(name, source.elements)
        sigma = error_bars(deviation[None], kind) if source.widened else np.sqrt(np.square(deviation).mean())
        errors[name] = float(np.mean(sigma))
    return Found(acquisition, errors, float(np.mean(scores)))


def _told(elements: Elements | None) -> list[str]:
    if elements is None:
        return list(TOLD)
    return [*TOLD, *elements.names[:1], *(["mixing_index"] if len(elements.names) == 2 else [])]
