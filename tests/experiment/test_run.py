"""Whole runs of the real configuration, shrunken."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch

import evaluate
import train
from dip4d.data import choose_held_out_images
from dip4d.io import open_volumes
from dip4d.metrics import psnr, ssim
from dip4d.module import DIP4D
from dip4d.shifts import Shifts
from dip4d.simulate import grs, jitter_shifts, simulate

FIGURES = {"orthoslices_yx.png", "orthoslices_zx.png", "quality.png", "trust.png"}


def run(folder: Path, *arguments: str) -> dict:
    assert train.main([*arguments, f"run.dir={folder}"]) == 0
    return json.loads((folder / "metrics.json").read_text())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoint.ckpt", weights_only=False)["state_dict"]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_train_then_evaluate(tmp_path, small, capsys):
    metrics = run(tmp_path / "run", *small)
    printed = capsys.readouterr().out
    for words in ("images (t, z, s)", "DIP-4D", "SIRT, frozen frames", "volumes.ome.tif"):
        assert words in printed
    volumes = open_volumes(tmp_path / "run" / "volumes.ome.tif")
    truth = simulate("nanostar_alloying", 16, 12, "grs", 500, seed=0)[1]
    assert volumes.shape == truth.shape
    assert volumes.min() >= 0
    for score, function in (("psnr", psnr), ("ssim", ssim)):
        again = [function(np.array(v), t, float(truth.max())) for v, t in zip(volumes, truth, strict=True)]
        np.testing.assert_allclose(metrics["methods"]["dip"][score], again, rtol=1e-4)
        for name in ("sirt_whole", "sirt_window", "sirt_frozen"):
            assert len(metrics["methods"][name][score]) == 12
    assert set(metrics["held_out"]) == set(metrics["held_out_images"]) == {"dip", "sirt_whole", "sirt_window"}
    assert metrics["seconds"] > metrics["fit_seconds"] > 0

    figures = tmp_path / "run" / "figures"
    assert {f.name for f in figures.iterdir()} == FIGURES
    for figure in figures.iterdir():
        figure.unlink()
    assert evaluate.main([str(tmp_path / "run")]) == 0
    table = capsys.readouterr().out
    assert f"{np.mean(metrics['methods']['dip']['psnr']):.2f}" in table
    assert {f.name for f in figures.iterdir()} == FIGURES

    again = run(tmp_path / "again", str(tmp_path / "run" / "config.yaml"))
    assert same(weights(tmp_path / "run"), weights(tmp_path / "again"))
    assert again["methods"] == metrics["methods"]


def test_a_fit_learns(tmp_path, small):
    metrics = run(tmp_path / "run", *small, "train.steps=150", "compare.methods=[sirt_whole]")
    start = run(tmp_path / "start", *small, "train.steps=1", "compare.methods=[]")
    assert metrics["held_out"]["dip"] < 0.5 * start["held_out"]["dip"]
    assert np.mean(metrics["methods"]["dip"]["psnr"]) > np.mean(start["methods"]["dip"]["psnr"]) + 5
    assert np.mean(metrics["methods"]["dip"]["psnr"]) > 22


class StopNowError(Exception):
    """The plug is pulled."""


def interrupt(monkeypatch, step: int) -> None:
    """The next fit ends with an exception at this step; checkpoints are due at every look at the clock."""
    hook, pulled = DIP4D.on_train_batch_start, []

    def pull(self, *arguments):
        if self.global_step == step and not pulled:
            pulled.append(step)
            raise StopNowError
        return hook(self, *arguments)

    monkeypatch.setattr("dip4d.callbacks.time.monotonic", itertools.count().__next__)  # a second at each look
    monkeypatch.setattr(DIP4D, "on_train_batch_start", pull)


@pytest.mark.parametrize("use_row", ["true", "false"])
def test_an_interrupted_run_goes_on_exactly(tmp_path, small, monkeypatch, use_row):
    small += ["compare.methods=[]", "train.checkpoint_seconds=0.1", f"network.use_row={use_row}"]
    run(tmp_path / "whole", *small)

    interrupt(monkeypatch, step=17)
    with pytest.raises(StopNowError):
        run(tmp_path / "parts", *small)
    saved = torch.load(tmp_path / "parts" / "checkpoint.ckpt", weights_only=False)
    assert 0 < saved["global_step"] <= 17
    logged = list((tmp_path / "parts" / "tracking").rglob("hparams.yaml"))
    run(tmp_path / "parts", "run.resume=true")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert all(f.exists() for f in logged)


def test_callbacks_change_no_weight(tmp_path, small, monkeypatch):
    run(tmp_path / "with", *small, "compare.methods=[sirt_whole]")
    kept: list[DIP4D] = []
    fit = L.Trainer.fit

    def fit_bare(self, module, *arguments, **keys):
        self.callbacks = []
        kept.append(module)
        fit(self, module, *arguments, **keys)
        raise StopNowError

    monkeypatch.setattr(L.Trainer, "fit", fit_bare)
    with pytest.raises(StopNowError):
        train.main([*small, f"run.dir={tmp_path / 'without'}"])
    assert same(weights(tmp_path / "with"), kept[0].state_dict())


def test_truth_changes_no_weight(tmp_path, small):
    """Neither training nor stopping may see the truth."""
    series, truth = simulate("nanostar", 16, 12, "grs", 500, seed=2)
    np.savez(tmp_path / "s.npz", images=series.images, angles=series.angles_deg)
    np.save(tmp_path / "truth.npy", truth)
    small += [f"data.path={tmp_path / 's.npz'}", "compare.methods=[sirt_whole,sirt_window]"]
    blind = run(tmp_path / "blind", *small)
    scored = run(tmp_path / "scored", *small, f"data.truth={tmp_path / 'truth.npy'}")
    assert same(weights(tmp_path / "blind"), weights(tmp_path / "scored"))
    assert "psnr" not in blind["methods"]["dip"]
    assert len(scored["methods"]["dip"]["psnr"]) == 12
    assert set(blind["held_out"]) == {"dip", "sirt_whole", "sirt_window"}
    assert (tmp_path / "blind" / "figures" / "orthoslices_yx.png").exists()


def test_rectangular_images_and_a_narrow_stack(tmp_path, small):
    series, _ = simulate("alloying", 17, 9, "pingpong", 0, seed=2)
    np.savez(tmp_path / "s.npz", images=series.images[:, 3:13, 1:16], angles=series.angles_deg)
    run(tmp_path / "run", *small, f"data.path={tmp_path / 's.npz'}", "compare.windows=[5]")
    assert open_volumes(tmp_path / "run" / "volumes.ome.tif").shape == (9, 10, 15, 15)


def test_a_budget_ends_the_run(tmp_path, small):
    metrics = run(tmp_path / "run", *small, "train.steps=1000000", "train.max_minutes=0.1", "compare.methods=[]")
    assert 0 < metrics["steps"] < 1000000
    last = torch.load(tmp_path / "run" / "checkpoint.ckpt", weights_only=False)["optimizer_states"][0]["param_groups"][
        0
    ]
    assert last["lr"] < 1e-4  # the schedule came to its end


def test_every_logger(tmp_path, small, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    small += ["train.steps=3", "compare.methods=[sirt_whole]"]
    for logger, trace in (("wandb", "*.wandb"), ("tensorboard", "events.out.tfevents*"), ("csv", "metrics.csv")):
        run(tmp_path / logger, *small, f"logger={logger}")
        assert list((tmp_path / logger / "tracking").rglob(trace))


@pytest.mark.parametrize("choice", ["", "run.resume=true", "run.overwrite=true"])
def test_a_full_folder_is_kept_unless_told_otherwise(tmp_path, small, capsys, choice):
    small += ["compare.methods=[]", "train.steps=2"]
    run(tmp_path / "run", *small)
    (tmp_path / "run" / "notes.txt").write_text("mine")
    before = {f: f.stat().st_mtime_ns for f in (tmp_path / "run").rglob("*") if f.is_file()}
    code = train.main([*small, f"run.dir={tmp_path / 'run'}", *([choice] if choice else [])])
    assert code == (0 if choice else 2)
    if not choice:
        assert "already holds a run" in capsys.readouterr().err
    if choice != "run.overwrite=true":
        assert before == {f: f.stat().st_mtime_ns for f in (tmp_path / "run").rglob("*") if f.is_file()}
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_resume_refuses_another_specimen(tmp_path, small, capsys):
    run(tmp_path / "run", *small, "compare.methods=[]", "train.steps=2")
    assert train.main([f"run.dir={tmp_path / 'run'}", "run.resume=true", "simulate.size=20"]) == 2
    assert "simulate.size" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["simulate.siez=20"], "simulate.size"),
        (["data.path=missing.mrc"], "missing.mrc"),
        (["data.path=text.mrc", "data.angles=a.tlt"], "text.mrc: not a readable MRC file"),
        (["data.path=empty.mrc", "data.angles=a.tlt"], "empty.mrc: the file is empty"),
        (["data.path=nan.npy", "data.angles=a.tlt"], "NaN"),
        (["data.path=good.npy", "data.angles=b.tlt"], "4 images .* but 2 angles"),
        (["data.path=good.npy", "data.angles=a.tlt", "data.exclude=[1,4]"], r"data.exclude=\[1, 4\]: no image 4"),
        (["data.path=good.npy", "data.angles=a.tlt", "data.truth=good.npy"], "truth has shape"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, arguments, words):
    images = np.ones((4, 9, 9), np.float32)
    np.save(tmp_path / "good.npy", images)
    images[1, 2, 3] = np.nan
    np.save(tmp_path / "nan.npy", images)
    (tmp_path / "text.mrc").write_text("words " * 500)
    (tmp_path / "empty.mrc").touch()
    (tmp_path / "a.tlt").write_text("1\n2\n3\n4\n")
    (tmp_path / "b.tlt").write_text("1\n2\n")
    script = Path(train.__file__)
    done = subprocess.run(
        [sys.executable, script, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(errors) == 1, done.stderr
    assert errors[0].startswith("error: ")
    assert re.search(words, errors[0])
    assert not (tmp_path / "runs").exists()


def test_measured_series(tmp_path, small, real_data):
    """Six Au nanoparticles: the tilt axis lies along y, the series carries no times."""
    metrics = run(
        tmp_path / "run",
        *small,
        f"data.path={real_data / 'emat_liquid_N6.mrc'}",
        f"data.angles={real_data / 'emat_liquid_N6.rawtlt'}",
        "data.tilt_axis=y",
        "data.bin=8",
        "data.hold_out_images=0.1",
        "train.steps=100",
        "train.max_minutes=1",
    )
    assert open_volumes(tmp_path / "run" / "volumes.ome.tif").shape == (116, 32, 32, 32)
    assert metrics["pixel_nm"] == pytest.approx(0.26 * 8, rel=1e-3)
    assert metrics["held_out"]["dip"] < 1
    assert set(metrics["methods"]) == {"dip", "sirt_whole", "sirt_window", "tv_whole"}  # there is no truth
    for name in metrics["methods"]:
        assert metrics["held_out_without_noise"][name] < metrics["held_out_images"][name] < 1
    angles = np.loadtxt(real_data / "emat_liquid_N6.rawtlt")
    held = angles[metrics["unseen_images"]]
    assert len(held) > len(np.unique(held)) == 5
    assert np.isin(angles, held).sum() == len(held)  # whole views


def test_irregular_times_repeated_angles_and_a_bad_image(tmp_path, small, capsys):
    series, truth = simulate("alloying", 16, 14, "pingpong", 0, seed=0, sweeps=2)
    assert len(np.unique(series.angles_deg)) < 14
    images, times = series.images.copy(), np.array([0, 1, 2, 2.5, 9, 9.5, 10, 60, 61, 61, 70, 100, 101, 200.0])
    images[5] = 0
    np.savez(tmp_path / "s.npz", images=images, angles=series.angles_deg, times=times)
    np.save(tmp_path / "truth.npy", truth)
    where = [f"data.path={tmp_path / 's.npz'}", f"data.truth={tmp_path / 'truth.npy'}"]
    seen, _ = train.load_data(train.load_config([*small, *where]))
    assert len(seen.images) == 14  # named, not removed
    assert "5 (blank)" in (said := capsys.readouterr().out)
    assert "data.exclude=[5]" in said

    metrics = run(tmp_path / "run", *small, *where, "data.exclude=[5]", "compare.methods=[sirt_window]")
    assert "warning" not in capsys.readouterr().out
    assert metrics["times_s"] == np.delete(times, 5).tolist()
    assert open_volumes(tmp_path / "run" / "volumes.ome.tif").shape == (13, 16, 16, 16)
    assert len(metrics["methods"]["dip"]["psnr"]) == 13


def measured(folder: Path, images: np.ndarray, angles_deg: np.ndarray) -> str:
    np.savez(folder / "s.npz", images=images, angles=angles_deg)
    return f"data.path={folder / 's.npz'}"


def test_a_held_out_image_is_never_an_input(tmp_path, small):
    """Spoiled beyond recognition, it changes nothing but its own error."""
    series, _ = simulate("nanostar", 16, 12, "grs", 500, seed=2)
    (held,) = choose_held_out_images(np.arange(12), 0.03, 0)
    small += ["compare.methods=[sirt_whole,sirt_window,tv_whole]", "data.background=none"]
    clean = run(tmp_path / "clean", *small, measured(tmp_path, series.images, series.angles_deg))
    assert clean["unseen_images"] == [held]
    images = series.images.copy()
    images[held] = 30 * np.roll(images[held], 5, axis=1)
    spoiled = run(tmp_path / "spoiled", *small, measured(tmp_path, images, series.angles_deg))
    assert same(weights(tmp_path / "clean"), weights(tmp_path / "spoiled"))
    assert spoiled["held_out"] == clean["held_out"]
    for name, scores in clean["methods"].items():
        assert spoiled["methods"][name] == scores
        assert spoiled["held_out_images"][name] > 2 * clean["held_out_images"][name]
    assert spoiled["suspect_images"] == [held]


@pytest.mark.parametrize("name", ["dip", "voxels", "dipster", "tddip"])
def test_no_network_starts_from_an_unseen_image(small, name):
    series, _ = simulate("nanostar", 16, 12, "grs", 500, seed=2)
    images = series.images.copy()
    images[5] *= 30
    config = train.load_config([*small, f"network.name={name}"])
    modules = []
    for seen in (series, dataclasses.replace(series, images=images)):
        torch.manual_seed(0)
        modules.append(train.build_module(config, seen, 0.0, [5]))
    a, b = modules
    assert same(a.state_dict(), b.state_dict())
    assert (a.brightest, a.smoothness, a.loss.brightest) == (b.brightest, b.smoothness, b.loss.brightest)


def test_the_bound_begins_where_it_is_told_to(small):
    series, _ = simulate("nanostar", 16, 12, "grs", 500, seed=2)
    module = train.build_module(train.load_config([*small, "network.brightest=7.5"]), series, 0.0)
    assert module.brightest == 7.5
    assert float(module.network.log_bound.detach().exp()) == pytest.approx(7.5)


def test_bad_images_are_flagged_and_mass_is_flat(tmp_path, small, capsys):
    series, _ = simulate("static", 16, 40, "grs", 500, seed=0)
    images = series.images.copy()
    images[9] = np.roll(images[9], 3, axis=1)
    images[15] *= 1.7
    arguments = [
        *small,
        "compare.methods=[]",
        "train.steps=200",
        "network.rank=1",  # not enough to follow a single image
        "data.background=none",
        "data.exclude=[2]",
    ]
    metrics = run(tmp_path / "run", *arguments, measured(tmp_path, images, series.angles_deg))
    assert metrics["suspect_images"] == [9, 15]
    assert "data.exclude=[2,9,15]" in capsys.readouterr().out.split("the reconstruction explains")[1]
    assert metrics["images"] == [0, 1, *range(3, 40)]
    assert len(metrics["residual_per_image"]) == 39

    metrics = run(tmp_path / "clean", *arguments[:-1], measured(tmp_path, series.images, series.angles_deg))
    assert metrics["suspect_images"] == []
    assert "the reconstruction explains" not in capsys.readouterr().out
    mass = metrics["mass"]
    assert abs(mass["slope"]) < 0.02
    assert mass["scatter"] < 0.03
    np.testing.assert_allclose(mass["images"], series.images.sum((1, 2)), rtol=1e-4)
    np.testing.assert_allclose(mass["volumes"], np.mean(mass["images"]), rtol=0.1)


def test_the_resolution_is_that_of_two_fits_which_share_no_image(tmp_path, small, monkeypatch):
    fit, seen = L.Trainer.fit, []

    def watched(self, module, data, *arguments, **keys):
        seen.append(set(data.known.flatten().tolist()))
        return fit(self, module, data, *arguments, **keys)

    monkeypatch.setattr(L.Trainer, "fit", watched)
    small += ["compare.methods=[]"]
    metrics = run(tmp_path / "run", *small, "compare.resolution=true")
    whole, even, odd = seen
    assert not even & odd
    assert even | odd == whole == set(range(12)) - set(metrics["unseen_images"])
    assert 5 <= len(odd) <= len(even) <= 6
    found = metrics["resolution"]
    assert found["unit"] == "voxels"
    assert len(found["frequency"]) == len(found["correlation"]) == len(found["half_bit_curve"]) == 8
    assert -1 <= min(found["correlation"]) < max(found["correlation"]) <= 1
    (tmp_path / "run" / "figures" / "trust.png").unlink()
    assert evaluate.main([str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "figures" / "trust.png").exists()
    run(tmp_path / "without", *small)
    assert same(weights(tmp_path / "run"), weights(tmp_path / "without"))


def test_what_is_refined_is_seen(tmp_path, small):
    metrics = run(tmp_path / "run", *small, "compare.methods=[sirt_whole]", "align.refine=true", "train.steps=5")
    assert metrics["unseen_images"] == []
    assert metrics["held_out_images"] == {"dip": None}


@pytest.mark.parametrize("automatic", [True, False])
def test_images_that_jump_are_aligned_first_and_where_they_lay_is_kept(tmp_path, small, capsys, automatic):
    jumping = ["simulate={size: 32, frames: 40, jitter: 1}", "train.steps=2", "compare.methods=[sirt_window]"]
    run(tmp_path / "run", *small, *jumping, f"align.automatic={automatic}")
    assert ("aligning them" in capsys.readouterr().out) == automatic
    assert (tmp_path / "run" / "shifts.csv").exists() == automatic
    if automatic:
        shifts, true = Shifts.load(tmp_path / "run" / "shifts.csv"), jitter_shifts(grs(40, 70, 1), 1, seed=0)
        assert np.std(shifts.z - true[:, 0]) < 0.2
        assert np.std(shifts.across - true[:, 1]) < 0.2
