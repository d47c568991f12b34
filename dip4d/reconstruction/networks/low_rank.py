"""The deep image prior: from a position z and what was measured there to the orthoslice at any time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dip4d.conventional.series import whole_series
from dip4d.reconstruction.factors import Factors, Layers, added
from dip4d.reconstruction.modulation import normalised_modulated_silu
from dip4d.reconstruction.networks.base import OrthosliceNetwork, Problem, register_network
from dip4d.reconstruction.precision import no_autocast
from dip4d.reconstruction.variation import drawn, drawn_if_needed

COARSEST_PX = 8  # the decoder starts from a learned pattern of about this size
FINEST_CHANNELS = 0.5  # of all have the layers at full size, whose convolutions cost most: they draw as well
Z_DETAIL_PX = 12.0  # the shortest wave along z; finer ones fit noise where the specimen has none
SCALES_SHOWN = 2  # from the coarsest, at which the decoder is shown images: at finer ones it would copy their noise
FINE_SCALES = 3  # the finest, whose kernels Adam fits: it leaves alone what hardly matters, which is noise
TIME_PACE = 5.0  # the warp of time learns so many times faster than a weight of the decoder
UNEVEN = -0.4  # the logarithm of the share of a material at the start over that of the one before: none is like another
_GAIN, _OFFSET = 4.0, -2.0  # the logit is GAIN * mixture + OFFSET: an untrained network draws a faint, smooth haze


class Decoder(nn.Module):
    """Draws maps of one z, coarse to fine: a learned pattern, upsampled and convolved, each layer modulated by z.

    shape: (Y, X) of the maps.
    maps: how many to draw.
    n_z: Z, how many positions the volume has.
    images: how many images of a position it is shown (0: none); they enter at the coarse scales.
    channels: width of all layers but those at full size, which have a part of it.
    octaves: of the Fourier features of z; the finest has 2^(octaves - 2) periods over the volume.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        maps: int,
        *,
        n_z: int,
        images: int,
        channels: int,
        octaves: int,
    ) -> None:
        super().__init__()
        self.shape, self.n_z, self.images, self.octaves = shape, n_z, images, octaves
        levels = max(1, 1 + round(math.log2(min(shape) / COARSEST_PX)))
        self.sizes = [tuple(-(-n // 2**k) for n in shape) for k in reversed(range(levels))]
        width = 64
        self.position = nn.Sequential(nn.Linear(1 + 2 * octaves, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.pattern = nn.Parameter(0.3 * torch.randn(1, channels, *self.sizes[0]))
        finest = max(1, round(FINEST_CHANNELS * channels)) if levels > 1 else channels
        widths = [*[channels] * (levels - 1), finest]
        self.narrow = nn.Conv2d(channels, finest, 1) if levels > 1 else None
        self.first = nn.ModuleList(_Layer(channels, width) for channels in widths)
        self.second = nn.ModuleList(_Layer(channels, width) for channels in widths)
        self.enter = nn.ModuleList(nn.Conv2d(images, channels, 1) for channels in widths[:SCALES_SHOWN] if images)
        self.draw = nn.Conv2d(finest, maps, 1)
        with torch.no_grad():
            self.draw.weight *= 0.3
        nn.init.zeros_(cast(Tensor, self.draw.bias))

    def shown(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images (B, C, Y, X) averaged to the coarse scales at which they enter."""
        return tuple(F.adaptive_avg_pool2d(images, size) for size in self.sizes[: len(self.enter)])

    def forward(self, z: Tensor, images: tuple[Tensor, ...] | None) -> Tensor:
        """z: (B,), pixels. images: as by `shown`, or None. Returns (B, maps, Y, X)."""
        with no_autocast(z.device):  # bfloat16 would round z to half a position
            z = self.position(fourier_features(2 * z / max(self.n_z - 1, 1) - 1, self.octaves))
        innermost = {"memory_format": torch.channels_last}  # as convolutions want the channels
        x = self.pattern.expand(len(z), -1, -1, -1).contiguous(**innermost)
        if images is None:
            images = self.shown(x.new_zeros(len(z), self.images, *self.shape))
        for level, size in enumerate(self.sizes):
            if self.narrow is not None and level == len(self.sizes) - 1:
                x = self.narrow(x)  # while it is small
            if level:
                x = F.interpolate(x.contiguous(**innermost), size=size, mode="bilinear")
            if level < len(self.enter):
                x = x + self.enter[level](images[level])
            x = self.second[level](self.first[level](x, z), z)
        return self.draw(x)

    def kernels(self, finest_left_out: int = 0) -> list[nn.Parameter]:
        """Those of its convolutions, as matrices (channels, 9 channels), but for so many of the finest scales."""
        scales = range(max(0, len(self.sizes) - finest_left_out))
        return [cast(_Layer, layers[k]).kernel for layers in (self.first, self.second) for k in scales]


class _Layer(nn.Module):
    """Convolution, normalisation, and a gain and an offset for each channel that depend on z."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        convolve = nn.Conv2d(channels, channels, 3)
        self.kernel = nn.Parameter(convolve.weight.detach().flatten(1))  # a matrix: Muon takes no other
        self.bias = convolve.bias
        self.normalise = nn.GroupNorm(math.gcd(8, channels), channels)
        self.modulate = nn.Linear(width, 2 * channels)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        gain, offset = self.modulate(z).chunk(2, dim=1)
        x = F.conv2d(x, self.kernel.unflatten(1, (-1, 3, 3)), self.bias, padding=1)
        n = self.normalise
        return normalised_modulated_silu(x, n.weight, bias=n.bias, gain=gain, offset=offset, groups=n.num_groups)


def octaves_of_z(n_z: int, z_detail_px: float | None) -> int:
    """How many octaves of Fourier features make waves of at least so many pixels, `Z_DETAIL_PX` if None, over `n_z`
    positions.
    """
    return max(2, 2 + math.floor(math.log2(max(n_z, 1) / (z_detail_px or Z_DETAIL_PX))))


def fourier_features(z: Tensor, octaves: int) -> Tensor:
    """z in -1..1, (B,), to (B, 1 + 2 octaves)."""
    phase = z[:, None] * (math.pi / 2) * 2 ** torch.arange(octaves, device=z.device)
    return torch.cat([z[:, None], phase.sin(), phase.cos()], dim=1)


class VoxelMaps(nn.Module):
    """Maps of every z that are free in each voxel, in the place of a `Decoder`: the low-rank model without a network.

    initial: (Z, Y, X), the volume to start from, intensity per voxel; the maps beyond the first start at 0.
    maps: how many of each z.
    intensity_bound: the bound of the intensity at the start.
    """

    def __init__(self, initial: Tensor, maps: int, *, intensity_bound: float) -> None:
        super().__init__()
        start = torch.zeros(len(initial), maps, *initial.shape[1:])
        start[:, 0] = (torch.logit((initial / intensity_bound).clamp(0.02, 0.98)) - _OFFSET) / _GAIN
        self.maps = nn.Parameter(start)

    def shown(self, images: Tensor) -> tuple[Tensor, ...]:
        """They are shown no images."""
        return ()

    def kernels(self, finest_left_out: int = 0) -> list[nn.Parameter]:
        """They have none."""
        return []

    def forward(self, z: Tensor, images: tuple[Tensor, ...] | None) -> Tensor:
        """z: (B,), pixels; between positions the maps are interpolated. Returns (B, maps, Y, X)."""
        below = z.floor().long().clamp(0, len(self.maps) - 1)
        above = (below + 1).clamp(max=len(self.maps) - 1)
        share = (z - below)[:, None, None, None]
        return torch.lerp(self.maps[below], self.maps[above], share)


class TimeWarp(nn.Module):
    """The specimen's own time: runs fast where the specimen changes fast, slowly where it rests. From 0 to 1, learned.

    Between two images it runs evenly; how fast, is one parameter. A sudden event between two images is a jump of it,
    for which no function of time has to be steep. tau: (T,), times of the images, increasing, 0..1.
    """

    knots: Tensor

    def __init__(self, tau: Tensor) -> None:
        super().__init__()
        knots = torch.unique(tau.float())  # images taken at the same time share a knot
        self.register_buffer("knots", knots, persistent=False)
        self.pace = nn.Parameter(torch.zeros(max(len(knots) - 1, 1)))

    def forward(self, tau: Tensor) -> Tensor:
        """Own time, 0..1, of the shape of tau."""
        if len(self.knots) < 2:
            return tau
        ticks = self.knots.diff() * (TIME_PACE * self.pace).exp()
        own = torch.cat([ticks.new_zeros(1), ticks.cumsum(0)]) / ticks.sum()
        after = torch.searchsorted(self.knots, tau.contiguous()).clamp(1, len(self.knots) - 1)
        share = (tau - self.knots[after - 1]) / self.knots.diff()[after - 1]
        return torch.lerp(own[after - 1], own[after], share)


class BoundedLowRank(OrthosliceNetwork):
    """Orthoslices that are sums of materials, the logit of each a mixture of a few maps, with weights that change
    smoothly in the specimen's own time:

        slice(y, x; z, t) = m sum_l s_l sigmoid(4 sum_k psi_k(w(tau)) D_lk(y, x; z) - 2)

    D_lk: drawn by the decoder, one pass for all times. psi_k: the first `rank` cosines of time, the k-th divided by
    ``1 + damping k``. w: the specimen's own time. m, and the shares s_l, whose sum is 1: learned. Non-negative and
    bounded; smooth in t however the rows flicker. With two materials an interface inside of the specimen, whose
    intensity lies between 0 and m, is as sharp, and moves as easily, as its surface. The low rank outside of a bound
    follows dynamic shape sensing (Kadu, Lucka and Batenburg), the decoder the deep image prior (Yoo et al. 2021).

    decoder: from z, and what was measured there, to the maps.
    rank: how many functions of time, and maps of each material.
    damping: see above.
    intensity_bound: m at the start, the intensity per voxel expected of the brightest material.
    time_warp: w; None for the time of the images.
    windows: of time, in which the decoder is shown rows; 0 for none.
    materials: how many; the decoder draws the maps of each.
    """

    order: Tensor

    def __init__(
        self,
        decoder: Decoder | VoxelMaps,
        rank: int,
        *,
        damping: float,
        intensity_bound: float,
        time_warp: TimeWarp | None = None,
        windows: int = 0,
        materials: int = 1,
    ) -> None:
        super().__init__()
        self.decoder, self.time_warp, self.windows, self.materials = decoder, time_warp, windows, materials
        self.register_buffer("order", torch.arange(rank).float(), persistent=False)
        self.damping, self.stands_still = damping, False
        self.log_bound = nn.Parameter(torch.tensor(math.log(intensity_bound)))
        self.log_shares = nn.Parameter(UNEVEN * torch.arange(materials).float()) if materials > 1 else None

    def features(self, z: Tensor, images: tuple[Tensor, ...] | None) -> Tensor:
        """z: (B,), in pixels, fractions allowed. images: as by `shown`, or None. Returns the maps (B, L K, Y, X)."""
        return self.decoder(z, images)

    def muon_matrices(self) -> list[nn.Parameter]:
        """The kernels of the coarse scales, which Muon fits in a third of the steps; at fine ones it fits noise."""
        return self.decoder.kernels(finest_left_out=FINE_SCALES)

    def learned_bound(self) -> float:
        return float(self.log_bound.detach().exp())

    def shown(self, images: Tensor) -> tuple[Tensor, ...]:
        """Back-projected rows (B, C, Y, X) as the decoder takes them."""
        return self.decoder.shown(images)

    def render(self, features: Tensor, tau: Tensor) -> Tensor:
        """tau: (B, n), time in 0..1. Returns orthoslices (B, n, Y, X), intensity per voxel."""
        return added([drawn(material) for material in self.factors(features, tau)])

    def layers(self, features: Tensor, tau: Tensor, *, draw: bool = True) -> Layers:
        """The materials."""
        materials = self.factors(features, tau)
        if draw:
            return [drawn(material) for material in materials]
        return drawn_if_needed(materials)

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Inside, the same orthoslices at all times: the maps of the constant function alone."""
        self.stands_still = True
        try:
            yield
        finally:
            self.stands_still = False

    def factors(self, features: Tensor, tau: Tensor) -> list[Factors]:
        """Those of each material in the orthoslices of `render`."""
        own = tau if self.time_warp is None else self.time_warp(tau)
        psi = torch.cos(math.pi * self.order * own[..., None]) / (1 + self.damping * self.order)  # (B, n, K)
        if self.stands_still:
            psi = psi * (self.order == 0)
        bound = self.log_bound.exp()
        bounds = [bound] if self.log_shares is None else (bound * self.log_shares.softmax(0)).unbind()
        maps = features.chunk(self.materials, dim=1)
        return [Factors(_GAIN * psi, of, m, _OFFSET) for of, m in zip(maps, bounds, strict=True)]


@register_network("voxels", label="Bounded low rank, voxels")
def build_voxels(problem: Problem) -> BoundedLowRank:
    """The same low rank without a network: maps that are free in each voxel, started from SIRT."""
    n, bound = problem.settings, problem.intensity_bound
    maps = VoxelMaps(whole_series(problem.seen, n.start_iterations), n.rank, intensity_bound=bound)
    warp = TimeWarp(torch.from_numpy(problem.series.tau)) if n.time_warp else None
    return BoundedLowRank(maps, n.rank, damping=n.damping, intensity_bound=bound, time_warp=warp)
