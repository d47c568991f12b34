"""`dip4d view` hands the volumes to napari, or says how to get it."""

from __future__ import annotations

import sys
import types

import numpy as np

from dip4d.__main__ import main
from dip4d.run_folder import FIGURES


def test_view_without_napari_says_how_to_get_it(finished, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "napari", None)
    (finished / FIGURES).mkdir()
    (finished / FIGURES / "quality.png").touch()
    assert main(["view", str(finished)]) == 0
    said = capsys.readouterr().out
    assert "pip install 'napari[all]'" in said
    assert "quality.png" in said


def test_view_hands_volumes_and_scale_to_napari(finished, volumes, monkeypatch):
    seen = {}

    class Viewer:
        def __init__(self, **options):
            self.dims = types.SimpleNamespace()

        def add_image(self, images, **options):
            seen.update(options, images=np.array(images))

    monkeypatch.setitem(sys.modules, "napari", types.SimpleNamespace(Viewer=Viewer, run=lambda: seen.update(ran=True)))
    assert main(["view", str(finished)]) == 0
    np.testing.assert_array_equal(seen["images"], volumes)
    assert seen["scale"] == (1, 1.25, 1.25, 1.25)
    assert seen["ran"]
