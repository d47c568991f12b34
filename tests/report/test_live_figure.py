"""The live figure suits any series, and an image viewer never sees half of it."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from dip4d.report.live_figure import draw_live

KEYS = {"title": "title", "z": 3}


@pytest.mark.parametrize(
    ("frames", "size", "errors", "to_beat"),
    [
        (1, 8, {}, None),
        (2, 8, {100: 0.9, 200: 0.1}, ("SIRT", 0.2)),
        (6, 300, {}, ("SIRT", 0.2)),
        (6, 300, {9: 0.5}, None),
    ],
)
def test_it_suits_any_series(tmp_path, frames, size, errors, to_beat):
    some = np.random.default_rng(0).random((frames, size, size), np.float32)
    slices = {"ours": some if errors else None, "SIRT": some}
    draw_live(tmp_path / "live.png", slices, times_s=list(range(frames)), errors=errors, to_beat=to_beat, **KEYS)
    height, width, _ = imread(tmp_path / "live.png").shape
    assert width == 1034
    assert height > 600
    assert [p.name for p in tmp_path.iterdir()] == ["live.png"]


def test_a_disk_that_is_full_leaves_the_picture_before(tmp_path, monkeypatch):
    slices, keys = {"ours": np.ones((2, 8, 8))}, {"times_s": [0, 1], "errors": {}, "to_beat": None, **KEYS}
    draw_live(tmp_path / "live.png", slices, **keys)
    before = (tmp_path / "live.png").read_bytes()

    def fill(self, path, **_):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(Figure, "savefig", fill)
    with pytest.raises(OSError, match="No space"):
        draw_live(tmp_path / "live.png", slices, **keys)
    assert (tmp_path / "live.png").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["live.png"]
