"""Advice: other acquisitions of the same specimen are imaged as they say; what they would tell stands in a table."""

from __future__ import annotations

import numpy as np
import pytest

from dip4d.__main__ import main
from dip4d.commands import plan
from dip4d.errors import InputError
from dip4d.experiment.advice import Acquisition, Found, RunSource, SpecimenSource, acquisitions_of

TINY = ["specimen=nanostar", "simulate.size=16", "simulate.frames=12", "train.steps=20", "network.motion=never"]


def test_a_run_is_imaged_as_asked(folder):
    source = RunSource(folder)
    series, volumes = source.imaged(source.taken, seed=1)
    original = source.original
    np.testing.assert_allclose(series.angles_deg, original.series.angles_deg)
    np.testing.assert_allclose(series.times_s, original.series.times_s)
    noise = original.noise.mean_variance(original.predicted)
    put_in = original.predicted + original.amount * (original.sharpened - original.predicted)
    assert np.square(series.images - put_in).mean() == pytest.approx(noise, rel=0.2)
    assert len(list(volumes())) == source.taken.images

    few, _ = source.imaged(Acquisition(8, 4.0, 30.0, "incremental"), seed=1)
    np.testing.assert_allclose(few.angles_deg, np.linspace(-30, 30, 8))
    assert (few.times_s[0], few.times_s[-1]) == (series.times_s[0], series.times_s[-1])


def test_four_times_the_dose_has_half_the_noise(folder):
    source = RunSource(folder)
    clean = source.imaged(Acquisition(12, 1e6, source.taken.max_angle), seed=1)[0].images
    imaged = lambda dose: source.imaged(Acquisition(12, dose, source.taken.max_angle), seed=2)[0].images
    rms = [float(np.sqrt(np.square(imaged(dose) - clean).mean())) for dose in (1.0, 4.0)]
    assert rms[1] == pytest.approx(rms[0] / 2, rel=0.1)


def test_the_plan_of_a_run_is_a_table_and_a_sentence(folder, capsys):
    kept = {name: (folder / name).read_bytes() for name in ("checkpoint.ckpt", "volumes.ome.tif", "metrics.json")}
    assert main(["plan", str(folder), "--images", "8"]) == 0
    said = capsys.readouterr().out
    assert "2 acquisitions, a fit of 30 steps each: about" in said
    assert "The volume is known to" in said
    header, *rows = (folder / "plan.csv").read_text().splitlines()
    assert header == "images,dose,max_angle_deg,order,volume,surface,Au,mixing_index,psnr_db"
    assert [row.split(",")[0] for row in rows] == ["12", "8"]
    assert all((folder / name).read_bytes() == content for name, content in kept.items())


def test_a_specimen_is_planned_without_a_run(tmp_path, capsys):
    table = tmp_path / "plan.csv"
    assert main(["plan", *TINY, "--order", "incremental", "--csv", str(table)]) == 0
    assert "one sweep" in capsys.readouterr().out
    assert len(table.read_text().splitlines()) == 3
    assert main(["plan", *TINY, "--csv", str(table)]) == 2  # nothing is overwritten
    assert "is there already" in capsys.readouterr().err


def test_what_is_tried_without_being_asked():
    tried = acquisitions_of(Acquisition(100, 1.0, 70.0))
    assert tried[0] == Acquisition(100, 1.0, 70.0)
    assert {(a.images, a.dose, a.max_angle, a.order) for a in tried[1:]} == {
        (50, 1.0, 70.0, None),
        (100, 0.5, 70.0, None),
        (100, 2.0, 70.0, None),
        (100, 1.0, 49.0, None),
        (100, 1.0, 70.0, "incremental"),
    }


@pytest.mark.parametrize(
    ("keys", "says"),
    [({"images": [3]}, "--images 3"), ({"doses": [0.0]}, "--dose 0"), ({"max_angles": [120.0]}, "--tilt 120")],
)
def test_what_cannot_be_taken_is_refused(keys, says):
    with pytest.raises(InputError, match=says):
        acquisitions_of(Acquisition(100, 1.0, 70.0), **keys)


def test_advice_names_what_would_do_and_what_would_not():
    from dip4d.config.load import load_config

    source = SpecimenSource(load_config(["simulate.specimen=nanostar"]))
    taken = source.taken
    found = [
        Found(taken, {"volume": 0.01}, 40.0),
        Found(Acquisition(60, 1.0, taken.max_angle), {"volume": 0.02}, 38.0),
        Found(Acquisition(100, 0.4, taken.max_angle), {"volume": 0.015}, 38.0),
        Found(Acquisition(100, 1.0, taken.max_angle, "incremental"), {"volume": 0.09}, 30.0),
    ]
    assert plan.advice(found, source) == (
        "The volume is known to 1 % from the series as it was taken; to 2 % or better it would still be with: "
        "60 images (2 %); 0.4 times the dose, 200 counts (1.5 %); it would not with: one sweep (9 %)."
    )


def test_where_nothing_came_back_there_is_no_advice():
    from dip4d.config.load import load_config

    source = SpecimenSource(load_config(["simulate.specimen=nanostar"]))
    lost = Found(source.taken, {"volume": float("nan")}, 10.0)
    known = Found(source.taken, {"volume": 0.01}, 40.0)
    assert "not known" in plan.advice([lost, known], source)
    other = Found(Acquisition(60, 1.0, source.taken.max_angle), {"volume": float("nan")}, 10.0)
    assert plan.advice([known, other], source).endswith("it would not with: 60 images (nan %).")


@pytest.mark.parametrize("what", [["nowhere"], ["specimen=unknown"], ["specimen=nanostar", "data.path=x.mrc"]])
def test_what_cannot_be_planned_is_one_line(what, capsys):
    assert main(["plan", *what]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
