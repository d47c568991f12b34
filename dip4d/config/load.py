"""From YAML files and ``key=value`` arguments to a checked configuration.

Whatever does not fit is refused by name before any work starts.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dip4d.config.schema import LEAST_MEMBERS, NETWORKS, REMOVED, RENAMED, Config, Evaluate, Tracking
from dip4d.errors import InputError
from dip4d.whole_file import written_beside

PRESETS = Path(__file__).parent / "presets"
_PATHS = (("run", "dir"), ("data", "path"), ("data", "angles"), ("data", "truth"), ("align", "shifts"))  # of users
_MAY_CHANGE = {"run.dir", "run.resume", "logger", "train.steps", "train.max_minutes", "train.checkpoint_seconds"}
LONGEST_NAME = 64  # of a group or a tag in W&B, characters
_SET_HERE = {  # of the Trainer's: a run has keys of its own for them, or depends on them
    "max_steps": "train.steps",
    "min_steps": "train.steps",
    "max_epochs": "train.steps",
    "min_epochs": "train.steps",
    "max_time": "train.max_minutes",
    "logger": "logger",
    "enable_checkpointing": "train.checkpoint_seconds",
    "default_root_dir": "run.dir",
    "accumulate_grad_batches": "train.slices",
    "limit_train_batches": "train.steps",
    "limit_val_batches": "data.validation_rows",
    "overfit_batches": "train.steps",
    "fast_dev_run": "train.steps",
    "barebones": "logger=csv",
    "num_sanity_val_steps": None,
    "num_nodes": None,
    "callbacks": None,
    "plugins": None,
    "check_val_every_n_epoch": None,
    "reload_dataloaders_every_n_epochs": None,
    "use_distributed_sampler": None,
    "model_registry": None,
}
_log = logging.getLogger(__name__)


def load_config(arguments: Sequence[str]) -> Config:
    """YAML files and ``key=value`` overrides, later ones winning, as a checked `Config`.

    A leading ``--`` is allowed, as W&B sweeps write it. ``network=NAME`` stands for the preset NAME, the network with
    all that belongs to it. Keys of the version before are understood, with a line in the log that names the new one.
    Raises InputError for an unknown key (with the nearest known one), a wrong type or a value out of range.
    """
    layers = []
    for argument in arguments:
        argument = argument.removeprefix("--")
        if "=" in argument:
            layers.append((_preset(argument) or _override(argument), argument))
        elif argument.endswith((".yaml", ".yml")):
            layers.append((_file(Path(argument)), argument))
        else:
            raise InputError(f"'{argument}' is neither a .yaml file nor key=value; see --help")
    return _merged(layers)


def _no_lookups(value: Any, source: str) -> None:
    """Raises InputError for ${...}, which OmegaConf would look up, in the environment of whoever runs a shared file."""
    if isinstance(value, Mapping):
        for each in (*value.keys(), *value.values()):
            _no_lookups(each, source)
    elif isinstance(value, list):
        for each in value:
            _no_lookups(each, source)
    elif isinstance(value, str) and "${" in value:
        raise InputError(f"{source}: {value} is not looked up; write the value itself")


def config_of(**keys: Any) -> Config:
    """A checked `Config` from Python values: sections as dicts, keys by their dotted names, presets by their names.

    ``config_of(network="dipster", train={"steps": 500}, **{"run.seed": 3})``. A preset gives way to all other keys.
    Raises InputError as `load_config`.
    """
    presets, others = [], []
    for name, value in keys.items():
        layer = _preset(f"{name}={value}") if isinstance(value, str) else None
        if layer is None:
            others.append((layer := OmegaConf.create(), name))
            OmegaConf.update(layer, name, value, merge=True)
        else:
            presets.append((layer, name))
    return _merged(presets + others)


def _merged(layers: Sequence[tuple[DictConfig, str]]) -> Config:
    """The defaults with layers on top, later ones winning; each with where it is from, for errors."""
    config = OmegaConf.structured(Config)
    for layer, source in layers:
        _no_lookups(OmegaConf.to_container(layer, resolve=False), source)
        layer = _with_new_names(layer, source)
        for name in _leaves(layer):
            _check_known(name, source)
        try:
            config = OmegaConf.merge(config, layer)
        except OmegaConfBaseException as error:
            raise InputError(f"{source}: {error.full_key or ''}: {str(error).splitlines()[0]}") from None
    checked = OmegaConf.to_object(config)
    assert isinstance(checked, Config)
    for section, name in _PATHS:
        path = getattr(getattr(checked, section), name)
        setattr(getattr(checked, section), name, path and os.path.expanduser(path))
    _check_values(checked)
    return checked


def _with_new_names(layer: DictConfig, source: str) -> DictConfig:
    """The layer with the keys of `RENAMED` under their new names, and without those of `REMOVED`."""
    names = set(_leaves(layer))
    old_names = {old: new for old, new in RENAMED.items() if old in names}
    for old, new in old_names.items():
        if new in names:
            raise InputError(f"{source}: {old} is the old name of {new}; give one of them")
        section, name = old.split(".")
        OmegaConf.update(layer, new, layer[section]._get_node(name), merge=True)
        del layer[section][name]
    for name in REMOVED.keys() & names:
        section, last = name.split(".")
        del layer[section][last]
        _log.warning("%s: %s does nothing any more: %s", source, name, REMOVED[name])
    if old_names:
        said = ", ".join(f"{old} is now {new}" for old, new in old_names.items())
        _log.warning("%s: %s; old names are refused by the next version", source, said)
    return layer


def save_config(config: Config, path: Path) -> None:
    """Writes all keys, so that ``dip4d reconstruct path`` repeats the run, in a new folder and from any other."""
    run = dataclasses.replace(config.run, dir=None, resume=False, overwrite=False)
    files = {k: str(Path(v).resolve()) for k in ("path", "angles", "truth") if (v := getattr(config.data, k))}
    align = dataclasses.replace(config.align, shifts=config.align.shifts and str(Path(config.align.shifts).resolve()))
    config = dataclasses.replace(config, run=run, data=dataclasses.replace(config.data, **files), align=align)
    with written_beside(path) as place:
        OmegaConf.save(OmegaConf.structured(config), place)


def check_same_run(saved: Path, arguments: Sequence[str]) -> Config:
    """The configuration to resume with: the saved one, with the arguments on top.

    Raises InputError if they change what the network is or what it has seen.
    """
    before, after = load_config([str(saved)]), load_config([str(saved), *arguments])
    was = {name: value for name, _, value in _entries(before)}
    for name, _, value in _entries(after):
        changed = value != was[name] and not (was[name] and Path(str(value)).resolve() == Path(str(was[name])))
        if (
            changed
            and name not in _MAY_CHANGE
            and name.split(".")[0] not in ("trainer", "compare", "output", "evaluate", "tracking")
        ):
            raise InputError(f"cannot resume with {name}={value}: the run began with {was[name]}")
    return after


def changed_keys(config: Config) -> list[str]:
    """The dotted names of the keys that differ from their defaults."""
    return list(changed_values(config))


def changed_values(config: Config) -> dict[str, Any]:
    """The keys that differ from their defaults, by their dotted names."""
    defaults = {name: value for name, _, value in _entries(Config())}
    return {name: value for name, _, value in _entries(config) if value != defaults[name]}


def help_text() -> str:
    """All keys with their defaults and sentences."""
    lines = []
    for name, entry, default in _entries(Config()):
        among = entry.metadata["among"]
        choice = ""
        if among is not None and isinstance(default, str) and getattr(among, "listed", True):
            choice = f" One of: {', '.join(among)}."
        value = "" if default is None else str(default).replace(" ", "").replace("'", "")
        lines.append(f"  {name + '=' + value:42s} {entry.metadata['sentence']}{choice}")
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
    if name in known:
        return _file(folder / f"{name}.yaml")
    if section == "network":
        if name in NETWORKS:  # one that needs no settings of its own
            return OmegaConf.create({"network": {"name": name}})
        known = sorted({*known, *NETWORKS})
    raise InputError(f"{argument}: must be one of {', '.join(known)}")


def _override(argument: str) -> DictConfig:
    """The layer of one key=value; a path is taken as it is, with whatever YAML would make of its characters."""
    name, value = argument.split("=", 1)
    is_path = tuple(name.split(".")) in _PATHS and value not in ("", "~", "null") and "${" not in value
    if is_path and not (value[0] in "'\"" and value[-1] == value[0]):
        layer = OmegaConf.create()
        OmegaConf.update(layer, name, value, merge=True)
        return layer
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
    sections = {k.split(".")[0] for k in known if "." in k} | {"trainer"}
    if name.startswith("trainer."):  # what lies below is Lightning's to judge
        name = ".".join(name.split(".")[:2])
        known += _trainer_keys()
    if name in known or name in sections:
        return
    last = {k.split(".")[-1]: k for k in known}
    near = difflib.get_close_matches(name, known, 1) or [
        last[n] for n in difflib.get_close_matches(name.split(".")[-1], last, 1)
    ]
    hint = f"; did you mean {near[0]}?" if near else "; see --help"
    raise InputError(f"{source}: unknown key {name}{hint}")


def _trainer_keys() -> list[str]:
    from lightning import Trainer  # slow to import, and seldom asked for

    return [f"trainer.{p}" for p in inspect.signature(Trainer.__init__).parameters if p != "self"]


def _check_values(config: Config) -> None:
    for name, entry, value in _entries(config):
        for item in value if isinstance(value, list) else [value]:
            if item is not None:
                _check_value(name, item, meta=entry.metadata)
    _check_together(config)


def _check_value(name: str, item: Any, *, meta: Mapping[str, Any]) -> None:
    """One value, or one of a list, against what `key` says of it."""
    among, low, high = meta["among"], meta["low"], meta["high"]
    if among is not None and item != _default(name) and item not in among:
        near = difflib.get_close_matches(str(item), list(among), 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputError(f"{name}={item} must be one of {', '.join(among)}{hint}")
    if low is not None and not item >= low:
        raise InputError(f"{name}={item} must be at least {low:g}; the nearest valid value is {low:g}")
    if high is not None and not item <= high:
        raise InputError(f"{name}={item} must be at most {high:g}; the nearest valid value is {high:g}")


def _default(name: str) -> Any:
    """The default of a key: it needs no look-up of the names among which it must be."""
    return next(value for entry, _, value in _entries(Config()) if entry == name)


def _check_elements(evaluate: Evaluate) -> None:
    names, intensities = evaluate.elements, evaluate.intensities
    given = f"evaluate.elements=[{','.join(names)}]"
    if len(names) > 2 or len(set(names)) < len(names):
        raise InputError(f"{given} must be one or two different elements")
    if intensities and (len(intensities) != len(names) or len(set(intensities)) < len(names) or 0 in intensities):
        shown = ",".join(f"{i:g}" for i in intensities)
        raise InputError(f"evaluate.intensities=[{shown}] must be different numbers above 0, one for each of {given}")


def _check_tracking(tracking: Tracking) -> None:
    """The names that W&B takes."""
    for name, given in [("group", tracking.group)] + [("tags", tag) for tag in tracking.tags]:
        if given is not None and not 0 < len(given) <= LONGEST_NAME:
            raise InputError(f"tracking.{name}={given} must have 1 to {LONGEST_NAME} characters")


def _check_together(config: Config) -> None:
    """What the range of a single key cannot say."""
    if config.data.crop is not None and len(config.data.crop) != 4:
        raise InputError(f"data.crop={config.data.crop} must be four numbers: z0, z1, s0, s1")
    if config.data.background not in ("auto", "none"):
        try:
            float(config.data.background)
        except ValueError:
            raise InputError(f"data.background={config.data.background} must be auto, none or a number") from None
    if 0 < (members := config.uncertainty.members) < LEAST_MEMBERS:
        raise InputError(f"uncertainty.members={members} must be 0 or at least {LEAST_MEMBERS}, to have a spread")
    _check_elements(config.evaluate)
    _check_tracking(config.tracking)
    if config.run.resume and config.run.overwrite:
        raise InputError("run.resume and run.overwrite exclude each other")
    if config.run.resume and config.run.dir is None:
        raise InputError("run.resume=true needs run.dir, the folder of the run to go on with")
    for name in config.trainer:
        if name in _SET_HERE:
            instead = f": give {own}" if (own := _SET_HERE[name]) else ""
            raise InputError(f"trainer.{name} is set by the run itself{instead}")
    clip = config.trainer.get("gradient_clip_val")
    if isinstance(clip, (int, float)) and not clip >= 0:
        raise InputError(f"trainer.gradient_clip_val={clip} must be at least 0")
    every = config.trainer.get("val_check_interval", 1)
    if not (isinstance(every, int) and every >= 1):
        raise InputError(f"trainer.val_check_interval={every} must be a whole number of steps, at least 1")
