"""The fit: a LightningModule in which network, microscope and loss, each handed in, meet in one line."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence

import lightning as L
import torch
from torch import Tensor, nn

from dip4d.averaging import AveragedWeights, BestWeights
from dip4d.data import Batch, Rows, TiltRows, drawn
from dip4d.loss import total_variation
from dip4d.networks import Moving
from dip4d.optimiser import make_optimiser
from dip4d.physics import Microscope
from dip4d.refinement import PoseRefinement

WORSE, PATIENCE = 1.01, 3  # so many times the lowest held-out error, so often in a row: the fit ends,
SETTLED = 0.3  # though not before this part of its schedule
EVERY = 4  # frames (or planes) between two whose total variation is added up
AT_ONCE = 64  # images of a batch projected at once
CONTRAST = 4.0  # brings the back-projections of a small particle to about unit variance


class Schedule:
    """How far the fit is, 0..1, by steps or by time, whichever is further; and the learning rate for it.

    One cycle (Smith and Topin 2019): a cosine up during the first tenth, a cosine down to nothing at the end, so the
    whole cycle fits whatever the budget. steps: at most so many. seconds: the fit ends so long after `began` (a
    time.monotonic()), whatever else was done since; None for no limit. Without a limit, or where it does not bind, the
    learning rate depends on the step alone and a run can be repeated exactly. constant: no cycle, one rate throughout.
    """

    def __init__(
        self, steps: int, seconds: float | None = None, began: float | None = None, constant: bool = False
    ) -> None:
        self.steps, self.seconds, self.constant = steps, seconds, constant
        self.began = time.monotonic() if began is None else began
        self.spent = 0.0  # in earlier parts of an interrupted run
        self._started: float | None = None

    def start(self) -> None:
        """Called when the fit starts, or goes on: what is left of the time is its own."""
        self._started = time.monotonic()
        if self.seconds is not None:
            self.seconds -= self._started - self.began

    def stop(self) -> None:
        self.spent, self._started = self.elapsed(), None

    def pause(self, seconds: float) -> None:
        """Something else took so long: the fit goes on as if it had not."""
        if self._started is not None:
            self._started += seconds

    def elapsed(self) -> float:
        return self.spent + (0.0 if self._started is None else time.monotonic() - self._started)

    def progress(self, step: int) -> float:
        by_time = 0.0 if self.seconds is None else self.elapsed() / max(self.seconds, 1.0)
        return min(1.0, max(step / self.steps, by_time))

    def learning_rate(self, step: int, peak: float) -> float:
        if self.constant:
            return peak
        p, warm = self.progress(step), 0.1
        if p < warm:
            low = peak / 25
            return low + (peak - low) * 0.5 * (1 - math.cos(math.pi * p / warm))
        return peak * 0.5 * (1 + math.cos(math.pi * (p - warm) / (1 - warm))) + peak * 1e-4


class DIP4D(L.LightningModule):
    """Fits a network to one tilt series.

    network: offers `features` and `render`, as `dip4d.networks.BoundedLowRank`. microscope: the forward model.
    loss: of projected and measured rows. schedule: see above. windows: how many windows of time the rows are
    back-projected into for the network; 0 shows it none. brightest: intensity per voxel of the brightest material.
    smoothness, steadiness: weights of the total variation of the orthoslices in space and in time. rows: how many of
    each position a step fits, drawn at random; all of them if None. poses: of the images, refined with the network;
    None where the alignment is trusted. average: decay of the averaged weights, which are those that are measured and
    kept; 0 for none. kernels: matrices of the network that Muon fits instead of Adam.

    Held-out rows end the fit, where noise begins to be fitted, and choose its weights, as `BestWeights` says.
    """

    def __init__(
        self,
        network: nn.Module,
        microscope: Microscope,
        loss: nn.Module,
        schedule: Schedule,
        learning_rate: float,
        windows: int,
        brightest: float,
        smoothness: float = 0.0,
        steadiness: float = 0.0,
        rows: int | None = None,
        poses: PoseRefinement | None = None,
        average: float = 0.0,
        kernels: Sequence[nn.Parameter] = (),
    ) -> None:
        super().__init__()
        self.kernels = list(kernels)
        self.poses = poses
        self.network, self.microscope, self.loss, self.schedule = network, microscope, loss, schedule
        self.smoothness, self.steadiness, self.rows = smoothness / brightest, steadiness / brightest, rows
        self.learning_rate, self.windows, self.brightest = learning_rate, windows, brightest
        self._squares = torch.zeros(2, dtype=torch.float64)
        self.best = BestWeights()
        self._worse = 0  # times in a row
        self.averaged = AveragedWeights(self, average)

    def posed(self, z: Tensor, rows: Rows) -> tuple[Rows, Tensor | None]:
        """Rows of positions z (B,) as their images lie, and their shifts (B, n) in bins; None for no shifts."""
        return (rows, None) if self.poses is None else self.poses(z, rows)

    def images(self, rows: Rows, shift: Tensor | None = None) -> Tensor | None:
        """What the network is shown of rows and their shifts: (B, windows, Y, X), or None."""
        if self.windows == 0:
            return None
        with torch.no_grad():  # what is shown does not teach the poses
            seen = self.microscope.back_project(rows.values, rows.angles, rows.progress, self.windows, shift)
        return seen * (CONTRAST / self.brightest)

    def features(self, z: Tensor, rows: Rows | None) -> Tensor:
        """What the network makes of positions z (B,) and their rows."""
        return self.network.features(z, None if rows is None else self.images(*self.posed(z, rows)))

    def forward(self, z: Tensor, rows: Rows | None, progress: Tensor) -> Tensor:
        """Orthoslices (B, n, Y, X) at positions z (B,) and times progress (B, n), given rows of z, or none."""
        return self.network.render(self.features(z, rows), progress)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        rows = batch.rows if self.rows is None else drawn(batch.rows, self.rows, self.global_step)
        rows, shift = self.posed(batch.z, rows)
        features = self.features(batch.z, batch.rows)
        slices = self.network.render(features, rows.progress)
        projected = self.microscope.project(slices, rows.angles, shift)
        measured = rows.values if rows.known is None else rows.values.where(rows.known[..., None], projected.detach())
        loss = self.loss(projected, measured)
        if self.smoothness:
            loss = loss + self.smoothness * total_variation(slices[:, ::EVERY])
        if self.steadiness and slices.shape[1] > 1:
            still = self.network.at_rest(features, EVERY) if isinstance(self.network, Moving) else slices
            loss = loss + self.steadiness * still.diff(dim=1).abs().mean()  # a change and its undoing count twice
        self.log("train/loss", loss, prog_bar=True)
        self.log("train/learning_rate", self.optimizers().param_groups[0]["lr"])
        return loss

    def on_train_start(self) -> None:
        self.schedule.start()

    def on_train_end(self) -> None:
        self.schedule.stop()
        data: TiltRows = self.trainer.datamodule
        if not self.trainer.interrupted:
            self.averaged.swap()
            if data.held_out.numel():
                error = lambda: self.held_out_error(data)
                self.best.offer(self.global_step, error(), self)
                self.best.load_into(self, error)

    def optimizer_step(self, *arguments, **keys) -> None:
        super().optimizer_step(*arguments, **keys)
        self.averaged.update()  # here, so that a checkpoint of this step has it

    def on_train_batch_end(self, *_) -> None:
        if self.schedule.progress(self.global_step) >= 1:
            self.trainer.should_stop = True

    def configure_optimizers(self):
        optimizer = make_optimiser(self.parameters(), self.learning_rate, self.kernels)
        relative = lambda step: self.schedule.learning_rate(step, 1.0)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, relative)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_validation_start(self) -> None:
        self.averaged.swap()
        self._squares.zero_()

    def validation_step(self, batch: Batch, _: int) -> None:
        self._squares += self.held_out_squares(batch)

    def on_validation_epoch_end(self) -> None:
        error = relative_error(self._squares)
        self.log("held_out/dip", error, prog_bar=True)
        self.best.offer(self.global_step, error, self)
        self._worse = self._worse + 1 if error > WORSE * self.best.lowest else 0
        settled = not self.schedule.constant and self.schedule.progress(self.global_step) > SETTLED
        if settled and self._worse >= PATIENCE:
            self.trainer.should_stop = True

    def on_validation_end(self) -> None:
        self.averaged.swap()

    def held_out_squares(self, batch: Batch) -> Tensor:
        """`squares` of the held-out rows, predicted from what the other rows tell."""
        slices = self(batch.z, batch.rows, batch.held_out.progress)
        rows, shift = self.posed(batch.z, batch.held_out)
        return squares(*map(rows.only_known, (self.microscope.project(slices, rows.angles, shift), rows.values)))

    @torch.no_grad()
    def held_out_error(self, data: TiltRows) -> float:
        """Relative error of all held-out rows; NaN if there are none."""
        return relative_error(sum(self.held_out_squares(batch.to(self.device)) for batch in data.all_batches()))

    def held_out_images_error(self, data: TiltRows) -> float:
        """Relative error of the images kept aside as a whole; NaN if there are none."""
        images = data.unseen_images
        return relative_error(squares(*self.projected(data, images))) if images else math.nan

    @torch.no_grad()
    def projected(self, data: TiltRows, frames: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Some images as the volumes of their times predict them, and as measured: (t, z, s) each, on the CPU.

        frames: one or more. What the fit has not seen is predicted from what it has. Refined poses apply to both.
        """
        predicted, measured = [], []
        for z in torch.arange(len(data.rows)).split(data.slices):
            batch = data.batch(z).to(self.device)
            features = self.features(batch.z, batch.rows)
            of_z = []
            for some in torch.as_tensor(frames).split(AT_ONCE):
                rows, shift = self.posed(batch.z, data.rows_at(z, some.tolist()).to(self.device))
                slices = self.network.render(features, rows.progress)
                pair = self.microscope.project(slices, rows.angles, shift).float(), rows.values
                of_z.append([rows.only_known(v).cpu() for v in pair])
            for images, parts in zip((predicted, measured), zip(*of_z, strict=True), strict=True):
                images.append(torch.cat(parts, dim=1))
        return tuple(torch.cat(rows).transpose(0, 1) for rows in (predicted, measured))

    @torch.no_grad()
    def volumes(self, data: TiltRows, progress: Tensor) -> Iterator[Tensor]:
        """Yields the volume (Z, Y, X) at each progress (T,), intensity per voxel, on the CPU.

        The features of all positions are kept, the volumes are not.
        """
        batches = [batch.to(self.device) for batch in data.all_batches()]
        features = [self.features(batch.z, batch.rows) for batch in batches]
        for p in progress.tolist():
            times = [torch.full_like(batch.z, p)[:, None] for batch in batches]
            slices = [self.network.render(f, t)[:, 0].float().cpu() for f, t in zip(features, times, strict=True)]
            yield torch.cat(slices)

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["seconds"], checkpoint["worse"] = self.schedule.elapsed(), self._worse
        checkpoint["best"], checkpoint["averaged"] = self.best.state_dict(), self.averaged.state_dict()

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        self.schedule.spent, self._worse = checkpoint["seconds"], checkpoint["worse"]
        self.best.load_state_dict(checkpoint["best"])
        self.averaged.load_state_dict(checkpoint["averaged"])


def squares(predicted: Tensor, measured: Tensor) -> Tensor:
    """(2,): the sums of the squared differences and of the squared measurements, on the CPU."""
    of = (predicted - measured).cpu(), measured.cpu()  # where float64 is known: MPS has none
    return torch.stack([v.double().square().sum() for v in of])


def relative_error(sums: Tensor) -> float:
    """The root of the ratio of `squares`; NaN where nothing was measured."""
    error, norm = sums.tolist()
    return math.sqrt(error / norm) if norm > 0 else math.nan
