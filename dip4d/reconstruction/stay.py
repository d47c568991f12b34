"""The network stays where it was fitted: what is drawn of it afterwards costs as much as the fit."""

from __future__ import annotations

import lightning as L
import torch

from dip4d.reconstruction.module import DIP4D


class StaysOnDevice(L.Callback):
    """The network stays on the device of the fit, for all that follows; Lightning takes it to the CPU when a fit ends.

    The first of all callbacks: at the end of a fit the others find the network there.
    """

    def __init__(self) -> None:
        self.device: torch.device | None = None

    def on_fit_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.device = module.device

    def on_fit_end(self, trainer: L.Trainer, module: DIP4D) -> None:
        module.to(self.device)
        if not module.finished:  # it went on from its last step, and had none to train
            module.catch_up()
            module.choose_weights()
