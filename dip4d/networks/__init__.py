"""Networks: from a position z and what was measured there to the orthoslice at any time.

A network is two functions: ``features(z, images)``, what a position z is given once, and ``render(features,
progress)``, the orthoslices at any times made from it. Another architecture only has to offer these two.
"""

from dip4d.networks.low_rank import BoundedLowRank, Clock, Decoder, VoxelMaps, octaves_of_z
from dip4d.networks.motion import Moving, RigidMotion
from dip4d.networks.rivals import TDDIP, Dipster

__all__ = [
    "TDDIP",
    "BoundedLowRank",
    "Clock",
    "Decoder",
    "Dipster",
    "Moving",
    "RigidMotion",
    "VoxelMaps",
    "octaves_of_z",
]
