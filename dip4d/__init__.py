"""DIP-4D: one 3D volume for every image of an electron-tomography tilt series."""

import os

# Import this before torch. OpenMP's threads then sleep between two operations instead of spinning: on a busy machine
# the spinning threads take the cores from the projector's own, and SIRT was measured seven times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
