"""The twin experiment: a run's own movie is taken for the truth, imaged as the specimen was, and reconstructed again.

What comes back tells, for this specimen and this acquisition, the bias and the spread of every quantity, the PSNR to
expect, how fast a change can be seen and how small a feature. The movie is made sharper first, by what unseen rows miss
of it; noise is drawn anew for each twin. Refits go on from the run's own weights for a fifth of its steps: they proved
as telling as whole ones (docs/experiments-log.md).
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F

from dip4d.config.load import load_config
from dip4d.config.schema import Config
from dip4d.conventional.series import SeriesStatistics, statistics_of
from dip4d.errors import InputError
from dip4d.experiment.inputs import inputs_of, load_data, split_of
from dip4d.experiment.measures import elements_of_run, is_relative
from dip4d.experiment.plan import device_of
from dip4d.experiment.twin_marks import Marks, marks_for
from dip4d.measures.consistency import less_noise, relative_error
from dip4d.measures.elements import Elements
from dip4d.measures.error_bars import error_bars, how_much_sharper, sharper
from dip4d.measures.image_quality import psnr
from dip4d.measures.noise import NoiseModel, noise_model
from dip4d.measures.quantities import measure, table_of
from dip4d.reconstruction.data import TiltRows
from dip4d.reconstruction.fit import prepare, read_checkpoint, with_ensemble
from dip4d.reconstruction.module import DIP4D
from dip4d.reconstruction.motion_test import motion_of
from dip4d.reconstruction.networks.ensemble import ensemble_in
from dip4d.reconstruction.refits import MEMBER_SHARE, motion_copy, refit
from dip4d.reconstruction.split import Split
from dip4d.run_folder import CHECKPOINT, CONFIG, TWIN, is_complete
from dip4d.tilt_series import TiltSeries
from dip4d.whole_file import written_beside

REFITS = 3
FEWEST_REFITS = 2  # to have a spread
_SEED = 1000  # of the first refit, after that of the run

_log = logging.getLogger(__name__)


@dataclass
class Original:
    """A run, as it was fitted, and what a twin of it needs.

    steps: of its fit.
    predicted, sharpened: (t, z, s), the images of its movie, and of the movie with steeper edges.
    amount: how much steeper the movie of a twin is, times that.
    """

    config: Config
    series: TiltSeries
    split: Split
    statistics: SeriesStatistics
    module: DIP4D
    data: TiltRows
    elements: Elements | None
    steps: int
    noise: NoiseModel
    predicted: np.ndarray
    sharpened: np.ndarray
    amount: float

    def movie(self, tau: torch.Tensor | None = None) -> Iterator[np.ndarray]:
        """The volumes (z, y, x) that are put into a twin, one for each image; or at times tau (t,), 0..1."""
        return (self.series.field(whole) for whole in self.whole_movie(tau))

    def whole_movie(self, tau: torch.Tensor | None = None) -> Iterator[np.ndarray]:
        """As `movie`, with the margin of the series: what has to be projected."""
        for volume in self.module.whole_volumes(self.data, self.data.tau if tau is None else tau):
            plain = volume.numpy()
            yield plain + np.float32(self.amount) * (sharper(plain) - plain)

    def imaged(self, *, seed: int, added: np.ndarray | float = 0.0) -> TiltSeries:
        """The series of a twin, with its own noise. added: (t, z, s), images of what else is put in."""
        clean = self.predicted + np.float32(self.amount) * (self.sharpened - self.predicted) + added
        images = self.noise.added_to(clean.astype(np.float32), seed=seed)
        if self.series.shown is not None:
            images *= self.series.shown[..., None]
        return dataclasses.replace(self.series, images=images)


def twin(
    folder: Path,
    *,
    refits: int = REFITS,
    marks: bool = True,
    callbacks: Sequence[L.Callback] = (),
) -> dict:
    """Does the twin experiment of a finished run and writes twin.json, whose content is returned.

    folder: of the run.
    refits: how many, each a fifth of the fit of the run.
    marks: also put changes and features in, and fit all of it anew, for the resolution in time and space.
    callbacks: of each fit.
    Raises InputError for a run that is not finished, or whose series cannot be had any more.
    """
    if refits < FEWEST_REFITS:
        raise InputError(f"{refits} refits have no spread; it takes {FEWEST_REFITS}")
    original = original_of(folder)
    _log.info(f"The movie is projected and reconstructed again, {refits} times")
    truth, peak = [], 0.0
    for volume in original.movie():
        truth.append(measure(volume, elements=original.elements))
        peak = max(peak, float(volume.max()))
    put_in, found = table_of(truth), {name: [] for name in truth[0].values}
    scores = []
    for k in range(refits):
        seed = original.config.run.seed + _SEED + k
        again = _refitted(original, original.imaged(seed=seed), seed=seed, callbacks=callbacks)
        psnrs, table = _compared(original, again, peak=peak)
        scores.append(psnrs)
        for name, values in table.items():
            with np.errstate(invalid="ignore", divide="ignore"):  # of what holds nothing; `_told` leaves it out
                found[name].append((values - put_in[name]) / (put_in[name] if is_relative(name) else 1.0))
    told = _told(found, original.elements) | {
        "refits": refits,
        "sharper": original.amount,
        "times_s": original.series.times_s.tolist(),
        "psnr": np.mean(scores, axis=0).tolist(),
    }
    if marks:
        told |= _resolution(original, callbacks)
    with written_beside(folder / TWIN) as place:
        place.write_text(json.dumps(told, indent=1, allow_nan=False))
    return told


def original_of(folder: Path) -> Original:
    """A finished run, loaded again. Raises InputError."""
    if not is_complete(folder):
        raise InputError(f"{folder}: not a finished run; a twin experiment needs one")
    config, saved = load_config([str(folder / CONFIG)]), read_checkpoint(folder / CHECKPOINT)
    inputs = inputs_of(config, load_data(config), saved=saved)
    series, split = inputs.series, split_of(config, inputs.series)
    statistics = statistics_of(split.seen(series), config.network.intensity_bound, device=device_of(config))
    motion = motion_of(saved, series)
    config = with_ensemble(config, ensemble_in(saved["state_dict"]))
    module, data = prepare(series, split, settings=config, statistics=statistics, motion=motion)
    module.load_state_dict(saved["state_dict"])
    module.eval()
    predicted, sharpened, first = [], [], []
    for t, volume in enumerate(module.whole_volumes(data, data.tau)):
        for images, shown in ((predicted, volume), (sharpened, torch.from_numpy(sharper(volume.numpy())))):
            images.append(module.image(data, t, volume=shown)[0].numpy())
        if t % max(1, len(data.tau) // 5) == 0:
            first.append(series.field(volume).numpy())
    elements = elements_of_run(config, np.stack(first))
    images, steep = np.stack(predicted), np.stack(sharpened)
    noise = noise_model(series.images, images, views=series.views)
    of_one = float(np.sqrt(np.square(steep - images).mean() / np.square(series.images).mean()))
    amount = how_much_sharper(_missing(series, images, split=split, noise=noise), of_one=of_one)
    return Original(
        config,
        series,
        split,
        statistics,
        module,
        data,
        elements,
        steps=saved["global_step"],
        noise=noise,
        predicted=images,
        sharpened=steep,
        amount=amount,
    )


def _missing(series: TiltSeries, predicted: np.ndarray, *, split: Split, noise: NoiseModel) -> float | None:
    """The relative error of the rows that the fit has not seen, less their noise; None if it has seen all."""
    unseen = ~split.fitted_rows.T.numpy()
    if series.shown is not None:
        unseen &= series.shown
    measured = series.images[unseen]
    error = relative_error(predicted[unseen], measured)
    return None if np.isnan(error) else less_noise(error, noise.floor(measured))


def _refitted(
    original: Original,
    series: TiltSeries,
    *,
    seed: int,
    callbacks: Sequence[L.Callback],
    whole: bool = False,
) -> tuple[DIP4D, TiltRows]:
    """A twin, reconstructed: from the weights of the run, or as a whole."""
    steps = original.steps if whole else max(1, round(MEMBER_SHARE * original.steps))
    done = refit(
        series,
        original.split,
        settings=original.config,
        steps=steps,
        seed=seed,
        statistics=original.statistics,
        motion=motion_copy(original.module),
        callbacks=callbacks,
        begin=None if whole else lambda module: module.start_from(original.module),
    )
    return done.module, done.data


def _compared(
    original: Original,
    again: tuple[DIP4D, TiltRows],
    *,
    peak: float,
) -> tuple[list[float], dict[str, np.ndarray]]:
    """The PSNR of each frame of a twin against what was put in, and its quantities. peak: what was put in at most."""
    module, data = again
    scores, measured = [], []
    for put_in, volume in zip(original.movie(), module.volumes(data, data.tau), strict=True):
        scores.append(psnr(volume.numpy(), put_in, data_range=peak))
        measured.append(measure(volume.numpy(), elements=original.elements))
    return scores, table_of(measured)


def _told(found: dict[str, list[np.ndarray]], elements: Elements | None) -> dict[str, dict]:
    """The error bars of quantities, their bias and their spread, relative to them but for dimensionless ones."""
    told: dict[str, dict] = {"sigma": {}, "bias": {}, "spread": {}}
    for name, deviations in found.items():
        values = np.stack(deviations)
        if name == "particles" or not np.isfinite(values).all():
            continue
        told["sigma"][name] = error_bars(values, kind_of(name, elements)).tolist()
        told["bias"][name] = values.mean(0).tolist()
        told["spread"][name] = values.std(0, ddof=1).tolist()
    return told


def kind_of(name: str, elements: Elements | None) -> str:
    """The kind of a quantity, as `error_bars` knows it."""
    if elements is None or name not in elements.names:
        return name
    return "mass" if len(elements.names) == 1 else "amount"


def _resolution(original: Original, callbacks: Sequence[L.Callback]) -> dict:
    """How long a sudden change takes to be seen, and how small a feature is: both are put in, and all fitted anew."""
    placed = marks_for(list(original.module.volumes(original.data, original.data.tau)), seed=original.config.run.seed)
    if placed is None:
        _log.info("The specimen has no room for changes and features that would tell the resolution")
        return {}
    seed = original.config.run.seed + _SEED - 1
    series = original.imaged(seed=seed, added=_images_of(original, placed))
    module, data = _refitted(original, series, seed=seed, callbacks=callbacks, whole=True)
    plain = (v.numpy() for v in original.module.volumes(original.data, original.data.tau))
    return placed.told((v.numpy() for v in module.volumes(data, data.tau)), plain, series=original.series)


def _images_of(original: Original, marks: Marks) -> np.ndarray:
    """The images (t, z, s) of what is put in."""
    module, data, margin = original.module, original.data, original.series.margin
    whole = lambda t: F.pad(torch.from_numpy(marks.added(t)), (margin, margin))
    return np.stack([module.image(data, t, volume=whole(t))[0].numpy() for t in range(len(data.series.images))])
