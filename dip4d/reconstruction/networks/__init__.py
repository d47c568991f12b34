"""Networks, one file each; `base` says what a network offers. Every file of this folder is found by itself."""

from importlib import import_module
from pkgutil import iter_modules

from dip4d.reconstruction.networks.base import NETWORKS, OrthosliceNetwork, Problem, register_network

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["NETWORKS", "OrthosliceNetwork", "Problem", "register_network"]
