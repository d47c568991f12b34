"""A specimen that turns, travels or bends while it changes: its motion is learned apart from its change."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dip4d.reconstruction.factors import Layers, added
from dip4d.reconstruction.networks.base import OrthosliceNetwork
from dip4d.reconstruction.networks.low_rank import BoundedLowRank, Decoder
from dip4d.reconstruction.networks.rigid_motion import RigidMotion
from dip4d.reconstruction.precision import no_autocast
from dip4d.reconstruction.variation import bounded

TIMES_AT_ONCE = 16  # as many are rendered together, so that memory does not grow with the series
PLANES_APART = 4  # planes between two whose change in time is kept small


class Moving(OrthosliceNetwork):
    """A network that draws the specimen in a frame that moves with it, and the motion of that frame.

    An orthoslice (z, t) cuts obliquely through the specimen, so all its planes are drawn at once and the logit is
    interpolated between them.

    specimen: the network; its z counts the planes of the specimen.
    motion: to start from.
    tau: (T,), 0..1, of the images.
    n_z: Z of the volume.
    margin: planes that the specimen has more than the volume at each end, for what moves in and out.
    """

    draws_whole_specimen = True
    tau: Tensor

    def __init__(
        self,
        specimen: BoundedLowRank,
        motion: RigidMotion,
        *,
        tau: Tensor,
        n_z: int,
        margin: int = 0,
    ) -> None:
        super().__init__()
        self.specimen, self.motion, self.n_z, self.margin = specimen, motion, n_z, margin
        self.register_buffer("tau", tau.float(), persistent=False)

    def muon_matrices(self) -> list[nn.Parameter]:
        """Those of the decoder: its steps are few, since each draws all planes, and Muon needs fewer."""
        return cast(Decoder, self.specimen.decoder).kernels()

    def learned_bound(self) -> float:
        return self.specimen.learned_bound()

    def learned_motion(self) -> RigidMotion:
        return self.motion

    def features(self, z: Tensor, images: tuple[Tensor, ...] | None) -> tuple[Tensor, Tensor]:
        """z: (B,), pixels. Returns it with the maps (Z + 2 margin, K, Y, X) of the whole specimen; images are not used:
        what rows show does not lie in the frame of the specimen.
        """
        planes = torch.arange(self.n_z + 2 * self.margin, device=z.device, dtype=torch.float32)
        return z.float(), self.specimen.features(planes, None)

    def render(self, features: tuple[Tensor, Tensor], tau: Tensor) -> Tensor:
        """tau: (B, n), 0..1. Returns orthoslices (B, n, Y, X), intensity per voxel.

        Where tau is expanded along B, as that of whole images, nothing has to be sorted by time.
        """
        z, maps = features
        if tau.stride(0) == 0:
            return self._cuts(maps, tau[0], z=z.expand(tau.shape[1], -1)).transpose(0, 1)
        times, which = tau.unique(return_inverse=True)
        which, z = which.flatten(), z[:, None].expand_as(tau).flatten()
        order = which.argsort(stable=True)  # all planes asked for at one time stand together
        counts = which.bincount(minlength=len(times))
        place = torch.arange(len(order), device=z.device) - (counts.cumsum(0) - counts)[which[order]]
        asked = z.new_zeros(len(times), int(counts.max()))
        asked[which[order], place] = z[order]
        slot = torch.empty_like(order)
        slot[order] = which[order] * asked.shape[1] + place
        return self._cuts(maps, times, z=asked).flatten(0, 1)[slot].unflatten(0, tau.shape)

    def _cuts(self, maps: Tensor, times: Tensor, *, z: Tensor) -> Tensor:
        """Planes z (n, P) of the volume at times (n,): (n, P, Y, X), a few times at once."""
        parts = zip(times.split(TIMES_AT_ONCE), z.split(TIMES_AT_ONCE), strict=True)
        return torch.cat([self._cut(maps, some, z=planes) for some, planes in parts])

    def _cut(self, maps: Tensor, times: Tensor, *, z: Tensor) -> Tensor:
        """As `_cuts`, all at once."""
        height, width = maps.shape[2:]
        materials = self.specimen.factors(maps, times.expand(len(maps), -1))
        logits = [m.logit().unflatten(-1, (height, width)).transpose(0, 1) for m in materials]  # (n, planes, Y, X)
        if self.motion.held:
            which = torch.arange(len(times), device=z.device)[:, None], z.long() + self.margin
            cuts = [logit[which] for logit in logits]
        else:
            where = self._places(times, z, shape=(height, width), planes=len(maps))
            cuts = [F.grid_sample(x[:, None], where, padding_mode="border", align_corners=True) for x in logits]
        drawn = [bounded(cut, m.bound) for cut, m in zip(cuts, materials, strict=True)]  # which overwrites a cut
        return added(drawn).reshape(len(times), -1, height, width)

    def _places(self, times: Tensor, z: Tensor, *, shape: tuple[int, int], planes: int) -> Tensor:
        """Where the pixels (y, x) of the planes z (n, P) lie in so many planes of the specimen at times (n,), as
        grid_sample counts: (n, P, Y, X, 3).
        """
        height, width = shape
        rotation, travel = self.motion(times)
        from_middle = lambda numbers, count: numbers - (count - 1) / 2
        along_x, along_y, along_z = rotation[:, None, None, None].unbind(-2)  # (n, 1, 1, 1, 3)
        x = from_middle(torch.arange(width, device=z.device, dtype=z.dtype), width)[:, None]
        y = from_middle(torch.arange(height, device=z.device, dtype=z.dtype), height)[:, None, None]
        planes_z = from_middle(z, self.n_z)[..., None, None, None]
        # R^T (p - d), as sums: a GPU rounds products of matrices to 10 bits, and autocast to 8
        back = (travel[..., None] * rotation).sum(-2)[:, None, None, None]
        own = (planes_z * along_z - back) + y * along_y + x * along_x  # (n, P, Y, X, 3)
        along = lambda pixels, count: pixels.flatten() / max(count - 1, 1) + 0.5
        place = {"z": z / max(self.n_z - 1, 1), "y": along(y, height), "x": along(x, width)}
        with no_autocast(z.device):
            bent = self.motion.displacement(times, **place)
        own = own if bent is None else own + bent
        vector = lambda *numbers: torch.stack([z.new_full((), n) for n in numbers])  # a copy from the CPU would wait
        own = own + vector((width - 1) / 2, (height - 1) / 2, (self.n_z - 1) / 2 + self.margin)
        return own / vector(width - 1, height - 1, planes - 1).clamp(min=1) * 2 - 1

    def in_specimen_frame(self, features: tuple[Tensor, Tensor], layers: Layers) -> Layers:
        """Some planes of the specimen in its own frame, at the times of all images: (planes, T, Y, X)."""
        maps = features[1][::PLANES_APART]
        return self.specimen.layers(maps, self.tau.expand(len(maps), -1), draw=False)
