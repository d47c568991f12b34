"""The configuration: every key, its default, its range and a sentence about it, each stated once.

Imports nothing of the package: names such as those of the specimens are looked up when they are checked.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Names:
    """Names that are kept elsewhere: the keys of a table of a module, looked up when they are asked for.

    listed: whether --help lists them; not where the module is slow to import and the sentence names them.
    """

    module: str
    table: str
    listed: bool = True

    def __iter__(self):
        return iter(getattr(importlib.import_module(self.module), self.table))


LEAST_MEMBERS = 3  # of an uncertainty, to have a spread

SPECIMENS = Names("dip4d.simulation.hard_specimens", "ALL")
SCHEMES = Names("dip4d.simulation.schemes", "SCHEMES")
METHODS = Names("dip4d.conventional.methods", "METHODS", listed=False)
ELEMENTS = Names("dip4d.measures.elements", "ATOMIC_NUMBERS", listed=False)
SAVEABLE = Names("dip4d.conventional.methods", "SAVEABLE", listed=False)
NETWORKS = Names("dip4d.reconstruction.networks", "NETWORKS", listed=False)


def key(
    default: Any,
    sentence: str,
    *,
    low: float | None = None,
    high: float | None = None,
    among: Any = None,
) -> Any:
    """A key of the configuration.

    default: its value where none is given.
    sentence: what it means, for --help.
    low, high: the range of a number, or of each number of a list.
    among: the names it may take; a `Names`, or any other iterable of them.
    """
    metadata = {"sentence": sentence, "low": low, "high": high, "among": among}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class Run:
    dir: str | None = key(None, "Folder of this run; by default runs/<time>-<what>.")
    seed: int = key(
        0, "The one seed: specimen, noise, validation rows, test images and weights all derive from it.", low=0
    )
    resume: bool = key(False, "Go on from the last checkpoint in run.dir.")
    overwrite: bool = key(False, "Replace the run that run.dir already holds.")


@dataclass
class Data:
    path: str | None = key(None, "A tilt series file, or a folder of images (see docs/files.md); empty: simulate.")
    angles: str | None = key(None, "Angle file (.tlt .rawtlt .txt .csv .mdoc), where the series lacks its own.")
    tilt_axis: str = key(
        "auto",
        "The image axis along which the tilt axis lies: x (columns) or y (rows); auto: the one that the images speak "
        "for, y where that is not certain.",
        among=("x", "y", "auto"),
    )
    pixel_nm: float | None = key(None, "Pixel size in nm, where the file does not know it.", low=1e-6)
    bin: int = key(1, "Whole-number binning of the images.", low=1)
    crop: list[int] | None = key(None, "Window (z0, z1, s0, s1) of the images in pixels, cut before binning.", low=0)
    background: str = key(
        "auto", "Level to subtract from the images: auto (of each image, from its border), none, or a number."
    )
    invert: bool = key(
        False, "Of each image take the level of its border less the image: a bright field, where a specimen is dark."
    )
    margin_px: int | None = key(
        None,
        "Pixels by which the reconstructed orthoslices are wider than the images, at each side of the tilt axis, for a "
        "specimen that these cut off; volumes are written without it. By default 0 if no image "
        "shows the specimen at its border, else the more the higher the tilt up to which images do.",
        low=0,
    )
    exclude: list[int] = key([], "Images to leave out, such as [12,40]: counted from 0 in the order of time.", low=0)
    validation_rows: float = key(
        0.05,
        "Share of the rows that the fit does not see: their error stops the fit and chooses its weights.",
        low=0.0,
        high=0.5,
    )
    test_images: float = key(
        0.03,
        "Share of the views whose images nothing sees: their error is unbiased. None with align.refine, which has to "
        "see an image to place it.",
        low=0.0,
        high=0.2,
    )
    test_images_in_a_row: int = key(
        1,
        "Consecutive views that are test images together. In a sweep neighbours tell most of a single one: only a gap "
        "of several shows what a reconstruction is worth.",
        low=1,
    )
    truth: str | None = key(None, "Truth volumes (t, z, y, x), .npy or .tif; for scores only.")


@dataclass
class Align:
    shifts: str | None = key(None, "shifts.csv of an earlier alignment, applied to the images (before crop and bin).")
    automatic: bool = key(
        True,
        "Align the images before the fit if they jump from one to the next; shifts or refine are instead of that.",
    )
    refine: bool = key(False, "Learn the displacement of every image together with the specimen.")
    along_z: bool = key(True, "Refine displacements along the tilt axis, too.")
    tilt: bool = key(False, "Refine the tilt angles, too.")


@dataclass
class Camera:
    readout: float = key(0.0, "Readout noise: rms, as a share of the brightest pixel.", low=0, high=1)
    background: float = key(0.0, "Level beneath the images, as a share of the brightest pixel.", low=0, high=10)
    gradient: float = key(
        0.0, "How much it rises from corner to corner, as a share of the brightest pixel.", low=0, high=10
    )
    gain_drift: float = key(0.0, "How the brightness drifts from image to image: rms of a factor.", low=0, high=0.3)
    tilt_blur_px: float = key(0.0, "Blur that grows as the sine of the tilt: sigma in pixels at 90 degrees.", low=0)
    saturation: float = key(
        0.0,
        "Intensity that saturates with thickness: the share that the brightest pixel loses; one half as bright loses "
        "half of that share.",
        low=0,
        high=0.5,
    )
    hot_pixels: float = key(0.0, "Share of the pixels that are hot, the same in all images.", low=0, high=0.5)


@dataclass
class Simulate:
    specimen: str = key("nanostar_alloying", "The particle, and with it what changes.", among=SPECIMENS)
    size: int = key(64, "Edge of the volume in voxels.", low=8)
    n_z: int | None = key(
        None,
        "Number of voxels along the tilt axis; by default as many as size. Fewer show the middle of the specimen only.",
        low=2,
    )
    frames: int = key(100, "Number of images.", low=2)
    scheme: str = key("grs", "Order of the angles: golden-ratio scanning, one sweep, or several.", among=SCHEMES)
    sweeps: int = key(5, "Number of sweeps of the scheme pingpong.", low=1)
    max_angle: float = key(70.0, "Largest tilt angle in degrees.", low=1, high=90)
    peak_counts: float = key(500.0, "Poisson noise: counts at the brightest pixel; 0 for none.", low=0)
    jitter: float = key(0.0, "Misalignment: rms in pixels of a random shift of each image, along z and s.", low=0)
    camera: Camera = field(default_factory=Camera)


@dataclass
class Network:
    name: str = key(
        "dip",
        "dip: ours. voxels: the same low rank, free in each voxel. dipster, tddip: networks of other groups.",
        among=NETWORKS,
    )
    use_row: bool = key(True, "Feed the measured rows to the network, back-projected; else only (z, t).")
    channels: int = key(32, "Channels of the decoder.", low=8)
    z_detail_px: float | None = key(
        None,
        "Finest detail along the tilt axis in pixels (shortest wave of z); by default 12, or 6 where the images hold "
        "waves of that length far above their noise.",
        low=2,
    )
    rank: int = key(10, "Functions of time whose mixture makes the logit of every voxel.", low=1)
    change: str = key(
        "auto",
        "Whether the specimen changes: never, the movie stands still; auto: what the short fits of network.motion=auto "
        "find.",
        among=("auto", "always", "never"),
    )
    ensemble: int | None = key(
        None,
        "Networks side by side, of a specimen at rest, whose mean is the result; a step shares its positions out among "
        "them. By default 2 where the steps show every row 500 times, of up to 32 positions z in 2000 steps; else, and "
        "with train.max_minutes, 1.",
        low=1,
    )
    materials: int = key(
        2,
        "Bounded materials whose sum is the specimen at rest: of two, an interface is as sharp as a surface.",
        low=1,
    )
    intensity_bound: float | None = key(
        None,
        "Intensity per voxel of the brightest material, from which its bound is learned; by default a guess, which is "
        "too low for particles of a few voxels (then they come out long along the beam).",
        low=1e-9,
    )
    start_iterations: int = key(50, "Iterations of the SIRT that the network voxels starts from.", low=1)
    damping: float = key(0.3, "The k-th function of time is divided by 1 + damping k: slow changes first.", low=0)
    time_warp: bool = key(True, "Learn the specimen's own time, in which even a sudden event is a slow change.")
    windows: int = key(10, "Windows of time in which the rows of one z are back-projected.", low=1)
    motion: str = key(
        "auto",
        "Learn how the specimen moves apart from its change: rigid, how it turns and travels as a whole; free_form, "
        "how it bends and twists, too; auto: what short fits find; not in a single sweep, where a turn is a tilt, nor "
        "with align.refine, which places every image.",
        among=("auto", "never", "rigid", "free_form"),
    )


@dataclass
class Train:
    steps: int | None = key(
        None, "Optimizer steps; by default as many as show every row 250 times, and at least 2000.", low=1
    )
    max_minutes: float | None = key(
        None,
        "Time budget of the run, of which the fit has 60 %; empty: as long as it takes, the same on a busy machine.",
        low=0.01,
    )
    learning_rate: float = key(
        4e-3, "Peak of the one-cycle schedule, of Adam; Muon has five times that.", low=1e-7, high=1
    )
    schedule: str = key("one_cycle", "The learning rate over the fit.", among=("one_cycle", "constant"))
    slices: int = key(8, "Positions z in a batch.", low=1)
    rows: int | None = key(None, "Rows of each position in a step, drawn at random; by default all of them.", low=1)
    loss: str = key(
        "weighted",
        "Misfit of projected and measured rows: squared, weighted by the noise of each pixel or not, or bounded.",
        among=("weighted", "squared", "geman_mcclure"),
    )
    tv_space: float = key(
        3.0, "Weight of the total variation of the orthoslices in space, times the variance of the noise.", low=0
    )
    tv_time: float = key(8.0, "Weight of their total variation in time, times the variance of the noise.", low=0)
    tv_z: float = key(
        0.0,
        "Weight of that along the tilt axis, where a batch holds neighbours, as those of network=voxels do.",
        low=0,
    )
    ema_decay: float = key(
        0.99,
        "Decay in a step of the averaged weights, which are those that are measured and kept; 0 for none.",
        low=0.0,
        high=1.0,
    )
    checkpoint_seconds: float = key(45.0, "Seconds between checkpoints.", low=0.1)


@dataclass
class Compare:
    methods: list[str] | None = key(
        None,
        "Conventional reconstructions to stand beside: sirt, fbp, em or tv, _whole, _window or _frozen (needs truth); "
        "or sttv, total variation in space and time of all frames at once; by default sirt_whole, sirt_window and "
        "sirt_frozen, or, without truth, tv_whole.",
        among=METHODS,
    )
    iterations: int = key(500, "The most iterations to try; the best number up to it is used.", low=1)
    windows: list[int] = key(
        [10, 20, 30, 40, 60, 80], "Widths in images of the sliding window; the best is used.", low=2
    )


@dataclass
class Output:
    times: list[float] | None = key(
        None, "Times in s, between images too, whose volumes are written; by default those of the images."
    )
    save: list[str] = key(
        [],
        "What else to save, as OME-TIFF in RUN/saved: truth, series (the images as fitted), and conventional methods, "
        "such as sirt_window, at every image.",
        among=SAVEABLE,
    )
    figures: bool = key(
        True,
        "Draw figures, also while it fits; if not, as for a series of many runs, `dip4d report RUN` draws them later.",
    )


@dataclass
class Uncertainty:
    members: int = key(
        0,
        "Networks whose spread is the standard deviation of every voxel, 3 or more; 0 for none. Each takes a fifth of "
        "the time of the fit.",
        low=0,
    )


@dataclass
class Evaluate:
    elements: list[str] = key(
        [],
        "What the specimen is made of, one or two elements such as [Au,Ag]: then their amounts are measured; of a "
        "simulated one it is known.",
        among=ELEMENTS,
    )
    intensities: list[float] = key(
        [],
        "Intensity per voxel of each element where it is pure, such as [0.9,0.4], where that is calibrated; by default "
        "the brightest material is taken for the heavier element, pure.",
        low=0.0,
    )
    exponent: float = key(1.7, "HAADF intensity grows as Z to this power.", low=0.1, high=3)


@dataclass
class Tracking:
    group: str | None = key(None, "Group of runs in Weights & Biases that this one belongs to.")
    tags: list[str] = key([], "Its tags there, such as [needle,first], by which runs are found again.")
    artifacts: bool = key(False, "Send volumes, checkpoint, configuration and metrics there too, as an artifact.")


@dataclass
class Config:
    run: Run = field(default_factory=Run)
    data: Data = field(default_factory=Data)
    align: Align = field(default_factory=Align)
    simulate: Simulate = field(default_factory=Simulate)
    network: Network = field(default_factory=Network)
    train: Train = field(default_factory=Train)
    compare: Compare = field(default_factory=Compare)
    output: Output = field(default_factory=Output)
    uncertainty: Uncertainty = field(default_factory=Uncertainty)
    evaluate: Evaluate = field(default_factory=Evaluate)
    logger: str = key(
        "wandb", "Where the run is tracked; wandb works offline, without an account.",
        among=("wandb", "tensorboard", "csv"),
    )  # fmt: skip
    tracking: Tracking = field(default_factory=Tracking)
    trainer: dict[str, Any] = key({}, "Passed to the Lightning Trainer, for example trainer.accelerator=gpu.")


RENAMED = {  # keys of version 0.1; they are understood for one version more
    "data.hold_out": "data.validation_rows",
    "data.hold_out_images": "data.test_images",
    "data.hold_out_in_a_row": "data.test_images_in_a_row",
    "simulate.depth": "simulate.n_z",
    "simulate.dose": "simulate.peak_counts",
    "network.wavelength": "network.z_detail_px",
    "network.brightest": "network.intensity_bound",
    "network.clock": "network.time_warp",
    "train.smoothness": "train.tv_space",
    "train.steadiness": "train.tv_time",
    "train.average": "train.ema_decay",
}
REMOVED = {  # keys of version 0.1 that do nothing any more, and why
    "compare.resolution": "the resolution is always told, from rows that the fit has not seen",
}
