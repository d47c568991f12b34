"""The configuration: every key, its default, its range and a sentence about it, each stated once.

`load_config` merges YAML files and ``key=value`` overrides into it; whatever does not fit is refused by name before
any work starts.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dip4d.conventional import METHODS
from dip4d.errors import InputError
from dip4d.simulate import SCHEMES
from dip4d.specimens import SPECIMENS


def key(default: Any, sentence: str, low: float | None = None, high: float | None = None, among: Any = None) -> Any:
    """A key of the configuration: its default, what it means, and its range or the names it may take."""
    metadata = {"sentence": sentence, "low": low, "high": high, "among": None if among is None else list(among)}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


PRESETS = Path(__file__).parents[1] / "configs"
_MAY_CHANGE = {"run.dir", "run.resume", "logger", "train.steps", "train.max_minutes", "train.checkpoint_seconds"}


@dataclass
class Run:
    dir: str | None = key(None, "Folder of this run; by default runs/<time>-<what>.")
    seed: int = key(0, "The one seed: specimen, noise, held-out rows and weights all derive from it.", low=0)
    resume: bool = key(False, "Go on from the last checkpoint in run.dir.")
    overwrite: bool = key(False, "Replace the run that run.dir already holds.")


@dataclass
class Data:
    path: str | None = key(None, "A tilt series file, or a folder of images (see data/README.md); empty: simulate.")
    angles: str | None = key(None, "Angle file (.tlt .rawtlt .txt .csv .mdoc), where the series lacks its own.")
    tilt_axis: str = key("y", "The image axis along which the tilt axis lies: x (columns) or y (rows).", among="xy")
    pixel_nm: float | None = key(None, "Pixel size in nm, where the file does not know it.", low=1e-6)
    bin: int = key(1, "Whole-number binning of the images.", low=1)
    crop: list[int] | None = key(None, "Window (z0, z1, s0, s1) of the images in pixels, cut before binning.", low=0)
    background: str = key(
        "auto", "Level to subtract from the images: auto (of each image, from its border), none, or a number."
    )
    exclude: list[int] = key([], "Images to leave out, such as [12,40]: counted from 0 in the order of time.", low=0)
    hold_out: float = key(0.05, "Share of the rows held out of training to measure the error without truth.", 0.0, 0.5)
    hold_out_images: float = key(
        0.03, "Share of whole images (all of a view together, where angles are repeated) held out of everything, to "
        "measure how well they are predicted; none with align.refine, which has to see an image to place it.",
        low=0.0, high=0.2,
    )  # fmt: skip
    hold_out_in_a_row: int = key(
        1, "Views next to each other in time that are held out together. In a sweep neighbours tell most of a single "
        "one: only a gap of several shows what a reconstruction is worth.", low=1,
    )  # fmt: skip
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
class Simulate:
    specimen: str = key("nanostar_alloying", "The particle, and with it what changes.", among=SPECIMENS)
    size: int = key(64, "Edge of the volume in voxels.", low=8)
    depth: int | None = key(
        None,
        "Number of voxels along the tilt axis; by default as many as size. Fewer show the middle of the specimen only.",
        low=2,
    )
    frames: int = key(100, "Number of images.", low=2)
    scheme: str = key("grs", "Order of the angles: golden-ratio scanning, one sweep, or several.", among=SCHEMES)
    sweeps: int = key(5, "Number of sweeps of the scheme pingpong.", low=1)
    max_angle: float = key(70.0, "Largest tilt angle in degrees.", low=1, high=90)
    dose: float = key(500.0, "Poisson noise: counts at the brightest pixel; 0 for none.", low=0)
    jitter: float = key(0.0, "Misalignment: rms in pixels of a random shift of each image, along z and s.", low=0)


@dataclass
class Network:
    name: str = key(
        "dip",
        "dip: ours. voxels: the same low rank, free in each voxel. dipster, tddip: networks of other groups.",
        among=["dip", "voxels", "dipster", "tddip"],
    )
    use_row: bool = key(True, "Feed the measured rows to the network, back-projected; else only (z, t).")
    channels: int = key(32, "Channels of the decoder.", low=8)
    wavelength: float = key(
        12.0, "Shortest wave of the Fourier features of z, in pixels; less for sharp layers along the tilt axis.", low=2
    )
    rank: int = key(10, "Functions of time whose mixture makes the logit of every voxel.", low=1)
    brightest: float | None = key(
        None, "Intensity per voxel of the brightest material, from which its bound is learned; by default a guess, "
        "which is too low for particles of a few voxels (then they come out long along the beam).", low=1e-9,
    )  # fmt: skip
    start_iterations: int = key(50, "Iterations of the SIRT that the network voxels starts from.", low=1)
    damping: float = key(0.3, "The k-th function of time is divided by 1 + damping k: slow changes first.", low=0)
    clock: bool = key(True, "Learn the specimen's own time, in which even a sudden event is a slow change.")
    windows: int = key(10, "Windows of time in which the rows of one z are back-projected.", low=1)
    motion: str = key(
        "auto",
        "Learn how the specimen turns and travels as a whole apart from its change; auto: if a short fit finds that it "
        "does; not in a single sweep, where a turn is a tilt, nor with align.refine, which places every image.",
        among=["auto", "always", "never"],
    )


@dataclass
class Train:
    steps: int | None = key(
        None, "Optimiser steps; by default as many as show every row 500 times, and at least 2000.", low=1
    )
    max_minutes: float | None = key(9.0, "Time budget of the run; the schedule fits itself to it.", low=0.01)
    learning_rate: float = key(
        4e-3, "Peak of the one-cycle schedule, of Adam; Muon has five times that.", low=1e-7, high=1
    )
    schedule: str = key("one_cycle", "The learning rate over the fit.", among=["one_cycle", "constant"])
    slices: int = key(8, "Positions z in a batch.", low=1)
    rows: int | None = key(None, "Rows of each position in a step, drawn at random; by default all of them.", low=1)
    loss: str = key("squared", "Misfit of projected and measured rows.", among=["squared", "geman_mcclure"])
    smoothness: float = key(
        3.0, "Weight of the total variation of the orthoslices in space, times the variance of the noise.", low=0
    )
    steadiness: float = key(8.0, "Weight of their total variation in time, times the variance of the noise.", low=0)
    average: float = key(
        0.98,
        "Decay in a step of the averaged weights, which are those that are measured and kept; 0 for none.",
        0.0,
        1.0,
    )
    checkpoint_seconds: float = key(45.0, "Seconds between checkpoints.", low=0.1)


@dataclass
class Compare:
    methods: list[str] | None = key(
        None,
        "Conventional reconstructions to stand beside: sirt, fbp, em or tv, _whole, _window or _frozen (needs truth); "
        "by default sirt_whole, sirt_window and, with truth, sirt_frozen, without, tv_whole.",
        among=METHODS,
    )
    iterations: int = key(500, "The most iterations to try; the best number up to it is used.", low=1)
    windows: list[int] = key(
        [10, 20, 30, 40, 60, 80], "Widths in images of the sliding window; the best is used.", low=2
    )
    resolution: bool = key(
        False, "Estimate the resolution by Fourier shell correlation of two further fits, to the odd and to the even "
        "images, which together take about as long as the fit itself."
    )  # fmt: skip


@dataclass
class Output:
    times: list[float] | None = key(
        None, "Times in s, between images too, whose volumes are written; by default those of the images."
    )


@dataclass
class Uncertainty:
    members: int = key(
        0, "Networks whose spread is the standard deviation of every voxel, 3 or more; 0 for none. Each takes a fifth "
        "of the time of the fit.", low=0,
    )  # fmt: skip


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
    logger: str = key("wandb", "Where the run is tracked; wandb works offline, without an account.",
                      among=["wandb", "tensorboard", "csv"])  # fmt: skip
    trainer: dict[str, Any] = key({}, "Passed to the Lightning Trainer, for example trainer.accelerator=gpu.")


def load_config(arguments: Sequence[str]) -> Config:
    """YAML files and ``key=value`` overrides, later ones winning, as a checked `Config`.

    A leading ``--`` is allowed, as W&B sweeps write it. ``network=NAME`` stands for configs/network/NAME.yaml, the
    network with all that belongs to it. Raises InputError for an unknown key (with the nearest known
    one), a wrong type or a value out of range.
    """
    config = OmegaConf.structured(Config)
    for argument in arguments:
        argument = argument.removeprefix("--")
        if "=" in argument:
            layer, source = _preset(argument) or _override(argument), argument
        elif argument.endswith((".yaml", ".yml")):
            layer, source = _file(Path(argument)), argument
        else:
            raise InputError(f"'{argument}' is neither a .yaml file nor key=value; see --help")
        for name in _leaves(layer):
            _check_known(name, source)
        try:
            config = OmegaConf.merge(config, layer)
        except OmegaConfBaseException as error:
            raise InputError(f"{source}: {error.full_key or ''}: {str(error).splitlines()[0]}") from None
    config = OmegaConf.to_object(config)
    _check_values(config)
    return config


def save_config(config: Config, path: Path) -> None:
    """Writes all keys, so that ``train.py path`` repeats the run, in a new folder and from any working directory."""
    run = dataclasses.replace(config.run, dir=None, resume=False, overwrite=False)
    files = {k: str(Path(v).resolve()) for k in ("path", "angles", "truth") if (v := getattr(config.data, k))}
    align = dataclasses.replace(config.align, shifts=config.align.shifts and str(Path(config.align.shifts).resolve()))
    config = dataclasses.replace(config, run=run, data=dataclasses.replace(config.data, **files), align=align)
    OmegaConf.save(OmegaConf.structured(config), path)


def check_same_run(saved: Path, arguments: Sequence[str]) -> Config:
    """The configuration to resume with: the saved one, with the arguments on top.

    Raises InputError if they change what the network is or what it has seen.
    """
    before, after = load_config([str(saved)]), load_config([str(saved), *arguments])
    was = {name: value for name, _, value in _entries(before)}
    for name, _, value in _entries(after):
        changed = value != was[name] and not (was[name] and Path(str(value)).resolve() == Path(str(was[name])))
        if changed and name not in _MAY_CHANGE and name.split(".")[0] not in ("trainer", "compare", "output"):
            raise InputError(f"cannot resume with {name}={value}: the run began with {was[name]}")
    return after


def help_text() -> str:
    """All keys with their defaults and sentences."""
    lines = []
    for name, entry, default in _entries(Config()):
        among = entry.metadata["among"]
        choice = f" One of: {', '.join(among)}." if among and isinstance(default, str) else ""
        shown = "" if default is None else str(default).replace(" ", "").replace("'", "")
        lines.append(f"  {name + '=' + str(shown):42s} {entry.metadata['sentence']}{choice}")
    return "\n".join(lines)


def _entries(section: Any, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field, Any]]:
    """Every key below a section: its dotted name, its field and its value."""
    for entry in dataclasses.fields(section):
        value = getattr(section, entry.name)
        if dataclasses.is_dataclass(value):
            yield from _entries(value, f"{prefix}{entry.name}.")
        else:
            yield prefix + entry.name, entry, value


def _file(path: Path) -> DictConfig:
    if not path.is_file():
        raise InputError(f"{path}: no such configuration file")
    try:
        layer = OmegaConf.load(path)
    except Exception as error:
        raise InputError(f"{path}: not a YAML file ({str(error).splitlines()[0]})") from None
    if not isinstance(layer, DictConfig):
        raise InputError(f"{path}: must hold keys such as 'train: {{steps: 500}}'")
    return layer


def _preset(argument: str) -> DictConfig | None:
    """The file that ``section=name`` stands for; None if the argument is of another kind."""
    section, name = argument.split("=", 1)
    folder = PRESETS / section
    if not section.isidentifier() or not folder.is_dir() or name.startswith("{"):
        return None
    known = sorted(p.stem for p in folder.glob("*.yaml"))
    if name not in known:
        raise InputError(f"{argument}: must be one of {', '.join(known)}")
    return _file(folder / f"{name}.yaml")


def _override(argument: str) -> DictConfig:
    try:
        return OmegaConf.from_dotlist([argument])
    except Exception as error:
        raise InputError(f"'{argument}': not a readable key=value ({str(error).splitlines()[0]})") from None


def _leaves(layer: DictConfig, prefix: str = "") -> Iterator[str]:
    for name in layer:
        node = layer._get_node(name)
        if isinstance(node, DictConfig) and not node._is_none() and len(node):
            yield from _leaves(node, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _check_known(name: str, source: str) -> None:
    known = [entry for entry, _, _ in _entries(Config()) if entry != "trainer"]
    known += [f"trainer.{p}" for p in inspect.signature(lightning.Trainer.__init__).parameters if p != "self"]
    sections = {k.split(".")[0] for k in known if "." in k}
    if name.startswith("trainer."):  # what lies below is Lightning's to judge
        name = ".".join(name.split(".")[:2])
    if name in known or name in sections:
        return
    last = {k.split(".")[-1]: k for k in known}
    near = difflib.get_close_matches(name, known, 1) or [
        last[n] for n in difflib.get_close_matches(name.split(".")[-1], last, 1)
    ]
    hint = f"; did you mean {near[0]}?" if near else "; see --help"
    raise InputError(f"{source}: unknown key {name}{hint}")


def _check_values(config: Config) -> None:
    for name, entry, value in _entries(config):
        meta = entry.metadata
        for item in value if isinstance(value, list) else [value]:
            if meta["among"] and item is not None and item not in meta["among"]:
                near = difflib.get_close_matches(str(item), meta["among"], 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise InputError(f"{name}={item} must be one of {', '.join(meta['among'])}{hint}")
            for bound, wrong, word in ((meta["low"], lambda v, b: not v >= b, "at least"),
                                       (meta["high"], lambda v, b: not v <= b, "at most")):  # fmt: skip
                if bound is not None and item is not None and wrong(item, bound):
                    raise InputError(f"{name}={item} must be {word} {bound:g}; the nearest valid value is {bound:g}")
    if config.data.crop is not None and len(config.data.crop) != 4:
        raise InputError(f"data.crop={config.data.crop} must be four numbers: z0, z1, s0, s1")
    if config.data.background not in ("auto", "none"):
        try:
            float(config.data.background)
        except ValueError:
            raise InputError(f"data.background={config.data.background} must be auto, none or a number") from None
    if config.uncertainty.members in (1, 2):
        raise InputError(f"uncertainty.members={config.uncertainty.members} must be 0 or at least 3, to have a spread")
    if config.run.resume and config.run.overwrite:
        raise InputError("run.resume and run.overwrite exclude each other")
    if config.run.resume and config.run.dir is None:
        raise InputError("run.resume=true needs run.dir, the folder of the run to go on with")
