"""Draws pipeline.png, the picture at the top of the README, from a reconstruction: python docs/draw_pipeline.py"""

import shutil
import tempfile
from pathlib import Path

import dip4d
from dip4d.report.pipeline_figure import draw_pipeline
from dip4d.report.style import Look
from dip4d.run_folder import FIGURES, read_metrics

series, _ = dip4d.simulate("nanostar_alloying", 64, frames=60, seed=1)
movie = dip4d.reconstruct(series, steps=1200, network={"motion": "never"})
with tempfile.TemporaryDirectory() as folder:
    run = movie.save(Path(folder) / "run")
    (run / FIGURES).mkdir()
    (drawn,) = draw_pipeline(run, read_metrics(run), look=Look(dpi=150))
    shutil.copy(drawn, Path(__file__).parent / "pipeline.png")
