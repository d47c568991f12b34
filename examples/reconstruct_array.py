"""Twenty lines of Python: images, angles and times in, a movie of volumes out.

    python examples/reconstruct_array.py [FOLDER]

Put your own arrays in the place of the simulated ones. With FOLDER the result is saved there, as a run.
"""

import os
import sys

import dip4d

size, frames, steps = (16, 20, 30) if os.environ.get("DIP4D_TINY") else (48, 60, 1000)
simulated, truth = dip4d.simulate("nanostar_alloying", size, frames=frames)  # truth: (t, z, y, x), for scores only
images = simulated.images  # (t, z, s): time, along the tilt axis, across it; background subtracted
angles_deg = simulated.angles_deg  # (t,), in the order in which the images were taken
times_s = simulated.times_s  # (t,), seconds

movie = dip4d.reconstruct(images, angles_deg=angles_deg, times_s=times_s, truth=truth, steps=steps)

print(movie)
print("volume at the time of image 10:", movie.volume(10).shape)
print("volumes between images:", movie.at([0.5, 7.25]).shape)
for name, value in movie.metrics.items():
    print(f"  {name:26s} {value if value is None else round(value, 4)}")
if len(sys.argv) > 1:
    print("saved in", movie.save(sys.argv[1]), "- look at it with: dip4d view", sys.argv[1])
