"""What a run survives: kill -9 at random moments, signals, a full disk, hostile files.

    python benchmarks/faults.py [--kills 60] [--only kills signals disk files] [--seed 0]

Tiny runs on the CPU without a clock, each in a process of its own, are ended at a random moment and resumed. One has
survived if every file under its final name was whole when it was ended, and if, resumed, it is complete and equal to
the last bit to a run that was never ended. A hostile file is survived if it is refused in one line with exit code 2,
and nothing of it has run. Prints a table and writes results/faults.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
HERE = Path(__file__).resolve().parent
TINY = [
    "simulate.size=8", "simulate.frames=8", "network.channels=8", "network.rank=3", "network.motion=never",
    "train.steps=24", "train.slices=4", "train.checkpoint_seconds=0.1", "trainer.val_check_interval=8",
    "trainer.accelerator=cpu", "align.refine=true", "uncertainty.members=3", "compare.methods=[sirt_whole]",
    "compare.iterations=10", "logger=csv",
]  # fmt: skip
EQUAL = ("volumes.ome.tif", "uncertainty.ome.tif", "shifts.csv")  # besides the weights, to the last bit
NOT_USABLE = 3  # the exit code of such a verdict
PRELOADED = ["dip4d.commands.reconstruct", "dip4d.experiment.run", "dip4d.report.run_report", "matplotlib.figure"]


@dataclass
class Row:
    """A line of the table: a fault, how often it was tried, and what was lost."""

    fault: str
    trials: int = 0
    lost: list[str] = field(default_factory=list)

    def add(self, why: str | None) -> None:
        """why: what was lost; None if nothing was."""
        self.trials += 1
        if why is not None:
            self.lost.append(why)
            print(f"  lost: {self.fault}: {why}", flush=True)


def in_process(arguments: list[str], said: Path, environment: dict[str, str] | None = None) -> None:
    """A command in this process, which leaves with its exit code; what it says goes to a file."""
    os.environ.update(environment or {})
    out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    from dip4d.__main__ import main

    sys.exit(main(arguments))


class Lab:
    """Starts runs in processes that have all modules loaded already."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOADED)

    def start(self, *arguments: str, **environment: str):
        said = self.folder / "said.txt"
        said.write_text("")  # not what the run before said
        process = self._context.Process(target=in_process, args=(["reconstruct", *arguments], said, environment))
        process.start()
        return process

    def run(self, *arguments: str, **environment: str) -> int:
        process = self.start(*arguments, **environment)
        process.join()
        return 0 if process.exitcode == NOT_USABLE else process.exitcode  # so short a run is complete, but no more

    @property
    def said(self) -> str:
        return (self.folder / "said.txt").read_text(errors="replace")


def unreadable(folder: Path) -> str | None:
    """The first file of a run under its final name that is not whole; None if all are."""
    import numpy as np
    import tifffile
    from matplotlib.image import imread

    from dip4d.config.load import load_config
    from dip4d.reconstruction.fit import read_checkpoint

    readers: dict[str, Callable[[Path], object]] = {
        ".yaml": lambda p: load_config([str(p)]).run,
        ".ckpt": read_checkpoint,
        ".json": lambda p: json.loads(p.read_text())["methods"],
        ".npz": lambda p: {k: v.shape for k, v in np.load(p, allow_pickle=False).items()},
        ".tif": lambda p: tifffile.memmap(p, mode="r").sum(),
        ".csv": lambda p: np.genfromtxt(p, delimiter=",", skip_header=1)[7],  # as many lines as images
        ".png": imread,
    }
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in readers and "tracking" not in path.parts:
            try:
                readers[path.suffix](path)
            except Exception as error:
                return f"{path.name} is not whole ({error})"
    return None


def different(whole: Path, folder: Path) -> str | None:
    """How a run differs from one that was never ended; None if it is complete, and equal to the last bit."""
    import numpy as np
    import torch
    from tifffile import imread

    from dip4d.run_folder import is_complete, read_metrics

    if not is_complete(folder):
        return "not complete"
    weights = [torch.load(f / "checkpoint.ckpt", weights_only=True)["state_dict"] for f in (whole, folder)]
    if not all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0]):
        return "other weights"
    for name in EQUAL:
        read = imread if name.endswith("tif") else lambda p: np.frombuffer(p.read_bytes(), np.uint8)
        if not np.array_equal(*(read(f / name) for f in (whole, folder))):
            return f"another {name}"
    had, has = read_metrics(whole), read_metrics(folder)
    if {k: v for k, v in had.items() if "seconds" not in k} != {k: v for k, v in has.items() if "seconds" not in k}:
        return "other metrics"
    names = [{f.name for f in (x / "figures").iterdir()} for x in (whole, folder)]
    return None if names[0] == names[1] else f"figures {names[1]}"


def resumed(lab: Lab, folder: Path) -> str | None:
    """Goes on with a run, or begins it again where it had not begun; what was lost, or None."""
    from dip4d.run_folder import CONFIG

    if (broken := unreadable(folder)) is not None:
        return broken
    again = ["run.resume=true"] if (folder / CONFIG).exists() else TINY
    if lab.run(f"run.dir={folder}", *again) != 0:
        return f"the resume failed: {lab.said.splitlines()[-1:]}"
    return different(lab.folder / "whole", folder)


