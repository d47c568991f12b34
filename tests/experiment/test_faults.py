"""Whatever ends a run, it goes on as if nothing had been; nothing of what it had is lost."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shutil
import signal
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch

from dip4d.__main__ import main
from dip4d.io import open_volumes
from dip4d.reconstruction.module import DIP4D
from tests.helpers import StopNowError, interrupt, measured, run, same, weights

TINY = [
    "simulate.size=8",
    "simulate.frames=8",
    "network.channels=8",
    "compare.methods=[]",
    "train.checkpoint_seconds=0.1",
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run with validation at every fifth step and an uncertainty, never interrupted."""
    from tests.conftest import SMALL

    folder = tmp_path_factory.mktemp("faults") / "whole"
    arguments = [*SMALL, *TINY, "train.steps=12", "trainer.val_check_interval=5", "uncertainty.members=3"]
    run(folder, *arguments)
    return folder, arguments


def pull_the_plug(monkeypatch, hook: str, step: int) -> None:
    """The fit ends with an exception in a hook at a step; checkpoints are due at every look at the clock."""
    before = getattr(DIP4D, hook)

    def pull(self, *arguments):
        if self.global_step == step and self.trainer.max_steps == 12:
            raise StopNowError
        return before(self, *arguments)

    interrupt(monkeypatch, step=10**6)
    monkeypatch.setattr(DIP4D, hook, pull)


@pytest.mark.parametrize(
    ("hook", "step"),
    [
        ("on_validation_start", 5),  # a step whose validation has not been
        ("on_train_end", 12),  # the last step, before the weights are chosen
    ],
)
def test_a_run_goes_on_exactly_from_any_step(tmp_path, whole, hook, step):
    folder, arguments = whole
    with pytest.MonkeyPatch.context() as patch:
        pull_the_plug(patch, hook, step)
        with pytest.raises(StopNowError):
            run(tmp_path, *arguments)
    run(tmp_path, "run.resume=true")
    assert same(weights(folder), weights(tmp_path))
    for name in ("volumes.ome.tif", "uncertainty.ome.tif"):
        np.testing.assert_array_equal(*(np.array(open_volumes(f / name)) for f in (folder, tmp_path)))


