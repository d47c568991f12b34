"""`dip4d view` hands the volumes to napari, or says how to get it."""

from __future__ import annotations

import sys
import types

import numpy as np

from dip4d.__main__ import main
from dip4d.io import write_volumes
from dip4d.run_folder import FIGURES, SAVED


def test_view_without_napari_says_how_to_get_it(finished, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "napari", None)
    (finished / FIGURES).mkdir()
    (finished / FIGURES / "quality.png").touch()
    assert main(["view", str(finished)]) == 0
    said = capsys.readouterr().out
    assert "pip install 'napari[all]'" in said
    assert "quality.png" in said


def test_view_hands_all_volumes_with_their_scale_to_napari(finished, volumes, monkeypatch):
    seen, ran = {}, []

    class Viewer:
        def __init__(self, **options):
            self.dims, self.scale_bar = types.SimpleNamespace(), types.SimpleNamespace()

        def add_image(self, images, **options):
            seen[options["name"]] = options | {"images": np.array(images)}

    times = {"shape": volumes.shape, "times_s": np.array([0.0, 30.0, 75.5])}
    write_volumes(finished / "uncertainty.ome.tif", volumes / 9, **times)
    (finished / SAVED).mkdir()
    write_volumes(finished / SAVED / "sirt_whole.ome.tif", volumes[:1], shape=(1, 4, 6, 6), times_s=np.zeros(1))
    monkeypatch.setitem(sys.modules, "napari", types.SimpleNamespace(Viewer=Viewer, run=lambda: ran.append(True)))
    assert main(["view", str(finished)]) == 0
    assert list(seen) == ["DIP-4D", "standard deviation", "SIRT, whole series"]
    np.testing.assert_array_equal(seen["DIP-4D"]["images"], volumes)
    assert seen["DIP-4D"]["scale"] == (37.75, 1.25, 1.25, 1.25)
    assert seen["DIP-4D"]["units"] == ("s", "nm", "nm", "nm")
    np.testing.assert_array_equal(seen["SIRT, whole series"]["images"], volumes[0])
    assert seen["SIRT, whole series"]["scale"] == (1.25, 1.25, 1.25)
    assert [name for name, layer in seen.items() if layer["visible"]] == ["DIP-4D"]
    assert ran
