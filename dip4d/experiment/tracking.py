"""Loggers: Weights & Biases, TensorBoard or CSV, and what is sent to them besides plain numbers."""

from __future__ import annotations

import logging
import os
import uuid
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from dip4d.errors import InputError
from dip4d.measures.image_quality import ERRORS, OURS, SCORES, comparison_rows
from dip4d.measures.verdict import Verdict
from dip4d.report.measures_table import read_measures
from dip4d.report.tables import name_of_row
from dip4d.run_folder import CHECKPOINT, CONFIG, FIGURES, MEASURES, METRICS, MOVIE, VOLUMES, read_metrics
from dip4d.whole_file import written_beside

INIT_SECONDS = 30  # W&B may take to answer; then the run is tracked offline
SENT = (VOLUMES, CHECKPOINT, CONFIG, METRICS)  # of a run, as an artifact
DERIVED = ("steps", "steps_needed", "parameters", "network", "statistics", "bound", "noise_floor", "resolution", "made")
_log = logging.getLogger(__name__)


class Tracker(Logger):
    """A logger that never ends a run: after its first error it is silent, and a warning has said so.

    kept: of Lightning.
    """

    def __init__(self, kept: Logger) -> None:
        super().__init__()
        self.kept, self._failed = kept, False

    def quietly(self, do: Callable[[], Any]) -> Any:
        """do(), or None if that fails."""
        if self._failed:
            return None
        try:
            return do()
        except Exception as error:  # whatever it is: the fit is what counts
            self._failed = True
            _log.warning(f"the run is tracked no further ({_line(error)}); it goes on")

    @property
    def name(self) -> str | None:
        return self.quietly(lambda: self.kept.name)

    @property
    def version(self) -> int | str | None:
        return self.quietly(lambda: self.kept.version)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_: Any, **__: Any) -> None:
        self.quietly(lambda: self.kept.log_hyperparams(params))  # pyright: ignore[reportArgumentType]

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.quietly(lambda: self.kept.log_metrics(metrics, step))

    def save(self) -> None:
        self.quietly(self.kept.save)

    def finalize(self, status: str) -> None:
        self.quietly(lambda: self.kept.finalize(status))

    def close(self) -> None:
        """Ends a run of W&B, so that the next of this process is another."""
        if isinstance(self.kept, WandbLogger):
            self.quietly(self.kept.experiment.finish)


