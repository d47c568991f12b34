"""What a network offers to the fit, and how one becomes known by its name.

A network is one file of this folder: a class that derives from `OrthosliceNetwork`, and a function that builds it from
a `Problem`, registered by name. The fit, the motion test and the report know nothing else of it:

    @register_network("mine", label="My network")
    def build(problem: Problem) -> OrthosliceNetwork: ...

``dip4d reconstruct network=mine`` then fits it. A preset of that name in `dip4d/config/presets/network` may add the
loss, batches and rates that it was made for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from dip4d.config.schema import Network as Settings
from dip4d.reconstruction.factors import Layers
from dip4d.tilt_series import TiltSeries

if TYPE_CHECKING:
    from dip4d.reconstruction.networks.rigid_motion import RigidMotion


class OrthosliceNetwork(nn.Module, ABC):
    """From a position z, and what was measured there, to the orthoslice at any time.

    windows: of time, in which the rows of a position are back-projected for `features`; 0 for a network that is shown
        no rows.
    draws_whole_specimen: a network that draws all positions at once gets batches of whole images.
    ensemble_size: how many networks it is the mean of.
    """

    windows: int = 0
    draws_whole_specimen: bool = False
    ensemble_size: int = 1

    def shown(self, images: Tensor) -> tuple[Tensor, ...]:
        """What `features` takes of back-projected rows (B, windows, Y, X), tensors (B, ...); they are kept."""
        return (images,)

    @abstractmethod
    def features(self, z: Tensor, images: tuple[Tensor, ...] | None) -> Any:
        """What a position is given once, for all its times.

        z: (B,), in pixels, fractions allowed. images: of its rows, as by `shown`; None without.
        """

    @abstractmethod
    def render(self, features: Any, tau: Tensor) -> Tensor:
        """Orthoslices (B, n, Y, X), intensity per voxel, from the features of z (B,) at times tau (B, n) in 0..1."""

    def layers(self, features: Any, tau: Tensor, *, draw: bool = True) -> Layers:
        """What adds up to the orthoslices of `render`, each smooth by itself: here these alone.

        draw: whether each must be a tensor; else they may be drawn together, or factors, of a network that has them.
        """
        return [self.render(features, tau)]

    def in_specimen_frame(self, features: Any, layers: Layers) -> Layers:
        """The layers (B, n, Y, X) whose change in time is kept small: those given, of a specimen at rest."""
        return layers

    def shared_out(self, count: int) -> list[tuple[OrthosliceNetwork, slice]]:
        """Which network a step fits to which of its `count` positions: here this one to all."""
        return [(self, slice(None))]

    def muon_matrices(self) -> Sequence[nn.Parameter]:
        """Parameters, matrices all, that Muon fits instead of Adam."""
        return ()

    def learned_bound(self) -> float | None:
        """The intensity per voxel above which it draws nothing, where it learns one."""
        return None

    def learned_motion(self) -> RigidMotion | None:
        """The motion of the specimen, rigid or bending, where the network learns one."""
        return None


@dataclass(frozen=True, eq=False)
class Problem:
    """What a network is built for.

    settings: the section `network` of the configuration.
    series: all images; only its shape, angles and times may be used.
    seen: the series less its test images.
    intensity_bound: intensity per voxel of the brightest material.
    motion: of the specimen as a whole, to start from; None if it is at rest.
    """

    settings: Settings
    series: TiltSeries
    seen: TiltSeries
    intensity_bound: float
    motion: RigidMotion | None = None

    @property
    def slice_shape(self) -> tuple[int, int]:
        """(Y, X) of an orthoslice, with the margin."""
        return self.series.slice_shape

    @property
    def n_z(self) -> int:
        """Positions along the tilt axis."""
        return self.series.shape[1]


@dataclass(frozen=True)
class NetworkEntry:
    """A network that is known by its name.

    label: as in tables and figures.
    build: from a `Problem` to the network.
    follows_motion: whether it can be built for a specimen that moves as a whole.
    """

    label: str
    build: Callable[[Problem], OrthosliceNetwork]
    follows_motion: bool = False


NETWORKS: dict[str, NetworkEntry] = {}


def register_network(name: str, *, label: str, follows_motion: bool = False) -> Callable:
    """Makes the decorated function, from a `Problem` to a network, known as `network.name`. See `NetworkEntry`."""

    def register(build: Callable[[Problem], OrthosliceNetwork]) -> Callable[[Problem], OrthosliceNetwork]:
        NETWORKS[name] = NetworkEntry(label, build, follows_motion)
        return build

    return register