def stack(frames: int = 10, *, width: int = 10, scale: float = 1.0) -> np.ndarray:
    """Noisy images (t, z, s) with a bright block."""
    images = np.random.default_rng(0).poisson(20, (frames, 8, width)).astype(float)
    images[:, 2:6, width // 3 : width // 3 + 4] += 100
    return (scale * images).astype(np.float32)


@pytest.mark.parametrize(
    ("images", "arguments", "says"),
    [
        (stack(2), [], "2 images are too few, it takes 3 or more"),
        (0 * stack(), [], "the series is blank"),
        (0 * stack() + 5, [], "the series is blank"),
        (-stack(), ["data.background=none"], "no pixel is brighter than the background"),
        (stack(width=1), [], r"images of 8 x 1 pixels are too narrow .* \(key data.tilt_axis\)"),
        (stack(scale=1e-40), [], "beyond what can be computed; scale them"),
        (stack(), ["trainer.precision=banana"], "Precision 'banana' is invalid"),
        (stack(), ["trainer.accelerator=banana"], "invalid accelerator name"),
        (stack(), ["trainer.precision=64-true"], "trainer.precision=64-true: a first step failed"),
        (stack(), ["trainer.max_steps=3"], "trainer.max_steps is set by the run itself: give train.steps"),
        (stack(), ["trainer.val_check_interval=0.5"], "must be a whole number of steps"),
        (stack(), ["trainer.gradient_clip_val=-1"], "must be at least 0"),
        (stack(), ["data.angles=${oc.env:HOME}"], "is not looked up; write the value itself"),
    ],
)
def test_what_nothing_can_be_made_of_is_refused_in_one_line_before_the_work(
    tmp_path, small, capsys, images, arguments, says
):
    angles = np.random.default_rng(1).permutation(np.linspace(-60, 60, len(images)))
    given = [*small, measured(tmp_path, images, angles), *arguments, f"run.dir={tmp_path / 'run'}"]
    assert main(["reconstruct", *given]) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(rf"error: .*{says}.*\n", said)
    assert not (tmp_path / "run").exists()


def test_nothing_kept_aside_is_no_fault(tmp_path, small):
    metrics = run(tmp_path / "run", *small, *TINY, "data.validation_rows=0", "data.test_images=0", "train.steps=2")
    assert metrics["held_out"] == {"dip": None}
    assert metrics["complete"]


def test_a_fit_that_diverges_says_so(tmp_path, small, capsys, monkeypatch):
    monkeypatch.setattr(DIP4D, "loss_of", lambda self, batch, rows: torch.nan * next(self.parameters()).sum())
    assert main(["reconstruct", *small, *TINY, "train.steps=2", f"run.dir={tmp_path / 'run'}"]) == 2
    assert capsys.readouterr().err == "error: the fit has diverged: begin again with a lower train.learning_rate\n"


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_fit(tmp_path, small, logged, monkeypatch):
    save, tried = L.Trainer.save_checkpoint, []

    def full(self, path, *arguments):
        tried.append(path)
        if len(tried) < 3:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(self, path, *arguments)

    monkeypatch.setattr(L.Trainer, "save_checkpoint", full)
    interrupt(monkeypatch, step=10**6)
    metrics = run(tmp_path, *small, *TINY, "train.steps=4")
    assert metrics["complete"]
    said = [r.getMessage() for r in logged if "could not be written" in r.getMessage()]
    assert len(said) == 2
    assert not list(tmp_path.rglob("*.part"))


def test_a_full_disk_is_one_line_with_the_way_to_go_on_and_nothing_is_lost(tmp_path, whole, capsys):
    folder, arguments = whole
    place = tmp_path / "run"

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dip4d.experiment.callbacks.write_movie", full)
        assert main(["reconstruct", *arguments, f"run.dir={place}"]) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(r"error: .*the disk is full, make room; then go on with: .*run\.resume=true\n", said)
    run(place, "run.resume=true")
    assert same(weights(folder), weights(place))


def test_a_complete_run_is_not_finished_twice_and_an_incomplete_one_is(tmp_path, small, monkeypatch):
    small += [*TINY, "compare.methods=[sirt_whole]", "train.steps=4", "uncertainty.members=3"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dip4d.experiment.outputs.fit_members", stop)
        with pytest.raises(StopNowError):
            run(tmp_path, *small)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert "sirt_whole" in metrics["methods"]
    assert "complete" not in metrics
    for done in ("dip4d.experiment.callbacks.write_movie", "dip4d.conventional.baselines.Conventional.baseline"):
        monkeypatch.setattr(done, stop)  # is not done again
    assert run(tmp_path, "run.resume=true")["complete"]
    assert (tmp_path / "uncertainty.ome.tif").exists()


def stop(*_, **__):
    raise StopNowError


class Evil:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def spoiled(name: str, how: str, *, folder: Path) -> bytes:
    """A file of a run, spoiled."""
    whole, evil, buffer = (folder / name).read_bytes(), Evil(folder / "ran"), io.BytesIO()
    if how == "with code" and name.endswith("ckpt"):
        torch.save({**torch.load(folder / name, weights_only=True), "evil": evil}, buffer)
    elif how == "with code":
        np.savez(buffer, frames=np.array([evil], object))
    elif how == "foreign" and name.endswith("ckpt"):
        torch.save({"state_dict": {}}, buffer)
    elif how == "bytes flipped":  # more than pad the records of the file
        middle = len(whole) // 2
        buffer.write(whole[:middle] + bytes(b ^ 255 for b in whole[middle : middle + 256]) + whole[middle + 256 :])
    else:
        others = {"cut": whole[: len(whole) // 2], "foreign": b'{"methods": {"dip": 3}}'}
        buffer.write(others.get(how, b""))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "how"),
    [
        *(("checkpoint.ckpt", how) for how in ("with code", "cut", "empty", "foreign", "bytes flipped")),
        *(("metrics.json", how) for how in ("cut", "empty", "foreign")),
        *(("orthoslices.npz", how) for how in ("with code", "cut", "empty")),
        ("config.yaml", "looks up"),
    ],
)
def test_a_spoiled_file_is_one_line_with_the_remedy_and_nothing_of_it_runs(tmp_path, whole, capsys, name, how):
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    data = spoiled(name, how, folder=folder)
    if how == "looks up":
        data = (folder / name).read_bytes().replace(b"logger: csv", b"logger: ${oc.env:HOME}")
    (folder / name).write_bytes(data)
    report = ["report", str(folder)]
    if name in ("checkpoint.ckpt", "config.yaml"):
        metrics = json.loads((folder / "metrics.json").read_text())
        (folder / "metrics.json").write_text(json.dumps(metrics | {"complete": False}))
        report = ["reconstruct", f"run.dir={folder}", "run.resume=true"]
    capsys.readouterr()
    assert main(report) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(rf"error: .*{name}.*\n", said)
    assert re.search(r"run\.resume=true|run\.overwrite=true|write the value itself", said)
    assert not (folder / "ran").exists()


def signalled(monkeypatch, step: int, number: int) -> None:
    """The process gets a signal before a step of its fit, not of its warm-up."""
    hook = DIP4D.on_train_batch_start

    def send(self, *arguments):
        if self.global_step == step and self.trainer.max_steps == 7:
            os.kill(os.getpid(), number)
        return hook(self, *arguments)

    monkeypatch.setattr(DIP4D, "on_train_batch_start", send)


def test_sigterm_in_the_fit_saves_a_checkpoint_and_ends_with_143(tmp_path, small, capsys, monkeypatch):
    signalled(monkeypatch, 3, signal.SIGTERM)
    assert main(["reconstruct", *small, *TINY, "train.steps=7", f"run.dir={tmp_path}"]) == 143
    assert f"run.dir={tmp_path} run.resume=true" in capsys.readouterr().out
    assert torch.load(tmp_path / "checkpoint.ckpt", weights_only=True)["global_step"] == 4
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_under_slurm_sigusr1_requeues_the_job_which_then_goes_on(tmp_path, small, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_NTASKS", "1")
    asked: list[list[str]] = []
    command = ["reconstruct", *small, *TINY, "train.steps=7", "run.dir=run"]
    with pytest.MonkeyPatch.context() as patch:
        signalled(patch, 3, signal.SIGUSR1)
        patch.setattr("dip4d.experiment.signals.subprocess.run", lambda words, **_: asked.append(words))
        assert main(command) == 143
    assert asked == [["scontrol", "requeue", "7"]]
    assert {f.name for f in tmp_path.iterdir()} == {"run"}
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert main(command) in (0, 3)
    assert json.loads(Path("run/metrics.json").read_text())["complete"]


@pytest.mark.parametrize("where", ["dip4d.experiment.run.make_plan", "dip4d.experiment.run.draw_figures"])
def test_under_slurm_sigusr1_before_and_after_the_fit_requeues_the_job_too(tmp_path, small, monkeypatch, where):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_NTASKS", "1")
    asked: list[list[str]] = []
    few = ["train.steps=7", "output.figures=true"]
    command = ["reconstruct", *small, *TINY, *few, f"run.dir={tmp_path / 'run'}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(where, lambda *_, **__: os.kill(os.getpid(), signal.SIGUSR1))
        patch.setattr("dip4d.experiment.signals.subprocess.run", lambda words, **_: asked.append(words))
        assert main(command) == 143
    assert asked == [["scontrol", "requeue", "7"]]
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert main(command) in (0, 3)
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["complete"]


def test_ctrl_c_twice_in_the_fit_ends_with_130(tmp_path, small, capsys, monkeypatch):
    for step in (3, 4):
        signalled(monkeypatch, step, signal.SIGINT)
    monkeypatch.setattr(DIP4D, "end", lambda self, why: None)  # so that there is a second time
    assert main(["reconstruct", *small, *TINY, "train.steps=7", f"run.dir={tmp_path}"]) == 130
    assert "run.resume=true" in capsys.readouterr().out
