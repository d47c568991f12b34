"""Whole runs of the real configuration, shrunken: they learn, go on exactly, and see only what they may see."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import lightning as L
import numpy as np
import pytest
import torch

from dip4d.__main__ import main
from dip4d.config.load import load_config
from dip4d.conventional.baselines import Conventional
from dip4d.experiment.callbacks import Movie
from dip4d.io import open_volumes
from dip4d.measures.image_quality import psnr, ssim
from dip4d.reconstruction.module import DIP4D
from dip4d.reconstruction.motion_test import Behaviour
from dip4d.reconstruction.networks import NETWORKS
from dip4d.reconstruction.networks.free_form import MOTIONS
from dip4d.reconstruction.split import choose_test_images
from dip4d.reconstruction.weight_averaging import AS_GOOD_RATIO
from dip4d.report.preview import MEASURED, PREDICTED, read_preview
from dip4d.run_folder import CONFIG, PAGE, read_metrics
from dip4d.simulation.simulate import simulate
from tests.helpers import ROOT, StopNowError, interrupt, measured, run, same, weights

FIGURES = {
    f"{name}.png"
    for name in (
        "orthoslices_yx", "orthoslices_zx", "quality", "diagnostics", "measures", "surfaces", "kymograph", "images",
        "pipeline",
    )
}  # fmt: skip
LIVE = "live.png"  # drawn while it runs, and by nothing later


def test_a_run_and_its_report(tmp_path, small, capsys):
    metrics = run(tmp_path / "run", *small, "output.figures=true")
    printed = capsys.readouterr().out
    for words in ("images (t, z, s)", "DIP-4D", "SIRT, frozen frames", "volumes.ome.tif"):
        assert words in printed
    volumes = open_volumes(tmp_path / "run" / "volumes.ome.tif")
    truth = simulate("nanostar_alloying", 16, frames=12, scheme="grs", peak_counts=500, seed=0)[1]
    assert volumes.shape == truth.shape
    assert volumes.min() >= 0
    for score, function in (("psnr", psnr), ("ssim", ssim)):
        again = [function(np.array(v), t, data_range=float(truth.max())) for v, t in zip(volumes, truth, strict=True)]
        np.testing.assert_allclose(metrics["methods"]["dip"][score], again, rtol=1e-4)
        for name in ("sirt_whole", "sirt_window", "sirt_frozen"):
            assert len(metrics["methods"][name][score]) == 12
    assert set(metrics["held_out"]) == set(metrics["held_out_images"]) == {"dip", "sirt_whole", "sirt_window"}
    assert metrics["network"] == {"name": "dip", "label": "DIP-4D", "ensemble": 1}
    assert metrics["seconds"] > metrics["fit_seconds"] > 0

    figures = tmp_path / "run" / "figures"
    assert {f.name for f in figures.iterdir()} == FIGURES | {LIVE}
    movies = read_preview(tmp_path / "run")
    assert {n: len(m.volumes) for n, m in movies.items()} == {
        "dip": 12, "truth": 12, MEASURED: 12, PREDICTED: 12, "sirt_whole": 1, "sirt_window": 12, "sirt_frozen": 12,
    }  # fmt: skip
    np.testing.assert_allclose(
        movies["dip"].volumes * (movies["dip"].vmax / 255), volumes, atol=movies["dip"].vmax / 400
    )
    assert metrics["made"]["series"]["shape"] == [12, 16, 16]
    page = (tmp_path / "run" / PAGE).read_bytes()
    for figure in figures.iterdir():
        figure.unlink()
    assert main(["report", str(tmp_path / "run")]) == 0
    table = capsys.readouterr().out
    assert f"{np.mean(metrics['methods']['dip']['psnr']):.2f}" in table
    assert {f.name for f in figures.iterdir()} == FIGURES
    assert (tmp_path / "run" / PAGE).read_bytes() == page

    again = run(tmp_path / "again", str(tmp_path / "run" / "config.yaml"))
    assert same(weights(tmp_path / "run"), weights(tmp_path / "again"))
    assert again["methods"] == metrics["methods"]


def test_a_fit_learns(tmp_path, small):
    metrics = run(tmp_path / "run", *small, "train.steps=150", "compare.methods=[sirt_whole]")
    start = run(tmp_path / "start", *small, "train.steps=1", "compare.methods=[]")
    assert metrics["held_out"]["dip"] < 0.5 * start["held_out"]["dip"]
    assert np.mean(metrics["methods"]["dip"]["psnr"]) > np.mean(start["methods"]["dip"]["psnr"]) + 5
    assert np.mean(metrics["methods"]["dip"]["psnr"]) > 22


@pytest.mark.parametrize("name", NETWORKS)
def test_each_network_fits(tmp_path, small, name):
    def error_after(steps: int) -> float:
        folder = tmp_path / str(steps)
        rate = {"dipster": ["train.learning_rate=1e-3"]}.get(name, [])  # its own is made for hours
        arguments = [*small, f"network={name}", *rate, f"train.steps={steps}", "train.slices=4", "compare.methods=[]"]
        assert main(["reconstruct", *arguments, f"run.dir={folder}", "train.max_minutes=null"]) in (0, 3)
        metrics = read_metrics(folder)
        assert metrics["network"] == {"name": name, "label": NETWORKS[name].label, "ensemble": 1}
        return metrics["held_out"]["dip"]

    losses = [error_after(1), error_after(120)]
    assert losses[1] < 0.95 * losses[0]


@pytest.mark.parametrize("use_row", ["true", "false"])
def test_an_interrupted_run_goes_on_exactly(tmp_path, small, monkeypatch, use_row):
    small += ["compare.methods=[]", "train.checkpoint_seconds=0.1", f"network.use_row={use_row}"]
    run(tmp_path / "whole", *small)

    interrupt(monkeypatch, step=17)
    with pytest.raises(StopNowError):
        run(tmp_path / "parts", *small)
    saved = torch.load(tmp_path / "parts" / "checkpoint.ckpt", weights_only=True)
    assert 0 < saved["global_step"] <= 17
    logged = list((tmp_path / "parts" / "tracking").rglob("hparams.yaml"))
    run(tmp_path / "parts", "run.resume=true")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert all(f.exists() for f in logged)


MOVING = ["simulate.specimen=drift", "simulate.size=20", "compare.methods=[]"]


@pytest.mark.parametrize("kind", MOTIONS)
def test_a_moving_run_goes_on_exactly(tmp_path, small, monkeypatch, kind):
    monkeypatch.setattr("dip4d.reconstruction.motion_test.STEPS", 10)
    small += [f"network.motion={kind}", *MOVING, "train.checkpoint_seconds=0.1", "train.steps=20"]
    run(tmp_path / "whole", *small)
    interrupt(monkeypatch, step=13)
    with pytest.raises(StopNowError):
        run(tmp_path / "parts", *small)
    run(tmp_path / "parts", "run.resume=true")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_a_static_specimen_stands_still_and_goes_on_exactly(tmp_path, small, monkeypatch, logged):
    monkeypatch.setattr("dip4d.experiment.run.find_behaviour", lambda *_, **__: Behaviour(changes=False))
    small += ["simulate.specimen=static", "compare.methods=[]", "train.checkpoint_seconds=0.1", "train.steps=20"]
    run(tmp_path / "whole", *small)
    assert "does not change" in "".join(r.getMessage() for r in logged)
    movie = open_volumes(tmp_path / "whole" / "volumes.ome.tif")
    assert np.array_equal(movie[0], movie[-1])
    assert "change: never" in (tmp_path / "whole" / "config.yaml").read_text()
    interrupt(monkeypatch, step=13)
    with pytest.raises(StopNowError):
        run(tmp_path / "parts", *small)
    run(tmp_path / "parts", "run.resume=true")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_callbacks_change_no_weight(tmp_path, small, monkeypatch):
    run(tmp_path / "with", *small, "compare.methods=[sirt_whole]")
    kept: list[DIP4D] = []
    fit = L.Trainer.fit

    def fit_bare(self, module, *arguments, **keys):
        if self.max_steps < 30:  # a warm-up
            return fit(self, module, *arguments, **keys)
        self.callbacks = []
        kept.append(module)
        fit(self, module, *arguments, **keys)
        raise StopNowError

    monkeypatch.setattr(L.Trainer, "fit", fit_bare)
    with pytest.raises(StopNowError):
        main(["reconstruct", *small, f"run.dir={tmp_path / 'without'}"])
    assert same(weights(tmp_path / "with"), kept[0].state_dict())


def test_truth_changes_no_weight(tmp_path, small):
    """Neither training nor stopping may see the truth."""
    series, truth = simulate("nanostar", 16, frames=12, scheme="grs", peak_counts=500, seed=2)
    np.savez(tmp_path / "s.npz", images=series.images, angles=series.angles_deg)
    np.save(tmp_path / "truth.npy", truth)
    small += [f"data.path={tmp_path / 's.npz'}", "compare.methods=[sirt_whole,sirt_window]"]
    blind = run(tmp_path / "blind", *small)
    scored = run(tmp_path / "scored", *small, f"data.truth={tmp_path / 'truth.npy'}")
    assert same(weights(tmp_path / "blind"), weights(tmp_path / "scored"))
    assert "psnr" not in blind["methods"]["dip"]
    assert len(scored["methods"]["dip"]["psnr"]) == 12
    assert set(blind["held_out"]) == {"dip", "sirt_whole", "sirt_window"}
    assert not (tmp_path / "blind" / "figures").exists()  # `small` does not want them
    assert main(["report", str(tmp_path / "blind")]) == 0
    assert (tmp_path / "blind" / "figures" / "orthoslices_yx.png").exists()


def test_a_test_image_is_never_an_input(tmp_path, small):
    """Spoiled beyond recognition, it changes nothing but its own error."""
    series, _ = simulate("nanostar", 16, frames=12, scheme="grs", peak_counts=500, seed=2)
    (test,) = choose_test_images(np.arange(12), 0.03, seed=0)
    small += ["compare.methods=[sirt_whole,sirt_window,tv_whole]", "data.background=none"]
    clean = run(tmp_path / "clean", *small, measured(tmp_path, series.images, series.angles_deg))
    assert clean["unseen_images"] == [test]
    images = series.images.copy()
    images[test] = 30 * np.roll(images[test], 5, axis=1)
    spoiled = run(tmp_path / "spoiled", *small, measured(tmp_path, images, series.angles_deg))
    assert same(weights(tmp_path / "clean"), weights(tmp_path / "spoiled"))
    assert spoiled["held_out"] == clean["held_out"]
    for name, scores in clean["methods"].items():
        assert spoiled["methods"][name] == scores
        assert spoiled["held_out_images"][name] > 2 * clean["held_out_images"][name]
    assert spoiled["suspect_images"] == [test]


def test_what_is_refined_is_seen(tmp_path, small):
    metrics = run(tmp_path / "run", *small, "compare.methods=[sirt_whole]", "align.refine=true", "train.steps=5")
    assert metrics["unseen_images"] == []
    assert metrics["held_out_images"] == {"dip": None}


def test_rectangular_images_and_a_narrow_stack(tmp_path, small):
    series, _ = simulate("alloying", 17, frames=9, scheme="pingpong", peak_counts=0, seed=2)
    np.savez(tmp_path / "s.npz", images=series.images[:, 3:13, 1:16], angles=series.angles_deg)
    run(tmp_path / "run", *small, f"data.path={tmp_path / 's.npz'}", "compare.windows=[5]")
    assert open_volumes(tmp_path / "run" / "volumes.ome.tif").shape == (9, 10, 15, 15)


def test_a_budget_ends_the_run(tmp_path, small, monkeypatch):
    monkeypatch.setattr("dip4d.experiment.plan.LEAST_STEPS", 1)
    metrics = run(tmp_path / "run", *small, "train.steps=1000000", "train.max_minutes=0.1", "compare.methods=[]")
    assert 0 < metrics["steps"] < 1000000
    last = torch.load(tmp_path / "run" / "checkpoint.ckpt", weights_only=True)["optimizer_states"][0]["param_groups"][0]
    assert last["lr"] < 1e-4  # the schedule came to its end


def press_ctrl_c(monkeypatch, step: int) -> None:
    """Once, before this step."""
    hook = DIP4D.on_train_batch_start

    def press(self, *arguments):
        if self.global_step == step:
            os.kill(os.getpid(), signal.SIGINT)
        return hook(self, *arguments)

    monkeypatch.setattr(DIP4D, "on_train_batch_start", press)


def test_ctrl_c_once_ends_the_fit_and_keeps_everything(tmp_path, small, monkeypatch, capsys):
    press_ctrl_c(monkeypatch, step=12)
    before = signal.getsignal(signal.SIGINT)
    metrics = run(tmp_path / "run", *small, "compare.methods=[sirt_whole]", "output.figures=true")
    said = capsys.readouterr().out
    assert "the result is kept" in said
    assert "you stopped it" in said
    assert 12 <= metrics["steps"] <= 14
    assert metrics["ended"] == "hand"
    assert open_volumes(tmp_path / "run" / "volumes.ome.tif").shape == (12, 16, 16, 16)
    assert len(metrics["methods"]["sirt_whole"]["psnr"]) == 12
    assert {f.name for f in (tmp_path / "run" / "figures").iterdir()} == FIGURES | {LIVE}
    assert signal.getsignal(signal.SIGINT) == before


def by_hand():
    os.kill(os.getpid(), signal.SIGINT)


def out_of_memory():
    raise MemoryError("no memory")


@pytest.mark.parametrize(("happens", "why"), [(by_hand, "stopped by hand"), (out_of_memory, "no memory")])
def test_what_ends_the_comparison_costs_nothing_of_the_fit(tmp_path, small, monkeypatch, capsys, happens, why):
    baseline = Conventional.baseline

    def second(self, name):
        metrics = read_metrics(tmp_path / "run")  # of the fit, whose files are written by then
        assert len(metrics["methods"]["dip"]["psnr"]) == 12
        assert open_volumes(tmp_path / "run" / "volumes.ome.tif").shape == (12, 16, 16, 16)
        if name == "sirt_window":
            happens()
        return baseline(self, name)

    monkeypatch.setattr(Conventional, "baseline", second)
    metrics = run(tmp_path / "run", *small, "output.figures=true")
    assert f"the comparison with sirt_window, sirt_frozen was left out ({why})" in capsys.readouterr().out
    assert set(metrics["methods"]) == {"dip", "sirt_whole"}
    assert metrics["ended"] == "steps"
    assert {f.name for f in (tmp_path / "run" / "figures").iterdir()} == FIGURES | {LIVE}


def test_a_finished_run_goes_on_and_is_no_worse(tmp_path, small, capsys):
    small += ["compare.methods=[sirt_whole]", "train.steps=40", "output.figures=true"]
    before = run(tmp_path / "run", *small)
    (tmp_path / "run" / "notes.txt").write_text("mine")
    after = run(tmp_path / "run", "run.resume=true", "train.steps=70")
    assert (before["steps"], after["steps"]) == (40, 70)
    assert after["fit_seconds"] > before["fit_seconds"]
    assert after["held_out"]["dip"] <= AS_GOOD_RATIO * before["held_out"]["dip"]
    assert after["methods"]["sirt_whole"] == before["methods"]["sirt_whole"]
    assert not (tmp_path / "run" / "going_on").exists()
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    assert {f.name for f in (tmp_path / "run" / "figures").iterdir()} == FIGURES | {LIVE}
    capsys.readouterr()
    run(tmp_path / "run", "run.resume=true", "train.steps=70")
    assert "nothing to resume. To go on with its fit, give it more than its 70 steps" in capsys.readouterr().out


def test_a_finished_run_that_goes_on_loses_nothing_if_it_is_interrupted(tmp_path, small, monkeypatch):
    small += ["compare.methods=[]", "train.checkpoint_seconds=0.1"]
    for name in ("whole", "parts"):
        run(tmp_path / name, *small)
    whole = run(tmp_path / "whole", "run.resume=true", "train.steps=60")
    kept = {f: f.read_bytes() for f in (tmp_path / "parts").iterdir() if f.is_file()}
    interrupt(monkeypatch, step=47)
    with pytest.raises(StopNowError):
        run(tmp_path / "parts", "run.resume=true", "train.steps=60")
    assert {f: f.read_bytes() for f in kept} == kept
    parts = run(tmp_path / "parts", "run.resume=true")
    assert parts["steps"] == whole["steps"] == 60
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_a_run_whose_fit_had_ended_only_writes_what_is_missing(tmp_path, small, monkeypatch):
    small += ["compare.methods=[]"]
    whole, draw = run(tmp_path / "whole", *small), Movie.on_fit_end

    def pull(*_):
        raise StopNowError

    monkeypatch.setattr(Movie, "on_fit_end", pull)
    with pytest.raises(StopNowError):
        run(tmp_path / "parts", *small)
    monkeypatch.setattr(Movie, "on_fit_end", draw)
    parts = run(tmp_path / "parts", "run.resume=true")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert parts["methods"] == whole["methods"]
    assert (parts["steps"], parts["ended"]) == (whole["steps"], whole["ended"])


def test_more_time_lets_a_run_go_on_that_its_time_had_ended(tmp_path, small, monkeypatch):
    monkeypatch.setattr("dip4d.experiment.plan.LEAST_STEPS", 1)
    small += ["train.steps=1000000", "compare.methods=[]", "data.validation_rows=0"]  # which else may end it first
    before = run(tmp_path / "run", *small, "train.max_minutes=0.05")
    after = run(tmp_path / "run", "run.resume=true", "train.max_minutes=0.25")
    assert before["ended"] == after["ended"] == "time"
    assert after["steps"] > before["steps"]
    assert after["fit_seconds"] > 1.5 * before["fit_seconds"]


@pytest.mark.parametrize("choice", ["", "run.resume=true", "run.overwrite=true"])
def test_a_full_folder_is_kept_unless_told_otherwise(tmp_path, small, capsys, choice):
    small += ["compare.methods=[]", "train.steps=2"]
    run(tmp_path / "run", *small)
    (tmp_path / "run" / "notes.txt").write_text("mine")
    before = {f: f.stat().st_mtime_ns for f in (tmp_path / "run").rglob("*") if f.is_file()}
    code = main(["reconstruct", *small, f"run.dir={tmp_path / 'run'}", *([choice] if choice else [])])
    assert code in ((0, 3) if choice else (2,))
    if not choice:
        assert "already holds a run" in capsys.readouterr().err
    if choice != "run.overwrite=true":
        assert before == {f: f.stat().st_mtime_ns for f in (tmp_path / "run").rglob("*") if f.is_file()}
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_resume_refuses_another_specimen(tmp_path, small, capsys):
    run(tmp_path / "run", *small, "compare.methods=[]", "train.steps=2")
    assert main(["reconstruct", f"run.dir={tmp_path / 'run'}", "run.resume=true", "simulate.size=20"]) == 2
    assert "simulate.size" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["simulate.siez=20"], "simulate.size"),
        (["data.path=missing.mrc"], r"missing.mrc: no such file \(key data\.path\)$"),
        (["data.path=text.mrc", "data.angles=a.tlt"], "text.mrc: not a readable MRC file"),
        (["data.path=empty.mrc", "data.angles=a.tlt"], "empty.mrc: the file is empty"),
        (["data.path=nan.npy", "data.angles=a.tlt"], "NaN"),
        (["data.path=good.npy", "data.angles=b.tlt"], r"4 images .* but 2 angles.* \(key data\.angles\)$"),
        (
            ["data.path=good.npy", "data.angles=a.tlt", "data.exclude=[1,4]"],
            r": exclude=\[1, 4\]: no image 4;.* \(key data\.exclude\)$",
        ),
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
    script = ROOT / "train.py"
    done = subprocess.run(
        [sys.executable, script, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(errors) == 1, done.stderr
    assert errors[0].startswith("error: ")
    assert re.search(words, errors[0])
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("script", ["train.py", "evaluate.py"])
def test_the_scripts_are_the_commands(tmp_path, script):
    wrong = {"train.py": "run.resume=true", "evaluate.py": str(tmp_path)}[script]
    done = subprocess.run(
        [sys.executable, ROOT / script, wrong], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_measured_series(tmp_path, small, real_data):
    """Six Au nanoparticles: the tilt axis lies along y, the series carries no times."""
    metrics = run(
        tmp_path / "run",
        *small,
        f"data.path={real_data / 'emat_liquid_N6.mrc'}",
        f"data.angles={real_data / 'emat_liquid_N6.rawtlt'}",
        "data.tilt_axis=y",
        "data.bin=8",
        "data.test_images=0.1",
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
    test = angles[metrics["unseen_images"]]
    assert len(test) > len(np.unique(test)) == 5
    assert np.isin(angles, test).sum() == len(test)  # whole views


def test_what_the_images_say_of_the_fit_is_kept_in_the_configuration(tmp_path, small):
    """Without noise every detail along the tilt axis stands above it; a run that goes on finds its network again."""
    fine = [*small, "simulate.peak_counts=0", "simulate.size=16", "train.steps=4", "compare.methods=[]"]
    run(tmp_path / "run", *fine)
    assert load_config([str(tmp_path / "run" / CONFIG)]).network.z_detail_px == 6
    run(tmp_path / "run", "run.resume=true", "train.steps=6")
    assert read_metrics(tmp_path / "run")["steps"] == 6


def test_a_run_of_one_step_is_not_usable_and_its_exit_code_says_so(tmp_path, small, capsys):
    arguments = ["reconstruct", *small, "train.steps=1", "compare.methods=[]", f"run.dir={tmp_path / 'run'}"]
    assert main(arguments) == 3
    said = capsys.readouterr().out.strip().splitlines()[-1]
    assert said.startswith("Verdict: not usable because ")
    assert "the fit had 1 steps" in said
    verdict = read_metrics(tmp_path / "run")["verdict"]
    assert verdict["level"] == "not usable"
    assert main(["report", str(tmp_path / "run")]) == 0
    assert "Verdict: not usable" in capsys.readouterr().out
