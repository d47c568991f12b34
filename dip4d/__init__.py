"""DIP-4D: one 3D volume for every image of an electron-tomography tilt series.

>>> import dip4d
>>> series = dip4d.read_tilt_series("series.mrc", tilt_axis="y").without_background("auto")
>>> movie = dip4d.reconstruct(series, max_minutes=10)
>>> movie.volume(50)          # (z, y, x) at the time of image 50

Importing this loads neither torch nor Lightning; the names below do when they are first used.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

# Before torch. OpenMP's threads then sleep soon between two operations instead of spinning on: on a busy machine the
# spinning threads take the cores from the projector's own, and SIRT was measured seven times slower. A short spin,
# about 10 us, is kept: without any, a step of the fit takes a quarter longer on two cores.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

if TYPE_CHECKING:
    from dip4d.alignment.align import align
    from dip4d.conventional.algorithms import em, fbp, sirt, tv
    from dip4d.errors import InputError
    from dip4d.experiment.reconstruct import Reconstruction, reconstruct
    from dip4d.io import read_tilt_series
    from dip4d.projector import Geometry, Projector
    from dip4d.simulation.simulate import simulate
    from dip4d.tilt_series import TiltSeries

__version__ = "0.2.0"
__all__ = [
    "Geometry",
    "InputError",
    "Projector",
    "Reconstruction",
    "TiltSeries",
    "align",
    "em",
    "fbp",
    "read_tilt_series",
    "reconstruct",
    "simulate",
    "sirt",
    "tv",
]
_HOMES = {
    "dip4d.alignment.align": ("align",),
    "dip4d.conventional.algorithms": ("em", "fbp", "sirt", "tv"),
    "dip4d.errors": ("InputError",),
    "dip4d.experiment.reconstruct": ("Reconstruction", "reconstruct"),
    "dip4d.io": ("read_tilt_series",),
    "dip4d.projector": ("Geometry", "Projector"),
    "dip4d.simulation.simulate": ("simulate",),
    "dip4d.tilt_series": ("TiltSeries",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'dip4d' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