def kills(lab: Lab, row: Row, *, trials: int, rng: random.Random) -> None:
    """kill -9 at moments that are spread evenly over a run; every third trial kills what goes on, too."""
    began = time.monotonic()
    lab.run(f"run.dir={lab.folder / 'timed'}", *TINY)
    seconds = time.monotonic() - began
    moments = [seconds * (trial + rng.random()) / trials for trial in range(trials)]
    rng.shuffle(moments)
    for trial, moment in enumerate(moments):
        folder = lab.folder / f"kill-{trial}"
        killed_at(lab, [f"run.dir={folder}", *TINY], seconds=moment)
        if trial % 3 == 2 and (folder / "config.yaml").exists():
            killed_at(lab, [f"run.dir={folder}", "run.resume=true"], seconds=seconds * rng.random())
        row.add(resumed(lab, folder))
        print(f"  kill {trial + 1} of {trials}: {len(row.lost)} lost", flush=True)
        shutil.rmtree(folder, ignore_errors=True)


def killed_at(lab: Lab, arguments: list[str], *, seconds: float) -> None:
    process = lab.start(*arguments)
    process.join(seconds)
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join()


def during(lab: Lab, process, word: str, signals: tuple[int, ...]) -> int:
    """Sends signals, half a second apart, once a run has said a word; its exit code."""
    while process.is_alive() and word not in lab.said:
        time.sleep(0.02)
    for number in signals:
        if process.is_alive():
            os.kill(process.pid, number)
        process.join(0.5)
    process.join()
    return process.exitcode


def signals(lab: Lab, add: Callable[[str], Row]) -> None:
    """SIGTERM, Ctrl-C and SIGUSR1 of SLURM, in the fit and outside."""
    scontrol = lab.folder / "scontrol"
    scontrol.write_text(f"#!/bin/sh\necho $@ > {lab.folder}/requeued.txt\n")
    scontrol.chmod(0o755)
    slurm = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "1", "PATH": f"{lab.folder}:{os.environ['PATH']}"}
    in_fit, outside, after = "while it fits", "simulated", "uncertainty"
    for name, word, sent, code, environment in (
        ("SIGTERM in the fit: 143", in_fit, (signal.SIGTERM,), 143, {}),
        ("SIGTERM before the fit: 143", outside, (signal.SIGTERM,), 143, {}),
        ("SIGTERM after the fit: 143", after, (signal.SIGTERM,), 143, {}),
        ("Ctrl-C twice in the fit: 130", in_fit, (signal.SIGINT, signal.SIGINT), 130, {}),
        ("Ctrl-C before the fit: 130", outside, (signal.SIGINT,), 130, {}),
        ("SIGUSR1 under SLURM: requeued", in_fit, (signal.SIGUSR1,), 143, slurm),
    ):
        row, folder = add(name), lab.folder / name.replace(" ", "-").replace(":", "")
        found = during(lab, lab.start(f"run.dir={folder}", *LONG, **environment), word, sent)
        why = None if found == code else f"exit code {found}: {lab.said.splitlines()[-1:]}"
        if why is None and word is not outside and "run.resume=true" not in lab.said:
            why = "it does not say how to go on"
        if environment and why is None:
            requeued = lab.folder / "requeued.txt"
            if not requeued.exists() or list(Path().glob("hpc_ckpt*")):
                why = "not requeued, or hpc_ckpt left"
            elif lab.run(f"run.dir={folder}", *LONG, **environment, SLURM_RESTART_COUNT="1"):
                why = f"the requeued job failed: {lab.said.splitlines()[-1:]}"
        again = ["run.resume=true"] if (folder / "config.yaml").exists() else LONG
        if why is None and lab.run(f"run.dir={folder}", *again):
            why = f"the resume failed: {lab.said.splitlines()[-1:]}"
        row.add(why)


LONG = [*TINY, "train.steps=300", "trainer.val_check_interval=100"]  # lasts long enough to be met in its fit


def disk(lab: Lab, add: Callable[[str], Row]) -> None:
    """A disk that fills at different moments: of a run on a small tmpfs, where one can be mounted."""
    place = lab.folder / "small-disk"
    place.mkdir()
    for kb in (64, 128, 256, 512, 768, 1024):
        row = add(f"a disk of {kb} kB")
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={kb}k", "tmpfs", place], capture_output=True
        ).returncode:
            print("  no tmpfs can be mounted here: not tried")
            return
        try:
            folder, why = place / "run", None
            code = lab.run(f"run.dir={folder}", *TINY)
            if "Traceback" in lab.said or code not in (0, 2):
                why = f"exit code {code}: {lab.said.splitlines()[-1:]}"
            elif code == 2:
                kept = lab.folder / f"disk-{kb}"
                shutil.copytree(folder, kept) if folder.exists() else None
                why = resumed(lab, kept)  # on a larger disk
            row.add(why)
        finally:
            subprocess.run(["umount", place], check=True)


