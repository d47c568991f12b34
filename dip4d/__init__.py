"""DIP-4D: one 3D volume for every image of an electron-tomography tilt series."""

import os

# Import this before torch. OpenMP's threads then sleep soon between two operations instead of spinning on: on a busy
# machine the spinning threads take the cores from the projector's own, and SIRT was measured seven times slower. A
# short spin (10 us or so) is kept: without any, a step of the fit takes a quarter longer on two cores.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
