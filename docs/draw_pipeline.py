"""Draws pipeline.png, the picture at the top of the README, from a reconstruction: python docs/draw_pipeline.py"""

from pathlib import Path

import numpy as np
import torch

import dip4d
from dip4d.report.pipeline_figure import draw_pipeline

T, Z = 12, 24  # the image and the row that are followed

series, _ = dip4d.simulate("nanostar_alloying", 64, frames=60, seed=1)
movie = dip4d.reconstruct(series, steps=1200, network={"motion": "never"})
volumes, bins = movie.volumes(), series.shape[2]
angle = torch.tensor([np.deg2rad(series.angles_deg[T])])
A = dip4d.Projector(dip4d.Geometry((bins, bins), bins, angle))
draw_pipeline(
    series.images,
    volumes,
    angles_deg=series.angles_deg,
    times_s=series.times_s,
    projected=A(torch.from_numpy(volumes[T, Z : Z + 1]))[0, 0].numpy(),
    path=Path(__file__).parent / "pipeline.png",
    t=T,
    z=Z,
)
