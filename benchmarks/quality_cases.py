"""What `quality.py` reconstructs, and by what: sizes, specimens, methods, and the tilt series of each case."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

from dip4d.config.schema import Config
from dip4d.simulation.hard_specimens import FAMILIES, HARD

MAIN = ("nanostar", "alloying", "nanostar_alloying")
ALL = (*MAIN, "nanocage", "sintering", "drift", "event", "growth")
SPECIMENS = (*ALL, "static", *HARD)  # in the order of tables
NETWORKS = ("dip", "voxels", "voxels_matched", "tddip", "dipster")
CONVENTIONAL = ("sirt_whole", "sirt_window", "sirt_frozen", "tv_window", "tv_frozen", "sttv")
METHODS = (*NETWORKS, *CONVENTIONAL)
RIVALS = ("sirt_frozen", "tv_frozen", "tv_window", "sttv", "voxels_matched", "voxels")
SEEDS = (11, 12, 13)
HARD_SEEDS = {"A": (21, 22), "B": (31, 32)}
CAMERAS: dict[str, dict[str, float]] = {  # faults of a realistic strength
    "readout": {"readout": 0.01},
    "background": {"background": 0.1, "gradient": 0.05},
    "gain": {"gain_drift": 0.03},
    "blur": {"tilt_blur_px": 1.0},
    "saturation": {"saturation": 0.1},
    "hot": {"hot_pixels": 0.001},
}
CAMERAS["all"] = {name: strength for faults in CAMERAS.values() for name, strength in faults.items()}


@dataclass(frozen=True)
class Size:
    """How large the cases of a part are: voxels across and along the axis, images, seconds of a fit (None: each network
    has the steps that it needs); what conventional methods try, and settings of the fits.
    """

    size: int
    n_z: int
    frames: int
    seconds: float | None
    windows: tuple[int, ...] = tuple(Config().compare.windows)
    iterations: int = Config().compare.iterations
    settings: dict[str, Any] = field(default_factory=dict)


SIZES = {
    "small": Size(48, 24, 60, 120, (5, 10, 20, 30, 40)),
    "hard": Size(48, 24, 60, None, (5, 10, 20, 30, 40)),
    "standard": Size(64, 64, 100, 480),
    "full": Size(128, 128, 100, 300),
    "cage": Size(100, 100, 100, 600),
}


@dataclass(frozen=True)
class Case:
    """One reconstruction of one tilt series."""

    size: str
    specimen: str
    method: str
    scheme: str = "grs"
    peak_counts: float = 500
    jitter: float = 0
    seed: int = SEEDS[0]
    camera: str = ""  # of `CAMERAS`; a perfect one if empty

    @property
    def name(self) -> str:
        data = f"{self.scheme} counts{self.peak_counts:g} jitter{self.jitter:g} seed{self.seed}"
        data += f" camera:{self.camera}" if self.camera else ""
        return f"{self.size} {self.specimen} {data} {self.method}"


def hard_cases(family: str) -> list[Case]:
    """Ours and its rivals on the specimens of a family of `dip4d.simulation.hard_specimens`."""
    return [
        Case("hard", specimen, method, seed=seed)
        for seed in HARD_SEEDS[family]
        for methods in (("dip", "sirt_frozen"), RIVALS[1:])
        for specimen in FAMILIES[family]
        for method in methods
    ]


def cases(part: str, family: str = "B") -> list[Case]:
    """The cases of a part of the benchmark, the most telling first. family: of the part hard."""
    if part == "hard":
        return hard_cases(family)
    if part == "camera":
        specimens = ("nanostar_alloying", "nanocage")
        return [Case("small", s, "dip", camera=camera) for camera in CAMERAS for s in specimens]
    if part == "quick":
        return [
            Case("small", s, m) for s in ("nanostar_alloying",) for m in (*CONVENTIONAL[:3], "dip", "voxels", "dipster")
        ]
    if part == "full":
        return [Case("full", s, m) for s in MAIN[2:] for m in ("sirt_frozen", "dip", "dipster")] + [
            Case("cage", "nanocage", m, peak_counts=0) for m in ("sirt_frozen", "dip", "voxels", "dipster")
        ]
    if part == "standard":
        specimens = (*MAIN, "nanocage")
        return [
            Case("standard", s, m, seed=seed)
            for seed in SEEDS[:2]
            for s in specimens
            for m in ("sirt_frozen", "dip", "tv_frozen", "voxels", "dipster", "sttv")
        ]
    first = [Case("small", s, m) for s in ALL for m in ("sirt_frozen", "tv_frozen", "dip")]
    base = first + [Case("small", s, m) for s in ALL for m in ("dipster", "voxels")]
    base += [Case("small", "static", m) for m in ("dip", "dipster", "sirt_window")]
    changed = (
        {"scheme": "pingpong"}, {"scheme": "incremental"}, {"peak_counts": 0}, {"peak_counts": 1000},
        {"peak_counts": 200}, {"peak_counts": 50}, {"jitter": 1}
    )  # fmt: skip
    for specimen in ("nanostar_alloying", "nanocage"):
        base += [
            replace(Case("small", specimen, m), **change)
            for change in changed
            for m in ("sirt_frozen", "sirt_window", "dip")
        ]
    others = ("sttv", "voxels_matched", "sirt_window", "sirt_whole", "tddip", "tv_window")
    others = [Case("small", s, m) for m in others for s in ALL]
    return base + others + [replace(c, seed=seed) for seed in SEEDS[1:] for c in first]


def case_of(result: dict) -> Case:
    return Case(**{f.name: result[f.name] for f in fields(Case) if f.name in result})