def make_logger(
    kind: str,
    folder: Path,
    *,
    config: dict[str, Any],
    name: str,
    group: str | None = None,
    tags: Sequence[str] = (),
) -> Tracker:
    """A logger that writes below `folder`. W&B works without an account: then offline, to be synchronised later; where
    it cannot even do that, a CSV file takes its place.

    kind: wandb, tensorboard or csv.
    folder: made if it is not there.
    config: the keys of the run.
    name: of the run.
    group, tags: of the run, in W&B.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "tensorboard":
        try:
            logger: Logger = TensorBoardLogger(folder, name="tensorboard")
        except ModuleNotFoundError:
            raise InputError("logger=tensorboard needs: pip install tensorboard") from None
    else:
        about = {"name": name, "group": group, "tags": list(tags)}
        logger = (_wandb(folder, about) if kind == "wandb" else None) or CSVLogger(folder, name="csv")
    tracker = Tracker(logger)
    tracker.log_hyperparams(config)
    return tracker


def _wandb(folder: Path, about: dict[str, Any]) -> WandbLogger | None:
    """W&B online, or else offline; None where neither works, or is wanted. about: name, group and tags."""
    os.environ.setdefault("WANDB_SILENT", "true")
    mode = os.environ.get("WANDB_MODE")
    if mode == "disabled":
        return None
    try:
        modes = [mode] if mode else ["online" if _is_logged_in() else "offline"]
        for each in (*modes, "offline"):
            try:
                return _begun(folder, about, offline=each != "online")
            except Exception as error:
                why = _line(error)
                if each == "online":
                    _log.warning(f"W&B did not let the run in ({why}): it is tracked offline")
    except Exception as error:  # not even its settings can be read
        why = _line(error)
    _log.warning(f"W&B does not work here ({why}): the run is tracked in a CSV file")
    return None


def _is_logged_in() -> bool:
    import wandb

    try:
        return bool(wandb.login(prompt=False))
    except Exception as error:
        _log.warning(f"W&B did not let the run in ({_line(error)}): it is tracked offline")
        return False


def _begun(folder: Path, about: dict[str, Any], *, offline: bool) -> WandbLogger:
    """A W&B run that has begun; a resumed run goes on in W&B, too."""
    import wandb

    remembered = folder / "wandb-id.txt"
    if not remembered.exists():
        with written_beside(remembered) as place:
            place.write_text(uuid.uuid4().hex[:8])
    mode = "offline" if offline else "online"
    logger = WandbLogger(
        id=remembered.read_text(),
        resume="allow",
        project=os.environ.get("WANDB_PROJECT", "dip4d"),
        save_dir=folder,
        offline=offline,
        settings=wandb.Settings(mode=mode, console="off", silent=True, init_timeout=INIT_SECONDS),
        **about,
    )
    if not hasattr(logger.experiment, "id"):
        raise RuntimeError("it did not begin")
    return logger


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def hint(tracker: Tracker) -> str:
    """What to do with what was logged; of an interrupted run all its parts are named."""
    return tracker.quietly(lambda: _hint(tracker.kept)) or ""


def _hint(logger: Logger) -> str:
    if isinstance(logger, WandbLogger):
        folder = Path(logger.experiment.dir).parent
        parts = sorted(folder.parent.glob(f"offline-run-*-{logger.experiment.id}"))
        if parts:
            return f"W&B, offline: wandb sync {' '.join(map(str, parts))}"
        return f"W&B: {logger.experiment.url}"
    if isinstance(logger, TensorBoardLogger):
        return f"tensorboard --logdir {logger.log_dir}"
    return f"{logger.log_dir}/metrics.csv" if isinstance(logger, CSVLogger) else ""


def log_picture(tracker: Tracker, name: str, *, picture: np.ndarray, vmax: float, step: int) -> None:
    """Sends a grey picture, the same value always as bright.

    tracker, name: where, and under which name.
    picture: (rows, columns).
    vmax: what is white.
    step: of the fit.
    """
    scaled = (np.clip(picture / vmax, 0, 1) * 255).astype(np.uint8)
    logger = tracker.kept
    if isinstance(logger, WandbLogger):
        tracker.quietly(lambda: logger.log_image(name, [scaled], step=step))
    elif isinstance(logger, TensorBoardLogger):
        tracker.quietly(lambda: logger.experiment.add_image(name, scaled, step, dataformats="HW"))


def log_frames(tracker: Tracker, methods: dict[str, dict]) -> None:
    """The scores of every method for every frame, with the frame as the horizontal axis."""
    tracker.quietly(lambda: _log_frames(tracker.kept, methods))


def _log_frames(logger: Logger, methods: dict[str, dict]) -> None:
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


def log_measures(tracker: Tracker, columns: dict[str, np.ndarray]) -> None:
    """The columns of measures.csv as curves, with the frame as the horizontal axis."""
    tracker.quietly(lambda: _log_measures(tracker.kept, columns))


def _log_measures(logger: Logger, columns: dict[str, np.ndarray]) -> None:
    if isinstance(logger, WandbLogger):
        logger.experiment.define_metric("frame")
        logger.experiment.define_metric("measures/*", step_metric="frame")
    for t in range(len(columns["time_s"])):
        values = {f"measures/{name}": float(v[t]) for name, v in columns.items() if np.isfinite(v[t])}
        if isinstance(logger, WandbLogger):
            logger.experiment.log({"frame": t, **values})
        elif isinstance(logger, TensorBoardLogger):
            logger.log_metrics(values, step=t)


def log_results(tracker: Tracker, run: Path, *, artifacts: bool = False) -> None:
    """What a finished run has found: scores, errors and verdict into the summary, what was derived and the hashes of
    its data beside the configuration, its quantities as curves, its figures, and the movie where there is one.

    run: its folder.
    artifacts: send the files of `SENT`, too.
    """
    metrics = read_metrics(run)
    tracker.quietly(lambda: tracker.kept.log_metrics(final_scores(metrics)))
    if (run / MEASURES).exists():
        log_measures(tracker, read_measures(run / MEASURES))
    if isinstance(logger := tracker.kept, WandbLogger):
        tracker.quietly(lambda: _log_results(logger, run, metrics=metrics))
        if artifacts:
            tracker.quietly(lambda: _log_artifact(logger, run))


def final_scores(metrics: dict[str, Any]) -> dict[str, float]:
    """What one number each says of a run, by its name in a summary: psnr_mean, psnr_worst, ..., validation_error,
    test_error; only those that its metrics.json has.
    """
    ours = next((row for row in comparison_rows(metrics) if row["method"] == OURS), {})
    names = {f"{score} {which}": f"{score}_{which}" for score in SCORES for which in ("mean", "worst")}
    names |= {kind.words: kind.attribute for kind in ERRORS.values()}
    return {name: ours[column] for column, name in names.items() if ours.get(column) is not None}


def _log_results(logger: WandbLogger, run: Path, *, metrics: dict[str, Any]) -> None:
    import wandb

    wandb_run = logger.experiment
    wandb_run.summary.update({"verdict": str(Verdict.of(metrics))})
    derived = {key: metrics[key] for key in DERIVED if metrics.get(key) is not None}
    wandb_run.config.update({"derived": derived}, allow_val_change=True)
    figures: dict[str, Any] = {f"figures/{f.stem}": wandb.Image(str(f)) for f in sorted((run / FIGURES).glob("*.png"))}
    if (movie := run / FIGURES / MOVIE).exists():
        figures["figures/movie"] = wandb.Video(str(movie), format="mp4")
    wandb_run.log(figures)


def _log_artifact(logger: WandbLogger, run: Path) -> None:
    """The files stay where they are until W&B has them: they are not copied first."""
    import wandb

    artifact = wandb.Artifact(f"run-{logger.experiment.id}", type="reconstruction")
    for name in SENT:
        if (run / name).exists():
            artifact.add_file(str(run / name), policy="immutable", skip_cache=True)
    logger.experiment.log_artifact(artifact)


def log_comparison(tracker: Tracker, metrics: dict) -> None:
    """The comparison as a table, each method by its name in words."""
    tracker.quietly(lambda: _log_comparison(tracker.kept, metrics))


def _log_comparison(logger: Logger, metrics: dict) -> None:
    rows = [row | {"method": name_of_row(row["method"], metrics)} for row in comparison_rows(metrics)]
    if isinstance(logger, WandbLogger):
        logger.log_table("comparison", columns=list(rows[0]), data=[list(r.values()) for r in rows])
    elif isinstance(logger, TensorBoardLogger):
        head = "| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0])
        body = "\n".join("| " + " | ".join(str(v) for v in r.values()) + " |" for r in rows)
        logger.experiment.add_text("comparison", f"{head}\n{body}")