class Evil:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def hostile(lab: Lab) -> Iterator[tuple[str, str, bytes]]:
    """Files that are no part of a run: what they are, the name they take, and their bytes."""
    import io

    import numpy as np
    import torch

    whole = lab.folder / "whole"
    evil = Evil(lab.folder / "ran.txt")
    checkpoint = (whole / "checkpoint.ckpt").read_bytes()
    with_code = io.BytesIO()
    torch.save({**torch.load(whole / "checkpoint.ckpt", weights_only=True), "evil": evil}, with_code)
    middle = len(checkpoint) // 2
    flipped = bytearray(checkpoint)
    flipped[middle] ^= 0xFF
    objects = io.BytesIO()
    np.savez(objects, frames=np.array([evil], object))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("readme.txt", "a zip, and no checkpoint")
    foreign = io.BytesIO()
    torch.save({"state_dict": {}, "epoch": 3}, foreign)
    for what, data in (
        ("with code", with_code.getvalue()), ("a pickle", pickle.dumps(evil)), ("empty", b""),
        ("cut", checkpoint[:middle]), ("a bit flipped", bytes(flipped)), ("text", b"hello\n" * 99),
        ("a zip", archive.getvalue()), ("foreign", foreign.getvalue()),
    ):  # fmt: skip
        yield f"checkpoint, {what}", "checkpoint.ckpt", data
    metrics = (whole / "metrics.json").read_bytes()
    for what, data in (
        ("empty", b""), ("cut", metrics[: len(metrics) // 2]), ("a list", b"[]"), ("no keys", b"{}"),
        ("other keys", b'{"methods": {"dip": 3}, "times_s": "x", "complete": true}'), ("binary", b"\xff\xfe\x00"),
        ("nested", b"[" * 10**5),
    ):  # fmt: skip
        yield f"metrics.json, {what}", "metrics.json", data
    slices = (whole / "orthoslices.npz").read_bytes()
    for what, data in (
        ("with code", objects.getvalue()), ("empty", b""), ("cut", slices[: len(slices) // 2]), ("text", b"hello"),
    ):  # fmt: skip
        yield f"orthoslices.npz, {what}", "orthoslices.npz", data
    config = (whole / "config.yaml").read_bytes()
    for what, data in (
        ("looks up the environment", config + b"trainer: {precision: '${oc.env:HOME}'}\n"),
        ("a python object", b"run: !!python/object/apply:os.system ['true']\n"), ("binary", b"\xff\x00"),
    ):  # fmt: skip
        yield f"config.yaml, {what}", "config.yaml", data


def files(lab: Lab, add: Callable[[str], Row]) -> None:
    """Hostile files in the place of those of a run, which is then resumed and reported."""
    for what, name, data in hostile(lab):
        row, folder = add(what), lab.folder / "hostile"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(lab.folder / "whole", folder)
        (folder / name).write_bytes(data)
        if name != "metrics.json" and name != "orthoslices.npz":  # else they are not read again
            metrics = json.loads((folder / "metrics.json").read_text())
            del metrics["complete"]
            (folder / "metrics.json").write_text(json.dumps(metrics))
            row.add(refused(lab, folder, ["reconstruct", f"run.dir={folder}", "run.resume=true"]))
        else:
            row.add(refused(lab, folder, ["report", str(folder)]))


def refused(lab: Lab, folder: Path, arguments: list[str]) -> str | None:
    """None if a command refuses a folder in one line; else what it does instead."""
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=in_process, args=(arguments, lab.folder / "said.txt", {}))
    process.start()
    process.join(600)
    if (lab.folder / "ran.txt").exists():
        return "its code has run"
    errors = [line for line in lab.said.splitlines() if line.startswith("error: ")]
    if process.exitcode == 2 and len(errors) == 1 and "Traceback" not in lab.said:
        return None
    return f"exit code {process.exitcode}: {lab.said.splitlines()[-1:]}"


def main(arguments: list[str] | None = None) -> list[Row]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--only", nargs="+", choices=("kills", "signals", "disk", "files"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=HERE / "results" / "faults.json")
    given = parser.parse_args(arguments)
    parts, rows = given.only or ("kills", "signals", "disk", "files"), []

    def add(fault: str) -> Row:
        rows.append(Row(fault))
        return rows[-1]

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        lab = Lab(Path(folder))
        assert lab.run(f"run.dir={folder}/whole", *TINY) == 0, lab.said
        if "kills" in parts:
            with contextlib.suppress(KeyboardInterrupt):  # enough of them
                kills(lab, add("kill -9"), trials=given.kills, rng=random.Random(given.seed))
        for name, part in (("signals", signals), ("disk", disk), ("files", files)):
            if name in parts:
                part(lab, add)
    print("\n| fault | trials | survived | lost |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row.fault} | {row.trials} | {row.trials - len(row.lost)} | {len(row.lost)} |")
    given.results.write_text(json.dumps([vars(row) for row in rows], indent=1) + "\n")
    return rows


if __name__ == "__main__":
    sys.exit(any(row.lost for row in main()))
