"""What is said of a run without truth: bad images are flagged, and the mass is flat."""

from __future__ import annotations

import numpy as np

from dip4d.simulation.simulate import simulate
from tests.helpers import measured, run


def test_bad_images_are_flagged_and_mass_is_flat(tmp_path, small, capsys):
    series, _ = simulate("static", 16, frames=40, scheme="grs", peak_counts=500, seed=0)
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
