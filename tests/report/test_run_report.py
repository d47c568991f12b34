"""The table and the figures say what lies in the files of a run, those of the version before too, and nothing else."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dip4d.errors import InputError
from dip4d.io.volumes import write_volumes
from dip4d.measures.image_quality import ERRORS
from dip4d.report.orthoslice_figure import _asked_for
from dip4d.report.orthoslices import densest_z, orthoslices
from dip4d.report.pipeline_figure import _to_follow, draw_pipeline
from dip4d.report.run_report import draw_figures, print_table, summarise
from dip4d.report.style import PLAIN, Look
from dip4d.report.uncertainty_figure import _truth, draw_uncertainty
from dip4d.run_folder import read_metrics
from tests.report.conftest import EDGE, FRAMES, ball, write_run

METRICS = {
    "methods": {
        "dip": {"psnr": [30.0, 40.0], "ssim": [0.9, 1.0]},
        "sirt_whole": {"psnr": [20.0, None], "ssim": [0.5, None]},
        "of_another_time": {"psnr": [10.0, 12.0], "ssim": [0.1, 0.2]},
    },
    "held_out": {"dip": 0.125, "sirt_whole": 0.25},
    "held_out_images": {"dip": 0.375, "sirt_whole": None},
    "times_s": [0.0, 1.5],
}


@pytest.fixture
def folder(tmp_path):
    """The files of a run of two frames that figures are made from."""
    volumes, images = np.random.default_rng(0).random((2, 4, 6, 6)), np.ones((2, 4, 6))
    slices = [orthoslices(name, volumes, images=images) for name in ("truth", *METRICS["methods"])]
    np.savez(tmp_path / "orthoslices.npz", frames=[0, 1], **{k: v for some in slices for k, v in some.items()})
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS))
    return tmp_path


def test_the_table_has_the_scores_and_the_errors_of_every_method(capsys):
    print_table(METRICS)
    said = capsys.readouterr().out
    for words in ("35.00", "30.00", "0.1250", "0.3750", "SIRT, whole series", "of_another_time", "validation rows"):
        assert words in said
    assert ERRORS["held_out_without_noise"].words not in said  # no method has it


def test_ours_is_told_at_the_frames_of_others_too_and_a_search_cut_short_is_named(capsys):
    cut = METRICS["methods"]["sirt_whole"] | {"search_cut_short": True}
    print_table(METRICS | {"methods": METRICS["methods"] | {"sirt_whole": cut}})
    lines = capsys.readouterr().out.splitlines()
    (ours,) = [line for line in lines if "DIP-4D, at 1 of 2 frames" in line]
    assert "30.00" in ours
    assert "35.00" not in ours
    names = " ".join(line.split("│")[1].strip() for line in lines if line.startswith("│"))  # long ones are wrapped
    assert "SIRT, whole series, search cut short, at 1 of 2 frames" in names
    assert sum("of 2 frames" in line for line in lines) == 2


def test_the_network_has_the_label_that_its_run_gave_it(capsys):
    print_table(METRICS)  # of the version before, which had but one
    assert "DIP-4D" in capsys.readouterr().out
    print_table(METRICS | {"network": {"name": "mine", "label": "My network"}})
    said = capsys.readouterr().out
    assert "My network" in said
    assert "DIP-4D" not in said


def test_figures_are_drawn_of_what_there_is(folder):
    drawn = draw_figures(folder)
    assert {path.name for path in drawn} == {"orthoslices_yx.png", "orthoslices_zx.png", "quality.png"}
    assert all(path.stat().st_size > 5_000 for path in drawn)
    blind = METRICS | {"methods": {name: {} for name in METRICS["methods"]}}
    (folder / "metrics.json").write_text(json.dumps(blind))
    assert {path.name for path in draw_figures(folder)} == {"orthoslices_yx.png", "orthoslices_zx.png"}


def test_several_runs_get_a_figure_of_all(folder, capsys):
    assert folder / "figures" / "runs.png" not in summarise([folder])
    other = folder / "other"
    other.mkdir()
    for name in ("metrics.json", "orthoslices.npz"):
        (other / name).write_bytes((folder / name).read_bytes())
    assert other / "figures" / "runs.png" in summarise([folder, other])
    assert str(other) in capsys.readouterr().out


def test_a_broken_file_is_named(folder):
    (folder / "orthoslices.npz").write_text("these are no orthoslices")
    with pytest.raises(InputError, match=r"orthoslices\.npz: damaged, or not that of a run"):
        draw_figures(folder)
    (folder / "metrics.json").write_text("{")
    with pytest.raises(InputError, match=r"metrics\.json: damaged"):
        draw_figures(folder)


def test_orthoslices_go_through_the_densest_z_and_the_middle():
    images = np.ones((3, 5, 8))
    images[:, 3] = 2
    volume = np.arange(5 * 8 * 8.0).reshape(5, 8, 8)
    found = orthoslices("mine", [volume, 2 * volume], images=images)
    assert densest_z(images) == 3
    np.testing.assert_array_equal(found["mine_yx"], [volume[3], 2 * volume[3]])
    np.testing.assert_array_equal(found["mine_zx"], [volume[:, 4], 2 * volume[:, 4]])


@pytest.fixture
def whole(folder):
    """The folder of a run with its movie and its images, too."""
    volumes = np.random.default_rng(1).random((2, 4, 6, 6)).astype(np.float32)
    write_volumes(folder / "volumes.ome.tif", volumes, shape=volumes.shape, times_s=np.array([0.0, 1.5]), pixel_nm=2.0)
    images = np.random.default_rng(2).random((2, 1, 4, 6)).astype(np.float32)
    np.savez(folder / "images.npz", frames=[1], unseen=[True], measured=images[0], predicted=images[1])
    (folder / "metrics.json").write_text(json.dumps(METRICS | {"images": [0, 2], "pixel_nm": 2.0}))
    return folder


def test_a_movie_gets_its_surfaces_and_kymographs_and_images_stand_beside_their_prediction(whole):
    names = {path.name for path in draw_figures(whole)}
    assert names >= {"surfaces.png", "kymograph.png", "images.png"}


def test_figures_come_in_every_format_and_are_the_same_when_drawn_again(whole):
    look = Look(formats=("png", "pdf", "svg"))
    first = {path: path.read_bytes() for path in draw_figures(whole, look)}
    assert {path.suffix for path in first} == {".png", ".pdf", ".svg"}
    again = {path: path.read_bytes() for path in draw_figures(whole, look)}
    assert again == first


def test_slices_that_are_asked_for_leave_the_others_alone(whole):
    draw_figures(whole)
    before = (whole / "figures" / "orthoslices_yx.png").read_bytes()
    drawn = draw_figures(whole, Look(frames=(1,), z=3, y=0))
    assert whole / "figures" / "orthoslices_yx_asked.png" in drawn
    assert (whole / "figures" / "orthoslices_yx.png").read_bytes() == before


def test_methods_whose_volumes_were_saved_stand_beside_ours_at_any_slice(whole):
    names = lambda: {name for s in _asked_for(whole, METRICS, look=Look(z=3)) for name in s.pictures}
    assert names() == {"DIP-4D"}
    (whole / "saved").mkdir()
    for name, frames in (("truth", 2), ("sirt_whole", 1), ("sirt_window", 1)):
        edge = 5 if name == "sirt_window" else 6  # of another run, which nothing can be compared with
        write_volumes(
            whole / "saved" / f"{name}.ome.tif", np.ones((frames, 4, edge, edge)), shape=(frames, 4, edge, edge),
            times_s=np.arange(frames),
        )  # fmt: skip
    assert names() == {"truth", "DIP-4D", "SIRT, whole series"}


def test_the_pipeline_is_drawn_from_the_data_of_a_run_with_a_truth_and_without(tmp_path):
    for name, with_truth in (("seeing", True), ("blind", False)):
        run = write_run(tmp_path / name, with_truth=with_truth)
        metrics = read_metrics(run)
        (plain,) = draw_pipeline(run, metrics)
        without_beam = plain.read_bytes()
        (drawn,) = draw_pipeline(run, metrics | {"angles_deg": [10.0 * t for t in range(FRAMES)]})
        assert drawn.name == "pipeline.png"
        assert drawn.read_bytes() != without_beam
    (run / "preview.npz").unlink()
    assert draw_pipeline(run, metrics) == []


def test_the_pipeline_follows_an_image_that_was_fitted_and_whose_volume_was_kept():
    times = np.arange(10.0)
    assert _to_follow(times, drawn_s=times, unseen=[]) == 2
    assert _to_follow(times, drawn_s=times, unseen=[2]) == 1
    assert _to_follow(times, drawn_s=times[::5], unseen=[]) == 0
    assert _to_follow(times, drawn_s=times[::5], unseen=[0]) == 5


def test_the_uncertainty_stands_below_the_volumes_and_beside_the_truth_where_there_is_one(tmp_path):
    run = write_run(tmp_path / "run")
    assert draw_uncertainty(run, read_metrics(run), look=PLAIN) == []
    times, shape = np.arange(FRAMES) * 2.0, (FRAMES, EDGE, EDGE, EDGE)
    for name, part in (("volumes", 0.9), ("uncertainty", 0.1)):
        frames = [part * ball(3 + 0.8 * t) for t in range(FRAMES)]
        write_volumes(run / f"{name}.ome.tif", frames, shape=shape, times_s=times, pixel_nm=0.5)
    truth = _truth(run, times[[0, 4]], shape=shape[1:])
    assert truth is not None
    np.testing.assert_allclose(truth[1], ball(3 + 0.8 * 4), atol=0.5 / 255 + 1e-6)
    assert _truth(run, np.array([0.5]), shape=shape[1:]) is None
    assert _truth(run, times, shape=(5, 5, 5)) is None  # it was kept binned
    shares = {"uncertainty": {"within_1_sigma": 0.7, "within_2_sigma": 0.9}}
    for metrics in (read_metrics(run), read_metrics(run) | shares):
        (drawn,) = draw_uncertainty(run, metrics, look=Look(frames=(0, 5), z=3))
        assert drawn.name == "uncertainty.png"


@pytest.mark.parametrize(("look", "words"), [(Look(frames=(2,)), "frames 2"), (Look(z=4), "z 4"), (Look(y=6), "y 6")])
def test_slices_that_a_movie_does_not_have_are_refused_in_a_line(whole, look, words):
    with pytest.raises(InputError, match=words):
        draw_figures(whole, look)
