"""The quantities of a run against time, with truth and error bars where there are: measures.csv and profiles.csv."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from dip4d.config.load import load_config
from dip4d.config.schema import Config
from dip4d.errors import InputError
from dip4d.experiment.inputs import load_data
from dip4d.io.volumes import open_volumes, read_times_and_size
from dip4d.measures.elements import Elements, elements_of
from dip4d.measures.quantities import Measured, Particle, filled, measure, names_of, table_of, tracked
from dip4d.run_folder import CONFIG, MEASURES, PROFILES, TWIN, VOLUMES
from dip4d.simulation.specimens import elements_of_specimen
from dip4d.whole_file import written_beside

SIGMA, TRUTH = "sigma", "truth"  # the last word of a column of measures.csv, else it is the run's own
MOST_PARTICLES = 20  # in the table, the largest
MOST_SECONDS = 120.0  # at the end of a run
BRIGHTEST_PERCENT = 95  # of the voxels inside, whose intensity is that of the heavier element where none is given
_LOOKED_AT = 5  # frames, for that

_log = logging.getLogger(__name__)


def write_measures(
    folder: Path,
    *,
    config: Config | None = None,
    truth: np.ndarray | None = None,
    seconds: float = math.inf,
) -> dict[str, np.ndarray] | None:
    """Measures the volumes of a run; writes measures.csv and profiles.csv. Returns the columns of the former.

    folder: of a run whose volumes are written.
    config: its configuration; read if None.
    truth: (t, z, y, x), or None.
    seconds: where it would take longer, None is returned, and `dip4d report` has to do it.
    Raises InputError for a folder without volumes.
    """
    config = config or load_config([str(folder / CONFIG)])
    volumes = open_volumes(folder / VOLUMES)
    times_s, pixel_nm = read_times_and_size(folder / VOLUMES)
    elements = elements_of_run(config, volumes)
    voxel = pixel_nm or 1.0
    began = time.monotonic()
    ours = [measure(volumes[0], voxel=voxel, elements=elements)]
    truth = truth if truth is not None and truth.shape == volumes.shape else None
    if (time.monotonic() - began) * len(volumes) * (2 if truth is not None else 1) > seconds:
        return None
    ours += [measure(v, voxel=voxel, elements=elements) for v in volumes[1:]]
    true = None if truth is None else [measure(v, voxel=voxel, elements=elements) for v in truth]
    columns = _columns(ours, true, elements=elements, unit=unit_of(pixel_nm), sigmas=sigmas_of_twin(folder, times_s))
    _write(folder / MEASURES, {"time_s": times_s} | columns)
    profiles = np.stack([m.profile for m in ours])
    shells = {f"r_{(k + 0.5) * voxel:g}_{unit_of(pixel_nm)}": profiles[:, k] for k in range(profiles.shape[1])}
    _write(folder / PROFILES, {"time_s": times_s} | shells)
    return {"time_s": times_s} | columns


def measure_if_stale(folder: Path) -> None:
    """Writes measures.csv of a run that has volumes, but not that, or whose configuration was changed since, as by
    `evaluate.elements`, or that has a twin since.
    """
    if all((folder / name).exists() for name in (CONFIG, VOLUMES)) and _stale(folder):
        config = load_config([str(folder / CONFIG)])
        write_measures(folder, config=config, truth=truth_of_run(config))


def _stale(folder: Path) -> bool:
    table, made_from = folder / MEASURES, (folder / CONFIG, folder / TWIN)
    if not table.exists():
        return True
    return any(path.stat().st_mtime > table.stat().st_mtime for path in made_from if path.exists())


def truth_of_run(config: Config) -> np.ndarray | None:
    """The truth of a run: read, or simulated again; None if there is none, or no longer."""
    if config.data.path is not None and config.data.truth is None:
        return None
    try:
        return load_data(config)[1]
    except InputError as error:
        _log.warning(f"the truth cannot be had ({error}): it is left out")
        return None


def elements_of_run(config: Config, volumes: np.ndarray) -> Elements | None:
    """What the specimen of a run is made of; None if that is not known. volumes: (t, z, y, x)."""
    given = config.evaluate
    if given.elements:
        brightest = 1.0 if given.intensities else _brightest(volumes)
        return elements_of(given.elements, given.intensities, exponent=given.exponent, brightest=brightest)
    return None if config.data.path else elements_of_specimen(config.simulate.specimen)


def _brightest(volumes: np.ndarray) -> float:
    """The intensity of the brightest material."""
    some = volumes[:: max(1, len(volumes) // _LOOKED_AT)]
    inside = [volume[filled(np.asarray(volume))[0] >= 1] for volume in some]
    return max((float(np.percentile(v, BRIGHTEST_PERCENT)) for v in inside if v.size), default=1.0)


def unit_of(pixel_nm: float | None) -> str:
    """The unit of a length: nm, or pixels where their size is unknown."""
    return "px" if pixel_nm is None else "nm"


def with_unit(name: str, power: int, *, unit: str) -> str:
    """The name of a column, with its unit: volume_nm3."""
    if power == 0:
        return name
    return f"{name}_per_{unit}" if power < 0 else f"{name}_{unit}{power if power > 1 else ''}"


def sigmas_of_twin(folder: Path, times_s: np.ndarray) -> dict[str, np.ndarray]:
    """The standard deviations (t,) of quantities at some times, by name, that the twin experiment of a run has found,
    relative to them but for those of `is_relative`; none if there was none. Raises InputError.
    """
    path = folder / TWIN
    if not path.exists():
        return {}
    try:
        told = json.loads(path.read_text())
        return {name: np.interp(times_s, told["times_s"], sigma) for name, sigma in told["sigma"].items()}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged ({error}); remove it, and repeat the twin experiment") from None


def _columns(
    ours: Sequence[Measured],
    true: Sequence[Measured] | None,
    *,
    elements: Elements | None,
    unit: str,
    sigmas: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """The columns of measures.csv by their names, but for the time."""
    columns: dict[str, np.ndarray] = {}
    measured, truth = table_of(ours), {} if true is None else table_of(true)
    for name, power in names_of(elements).items():
        column = with_unit(name, power, unit=unit)
        columns[column] = measured[name]
        sigma = sigmas.get(name)
        if sigma is not None:
            columns[f"{column}_{SIGMA}"] = sigma * (np.abs(measured[name]) if is_relative(name) else 1.0)
        if truth:
            columns[f"{column}_{TRUTH}"] = truth[name]
    tracks = tracked([m.particles for m in ours])[:MOST_PARTICLES]
    for number, track in enumerate(tracks if len(tracks) > 1 else [], start=1):
        columns |= _of_particle(f"particle_{number}", track, unit=unit)
    return columns


def is_relative(name: str) -> bool:
    """Whether the error of a quantity is told relative to it."""
    return name not in ("mixing_index", "sphericity", "particles")


def _of_particle(name: str, track: Iterable[Particle | None], *, unit: str) -> dict[str, np.ndarray]:
    rows = [(np.nan,) * 4 if p is None else (p.volume, *p.place) for p in track]
    names = [f"{name}_volume_{unit}3", *(f"{name}_{axis}_{unit}" for axis in "zyx")]
    return dict(zip(names, np.array(rows).T, strict=True))


def _write(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    with written_beside(path) as place:
        rows = np.column_stack(list(columns.values()))
        np.savetxt(place, rows, "%.7g", ",", header=",".join(columns), comments="")
