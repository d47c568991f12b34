"""The fit: a LightningModule in which network, microscope and loss, each handed in, meet in one line."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal, cast

import lightning as L
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from dip4d.errors import InputError
from dip4d.reconstruction.data import Batch, Rows, TiltRows, as_the_first_does, drawn, rows_of_fit
from dip4d.reconstruction.factors import Layers
from dip4d.reconstruction.forward_model import Microscope
from dip4d.reconstruction.networks.base import OrthosliceNetwork
from dip4d.reconstruction.optimizers import make_optimizer
from dip4d.reconstruction.pose_refinement import PoseRefinement
from dip4d.reconstruction.schedule import Schedule
from dip4d.reconstruction.step_graph import StepGraph
from dip4d.reconstruction.variation import FRAMES_APART, variation_of_layers
from dip4d.reconstruction.weight_averaging import AveragedWeights, BestWeights

STOP_RATIO, STOP_PATIENCE = 1.01, 3  # so many times the lowest validation error, so often in a row: the fit ends,
STOP_EARLIEST = 0.3  # though not before this part of its schedule
CHECKPOINT_FORMAT = 6  # of what is kept of a fit; 5 knew one network
SHOWN_CONTRAST = 4.0  # brings the back-projections of a small particle to about unit variance


Ended = Literal["steps", "time", "validation", "hand"]  # what ended a fit


class DIP4D(L.LightningModule):
    """Fits a network to one tilt series. Validation rows end the fit, where noise begins to be fitted, and choose its
    weights, as `BestWeights` says.

    network: see `dip4d.reconstruction.networks.base`.
    microscope: the forward model.
    loss: of projected and measured rows.
    schedule: how far the fit is, and its learning rate.
    learning_rate: the peak of it.
    intensity_bound: intensity per voxel of the brightest material, the unit of the total variation.
    tv_space, tv_time, tv_z: weights of the total variation of the orthoslices in space, in time, and from one to the
        next along the tilt axis, where a batch holds neighbours.
    rows: how many of each position a step fits, drawn at random; all of them if None.
    poses: of the images, refined with the network; None where the alignment is trusted.
    ema_decay: of the averaged weights, which are those that are measured and kept; 0 for none.
    """

    def __init__(
        self,
        network: OrthosliceNetwork,
        microscope: Microscope,
        *,
        loss: nn.Module,
        schedule: Schedule,
        learning_rate: float,
        intensity_bound: float,
        tv_space: float = 0.0,
        tv_time: float = 0.0,
        tv_z: float = 0.0,
        rows: int | None = None,
        poses: PoseRefinement | None = None,
        ema_decay: float = 0.0,
    ) -> None:
        super().__init__()
        self.poses = poses
        self.network, self.microscope, self.loss, self.schedule = network, microscope, loss, schedule
        self.tv_space, self.tv_time, self.tv_z = (tv / intensity_bound for tv in (tv_space, tv_time, tv_z))
        self.rows = rows
        self.learning_rate, self.intensity_bound = learning_rate, intensity_bound
        self._squares: list[Tensor] = []  # of the validation batches
        self.best = BestWeights()
        self._worse = 0  # times in a row
        self._validated = 0  # the step of the last validation
        self._first_step = 1  # of this part of an interrupted fit
        self.ended: Ended = "steps"
        self.finished = False  # its weights are the chosen ones
        self.averaged = AveragedWeights(self, ema_decay)
        self.graph: StepGraph | None = None  # of `loss_of`, on CUDA

    def start_from(self, fitted: DIP4D) -> None:
        """Begins a fit from the weights of another, and its averaged weights from there too."""
        self.load_state_dict(fitted.state_dict())
        self.averaged = AveragedWeights(self, self.averaged.decay)

    def posed(self, z: Tensor, rows: Rows) -> tuple[Rows, Tensor | None]:
        """Rows of positions z (B,) as their images lie, and their shifts (B, n) in bins; None for no shifts."""
        return (rows, None) if self.poses is None else self.poses(z, rows)

    def images(self, rows: Rows, shift: Tensor | None = None) -> tuple[Tensor, ...] | None:
        """What the network is shown of rows and their shifts, as by `OrthosliceNetwork.shown`, or None."""
        windows = self.network.windows
        if windows == 0:
            return None
        if rows.back_projected is not None and shift is None:
            return rows.back_projected
        with torch.no_grad():  # what is shown does not teach the poses
            shown = self.microscope.back_project(rows.values, rows.angles, tau=rows.tau, windows=windows, shift=shift)
            return self.network.shown(shown * (SHOWN_CONTRAST / self.intensity_bound))

    def features(self, z: Tensor, rows: Rows | None, *, network: OrthosliceNetwork | None = None) -> Any:
        """What the network, or one of its parts, makes of positions z (B,) and their rows."""
        return (network or self.network).features(z, None if rows is None else self.images(*self.posed(z, rows)))

    def forward(self, z: Tensor, rows: Rows | None, *, tau: Tensor) -> Tensor:
        """Orthoslices (B, n, Y, X) at positions z (B,) and times tau (B, n), given rows of z, or none."""
        return self.network.render(self.features(z, rows), tau)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        rows = batch.rows if self.rows is None else drawn(batch.rows, self.rows, step=self.global_step)
        loss = self.graph(batch, rows) if self.graph else self.loss_of(batch, rows)
        self.log("train/loss", loss)
        optimizer = cast(LightningOptimizer, self.optimizers())
        self.log("train/learning_rate", torch.tensor(optimizer.param_groups[0]["lr"]))  # on a GPU it would wait
        return loss

    def loss_of(self, batch: Batch, rows: Rows) -> Tensor:
        """What a step makes smaller: the misfit of some rows of a batch, and the roughness of their orthoslices.

        The mean over the networks of the positions that are theirs.
        """
        parts, of_batch = self.network.shared_out(len(batch.z)), batch.rows
        if len(parts) == 1:
            return self._loss_of(self.network, batch.z, of_batch=of_batch, rows=rows)
        losses = [
            self._loss_of(network, batch.z[p], of_batch=of_batch.part(p), rows=rows.part(p)) for network, p in parts
        ]
        return torch.stack(losses).mean()

    def _loss_of(self, network: OrthosliceNetwork, z: Tensor, *, of_batch: Rows, rows: Rows) -> Tensor:
        """As `loss_of`, of one network: some rows of positions z (B,), of which all those in the batch are given."""
        rows, shift = self.posed(z, rows)
        features = self.features(z, of_batch, network=network)
        layers = network.layers(features, rows.tau, draw=self.poses is not None)  # poses learn from the slices
        projected = self.microscope.project_sum(layers, rows.angles, shift=shift)
        measured = rows.values
        if rows.row_mask is not None:
            measured = measured.where(rows.row_mask[..., None], projected.detach())
        loss = self.loss(projected, measured) + self.regularisation(network, features, layers=layers)
        if not self.tv_z:
            return loss
        return loss + self.tv_z * self.variation_along_z(network, features, z=z, tau=rows.tau)

    def regularisation(self, network: OrthosliceNetwork, features: Any, *, layers: Layers) -> Tensor | float:
        """The weighted total variation of the layers of orthoslices in space, and of those of the specimen in time."""
        if not (self.tv_space or self.tv_time):
            return 0.0
        space, time = variation_of_layers(layers)
        changing = network.in_specimen_frame(features, layers)
        if self.tv_time and changing is not layers:
            time = variation_of_layers(changing)[1]
        return self.tv_space * space + self.tv_time * time  # in time a change and its undoing count twice

    def variation_along_z(self, network: OrthosliceNetwork, features: Any, *, z: Tensor, tau: Tensor) -> Tensor:
        """The mean absolute difference of orthoslices at neighbouring positions, of z (B,), 1 pixel apart: 0 if there
        are none. At every few of the times tau (B, n) of the first, since each position has times of its own.
        """
        slices = network.render(features, tau[:1, ::FRAMES_APART].expand(len(z), -1))
        order = z.argsort()
        neighbours = (z[order].diff() == 1).to(slices)
        steps = slices[order].diff(dim=0).abs().mean((1, 2, 3))
        return (steps * neighbours).sum() / neighbours.sum().clamp(min=1)

    def on_fit_start(self) -> None:
        data = rows_of_fit(self.trainer)
        data.move(self.device)
        self.show_once(data)

    def show_once(self, data: TiltRows) -> None:
        """Works out what the network is shown of all rows, which only learned poses change, and leaves it with them."""
        if self.network.windows and self.poses is None:
            data.back_projected = None
            images = [self.images(batch.to(self.device).rows) or () for batch in data.all_batches()]
            data.back_projected = tuple(torch.cat(parts) for parts in zip(*images, strict=True))

    def end(self, why: Ended) -> None:
        """The fit ends with this step, for a reason; its best weights are kept."""
        self.ended, self.trainer.should_stop = why, True

    def on_train_start(self) -> None:
        went_on = self.finished
        if went_on:
            self._go_on()
        self.graph = StepGraph(self) if self.device.type == "cuda" and self.trainer.world_size == 1 else None
        self.schedule.start()
        self._first_step = self.global_step + 1
        if not went_on and self.global_step:
            self.catch_up()

    def catch_up(self) -> None:
        """Does what the step that a checkpoint was written at had still to do: end the fit, validate."""
        self._end_if_done()
        data, every = rows_of_fit(self.trainer), self.trainer.val_check_batch
        due = self.trainer.should_stop or (every and self.global_step % every == 0)
        if due and self._validated < self.global_step and data.validation.numel() and self.trainer.limit_val_batches:
            was_training = self.training
            self.eval()
            with self.averaged.used():
                self._judge(self.validation_error(data))
            self.train(was_training)

    def _go_on(self) -> None:
        """A finished fit goes on: a further cycle from the chosen weights, which stay those to beat."""
        self.finished, self.ended, self._worse = False, "steps", 0
        self.schedule.begin_cycle(self.global_step)
        self.averaged = AveragedWeights(self, self.averaged.decay)
        data = rows_of_fit(self.trainer)
        if data.validation.numel():
            self.best.offer(self.global_step, self.validation_error(data), network=self)

    def on_train_end(self) -> None:
        self.graph = None
        self.schedule.stop()
        if not self.trainer.interrupted:
            self.choose_weights()

    def choose_weights(self) -> None:
        """The fit has ended: gives the network its best weights. Raises InputError if it has none that are numbers."""
        self.finished, data = True, rows_of_fit(self.trainer)
        self.averaged.swap()
        if data.validation.numel():
            error = lambda: self.validation_error(data)
            self.best.offer(self.global_step, error(), network=self)
            self.best.load_into(self, error)
        if not all(bool(weight.isfinite().all()) for weight in self.parameters()):
            raise InputError("the fit has diverged: begin again with a lower train.learning_rate")

    def optimizer_step(self, *arguments, **keys) -> None:
        super().optimizer_step(*arguments, **keys)
        self.averaged.update()  # here, so that a checkpoint of this step has it

    def on_train_batch_end(self, *_) -> None:
        if self.global_step == self._first_step:
            self.schedule.discount()
        self._end_if_done()
        if self.trainer.world_size > 1:
            self.ended, self.trainer.should_stop = as_the_first_does(
                self.trainer, (self.ended, self.trainer.should_stop)
            )

    def _end_if_done(self) -> None:
        if self.schedule.fraction_done(self.global_step) >= 1:
            self.end("time" if self.global_step < self.schedule.steps else "steps")

    def configure_optimizers(self):
        optimizer = make_optimizer(self.parameters(), self.learning_rate, muon_matrices=self.network.muon_matrices())
        relative = lambda step: self.schedule.learning_rate(step, 1.0)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, relative)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_validation_start(self) -> None:
        self.averaged.swap()
        self._squares = []

    def validation_step(self, batch: Batch, _: int) -> None:
        self._squares.append(self.validation_squares(batch))

    def on_validation_epoch_end(self) -> None:
        error = relative_error(cast(Tensor, sum(self._squares)))
        self.log("validation/dip", error)
        self._judge(error)

    def _judge(self, error: float) -> None:
        """What a validation error means: weights to remember, and the end of the fit if it keeps rising."""
        self._validated = self.global_step
        self.best.offer(self.global_step, error, network=self)
        self._worse = self._worse + 1 if error > STOP_RATIO * self.best.lowest else 0
        settled = not self.schedule.constant and self.schedule.fraction_done(self.global_step) > STOP_EARLIEST
        if settled and self._worse >= STOP_PATIENCE:
            self.end("validation")

    def on_validation_end(self) -> None:
        self.averaged.swap()

    def validation_squares(self, batch: Batch) -> Tensor:
        """`squares` of the validation rows, as predicted from what the fitted rows tell, and as measured."""
        slices = self(batch.z, batch.rows, tau=batch.validation.tau)
        rows, shift = self.posed(batch.z, batch.validation)
        projected = self.microscope.project(slices, rows.angles, shift=shift)
        return squares(rows.masked(projected), rows.masked(rows.values))

    @torch.no_grad()
    def validation_error(self, data: TiltRows) -> float:
        """Relative error of all validation rows; NaN if there are none."""
        if not data.validation.numel():
            return math.nan
        of_batches = (self.validation_squares(batch.to(self.device)) for batch in data.all_batches())
        return relative_error(cast(Tensor, sum(of_batches)))

    @torch.no_grad()
    def image(self, data: TiltRows, frame: int, *, volume: Tensor, turn_deg: float = 0.0) -> tuple[Tensor, Tensor]:
        """An image as a volume predicts it, and as measured: (z, s) each, on the CPU. Refined poses apply to both.

        data: the rows.
        frame: its number.
        volume: (Z, Y, X), at its time, with the margin.
        turn_deg: by so much farther the specimen is tilted in the prediction.
        """
        z = torch.arange(len(data.rows))
        rows, shift = self.posed(z.float().to(self.device), data.rows_at(z, [frame]).to(self.device))
        angles = rows.angles + math.radians(turn_deg)
        projected = self.microscope.project(volume.to(self.device)[:, None], angles, shift=shift)
        predicted, measured = (rows.masked(v.float())[:, 0].cpu() for v in (projected, rows.values))
        return predicted, measured

    def volumes(self, data: TiltRows, tau: Tensor) -> Iterator[Tensor]:
        """Yields the volume (Z, Y, X) at each time tau (T,), intensity per voxel, on the CPU: what the images show."""
        return (data.series.field(whole) for whole in self.whole_volumes(data, tau))

    @torch.no_grad()
    def whole_volumes(self, data: TiltRows, tau: Tensor) -> Iterator[Tensor]:
        """As `volumes`, with the margin of the series: what has to be projected.

        The features of all positions are kept, the volumes are not.
        """
        batches = [batch.to(self.device) for batch in data.all_batches()]
        features = [self.features(batch.z, batch.rows) for batch in batches]
        for time in tau.tolist():
            times = [torch.full_like(batch.z, time)[:, None] for batch in batches]
            slices = [self.network.render(f, t)[:, 0].float().cpu() for f, t in zip(features, times, strict=True)]
            yield torch.cat(slices)

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["format"] = CHECKPOINT_FORMAT
        checkpoint["seconds"], checkpoint["worse"] = self.schedule.elapsed(), self._worse
        checkpoint["cycle"], checkpoint["finished"] = self.schedule.cycle, self.finished
        checkpoint["ended"], checkpoint["validated"] = self.ended, self._validated
        checkpoint["best"], checkpoint["averaged"] = self.best.state_dict(), self.averaged.state_dict()

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        self.schedule.spent, self._worse = checkpoint["seconds"], checkpoint["worse"]
        self.schedule.cycle, self.finished = checkpoint["cycle"], checkpoint["finished"]
        self.ended, self._validated = checkpoint["ended"], checkpoint["validated"]
        self.best.load_state_dict(checkpoint["best"])
        self.averaged.load_state_dict(checkpoint["averaged"])


def squares(predicted: Tensor, measured: Tensor) -> Tensor:
    """(2,): the sums of the squared differences and of the squared measurements."""
    of = predicted - measured, measured
    if predicted.device.type == "mps":  # it knows no float64
        of = tuple(v.cpu() for v in of)
    return torch.stack([v.double().square().sum() for v in of])


def relative_error(sums: Tensor) -> float:
    """The root of the ratio of `squares`; NaN where nothing was measured."""
    error, norm = sums.tolist()
    return math.sqrt(error / norm) if norm > 0 else math.nan
