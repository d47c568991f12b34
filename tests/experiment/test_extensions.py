"""What CONTRIBUTING.md promises: a network, a baseline, a score, a specimen and a format are one file or entry each."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dip4d.__main__ import main
from dip4d.conventional import methods
from dip4d.conventional.methods import Algorithm, add_algorithm
from dip4d.io import series as series_io
from dip4d.io.raw import Raw
from dip4d.measures import image_quality
from dip4d.measures.image_quality import Score
from dip4d.reconstruction.networks import NETWORKS, OrthosliceNetwork, Problem, register_network
from dip4d.simulation import specimens

TABLES = (
    NETWORKS, methods.ALGORITHMS, methods.METHODS, image_quality.SCORES, specimens.SPECIMENS, series_io.READERS
)  # fmt: skip


@pytest.fixture(autouse=True)
def put_back():
    """All tables are afterwards as they were."""
    before = [dict(table) for table in TABLES]
    yield
    for table, kept in zip(TABLES, before, strict=True):
        table.clear()
        table.update(kept)


class Blob(OrthosliceNetwork):
    """A toy: one voxel map for all times, in every position."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.map = nn.Parameter(torch.full((problem.n_z, *problem.slice_shape), 0.1))

    def features(self, z: Tensor, images: tuple[Tensor, ...] | None) -> Tensor:
        return self.map[z.long()]

    def render(self, features: Tensor, tau: Tensor) -> Tensor:
        return features[:, None].expand(-1, tau.shape[1], -1, -1).clamp(min=0)


def run(folder, *arguments: str) -> dict:
    assert main(["reconstruct", *arguments, f"run.dir={folder}"]) in (0, 3)
    return json.loads((folder / "metrics.json").read_text())


def test_a_toy_network_trains_and_stands_in_table_and_figures(tmp_path, small, capsys):
    register_network("blob", label="Toy blob")(Blob)
    small = [*small, "compare.methods=[]", "train.learning_rate=0.05"]
    start = run(tmp_path / "start", *small, "network=blob", "train.steps=1")
    metrics = run(tmp_path / "run", *small, "network=blob", "train.steps=100")
    assert metrics["held_out"]["dip"] < 0.5 * start["held_out"]["dip"]
    assert metrics["network"] == {"name": "blob", "label": "Toy blob", "ensemble": 1}
    assert "Toy blob" in capsys.readouterr().out
    del NETWORKS["blob"]
    assert main(["report", str(tmp_path / "run")]) == 0  # where the network is not known any more
    assert "Toy blob" in capsys.readouterr().out
    assert (tmp_path / "run" / "figures" / "quality.png").stat().st_size > 10_000
    assert main(["reconstruct", *small, "network.name=blob", f"run.dir={tmp_path / 'none'}"]) == 2


def landweber(A, y, *, row_mask=None):
    """x <- max(0, x + A^T (y - A x) / |A|^2), for ever."""
    x, use = A.T(y) * 0, 1.0 if row_mask is None else row_mask[..., None]
    while True:
        x = (x + A.T(use * (y - A(x))) / (y.shape[1] * max(A.domain_shape))).clamp(min=0)
        yield x


def test_a_toy_baseline_is_tuned_and_stands_in_table_and_figures(tmp_path, small, capsys):
    add_algorithm(Algorithm("landweber", "LW", "#00aa00", landweber))
    chosen = "compare.methods=[landweber_whole,landweber_window,landweber_frozen]"
    metrics = run(tmp_path / "run", *small, chosen, "train.steps=5")
    table = capsys.readouterr().out
    for words in ("LW, whole series", "LW, sliding window", "LW, frozen frames"):
        assert words in table
    assert set(metrics["methods"]) == {"dip", *(f"landweber_{s}" for s in ("whole", "window", "frozen"))}
    assert metrics["methods"]["landweber_whole"]["settings"]["iterations"] == 10  # slow: the most that were allowed
    assert 0 < metrics["held_out"]["landweber_whole"] < 1
    slices = np.load(tmp_path / "run" / "orthoslices.npz")
    assert "landweber_window_yx" in slices.files
    for name in methods.METHODS.copy():
        if name.startswith("landweber"):
            del methods.METHODS[name]
    assert main(["report", str(tmp_path / "run")]) == 0  # where the method is not known any more
    assert "landweber_frozen" in capsys.readouterr().out


def test_a_toy_score_stands_in_metrics_table_and_figure(tmp_path, small, capsys):
    relative = lambda volume, truth, *, data_range: -float(np.abs(volume - truth).mean() / data_range)
    image_quality.SCORES["mae"] = Score(relative, "minus the mean absolute error", 3)
    metrics = run(tmp_path / "run", *small, "compare.methods=[sirt_whole]", "train.steps=5")
    for method in ("dip", "sirt_whole"):
        assert len(metrics["methods"][method]["mae"]) == 12
        assert max(metrics["methods"][method]["mae"]) < 0
    assert "mae worst" in capsys.readouterr().out


def test_a_toy_specimen_is_simulated(tmp_path, small):
    ball = lambda points: lambda tau: 0.5 - 0.2 * tau - np.sqrt((points**2).sum(0))
    specimens.SPECIMENS["ball"] = lambda rng: specimens.Solid(((ball, 1.0),), 0.6)
    metrics = run(tmp_path / "run", *small, "simulate.specimen=ball", "compare.methods=[]", "train.steps=5")
    mass = metrics["mass"]["images"]
    assert mass[-1] / mass[0] == pytest.approx((0.3 / 0.5) ** 3, rel=0.1)  # it shrinks


def test_a_toy_format_is_read(tmp_path, small):
    images = np.random.default_rng(0).poisson(50, (12, 16, 16)).astype(np.float32)
    series_io.READERS[".toy"] = lambda path: Raw(np.load(path, allow_pickle=False), np.arange(12) * 10.0 - 60)
    with (tmp_path / "s.toy").open("wb") as file:
        np.save(file, images)
    metrics = run(tmp_path / "run", *small, f"data.path={tmp_path / 's.toy'}", "compare.methods=[]", "train.steps=2")
    assert len(metrics["images"]) == 12
