"""Loggers: Weights & Biases, TensorBoard or CSV, and what is sent to them besides plain numbers."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from dip4d.errors import InputError
from dip4d.measures.image_quality import SCORES, comparison_rows
from dip4d.measures.verdict import Verdict


def make_logger(kind: str, folder: Path, *, config: dict[str, Any], name: str) -> Logger:
    """A logger that writes below `folder`. W&B works without an account: then offline, to be synchronised later."""
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "csv":
        logger: Logger = CSVLogger(folder, name="csv")
    elif kind == "tensorboard":
        try:
            logger = TensorBoardLogger(folder, name="tensorboard")
        except ModuleNotFoundError:
            raise InputError("logger=tensorboard needs: pip install tensorboard") from None
    else:
        logger = _wandb(folder, name)
    logger.log_hyperparams(config)
    return logger


def _wandb(folder: Path, name: str) -> Logger:
    import wandb

    os.environ.setdefault("WANDB_SILENT", "true")
    offline = os.environ.get("WANDB_MODE", "online" if wandb.login(prompt=False) else "offline") == "offline"
    remembered = folder / "wandb-id.txt"  # a resumed run goes on in W&B too
    if not remembered.exists():
        remembered.write_text(uuid.uuid4().hex[:8])
    return WandbLogger(
        id=remembered.read_text(),
        resume="allow",
        project=os.environ.get("WANDB_PROJECT", "dip4d"),
        name=name,
        save_dir=folder,
        offline=offline,
        settings=wandb.Settings(mode="offline" if offline else "online", console="off", silent=True),
    )


def hint(logger: Logger | None) -> str:
    """What to do with what was logged."""
    if isinstance(logger, WandbLogger):
        folder = Path(logger.experiment.dir).parent
        return f"W&B, offline: wandb sync {folder}" if logger._offline else f"W&B: {logger.experiment.url}"
    if isinstance(logger, TensorBoardLogger):
        return f"tensorboard --logdir {logger.log_dir}"
    return f"{logger.log_dir}/metrics.csv" if isinstance(logger, CSVLogger) else ""


def log_picture(logger: Logger, name: str, *, picture: np.ndarray, step: int) -> None:
    """picture: (rows, columns), any range; scaled to its own maximum."""
    scaled = (np.clip(picture / max(float(picture.max()), 1e-12), 0, 1) * 255).astype(np.uint8)
    if isinstance(logger, WandbLogger):
        logger.log_image(name, [scaled], step=step)
    elif isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(name, scaled, step, dataformats="HW")


def log_frames(logger: Logger, methods: dict[str, dict]) -> None:
    """The scores of every method for every frame, with the frame as the horizontal axis."""
    frames = max((len(m.get(score, ())) for m in methods.values() for score in SCORES), default=0)
    if isinstance(logger, WandbLogger) and frames:
        logger.experiment.define_metric("frame")
        logger.experiment.define_metric("frames/*", step_metric="frame")
    for t in range(frames):
        values = {
            f"frames/{score}_{name}": scores[score][t]
            for name, scores in methods.items()
            for score in SCORES
            if scores.get(score) and scores[score][t] is not None
        }
        if isinstance(logger, WandbLogger):
            logger.experiment.log({"frame": t, **values})
        elif isinstance(logger, TensorBoardLogger):
            logger.log_metrics(values, step=t)


def log_verdict(logger: Logger | None, verdict: dict[str, Any]) -> None:
    """The verdict on a run, in the summary of W&B."""
    if isinstance(logger, WandbLogger):
        logger.experiment.summary["verdict"] = str(Verdict(verdict["level"], tuple(verdict["because"])))


def log_comparison(logger: Logger, metrics: dict) -> None:
    """The comparison as a table."""
    rows = comparison_rows(metrics)
    if isinstance(logger, WandbLogger):
        logger.log_table("comparison", columns=list(rows[0]), data=[list(r.values()) for r in rows])
    elif isinstance(logger, TensorBoardLogger):
        head = "| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0])
        body = "\n".join("| " + " | ".join(str(v) for v in r.values()) + " |" for r in rows)
        logger.experiment.add_text("comparison", f"{head}\n{body}")
