"""One tilt series in, one volume for every image out.

    dip4d reconstruct [config.yaml ...] [key=value ...]        (or: python train.py ...)

Without arguments: simulates a dynamic nanoparticle and reconstructs it. Later arguments win over earlier ones.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

SUMMARY = "reconstruct a tilt series, measured or simulated: one volume for every image"
ARGUMENTS = {
    **{name: f"key data.{name}" for name in ("path", "angles", "tilt_axis", "pixel_nm", "bin", "crop", "exclude")},
    "truth": "key data.truth",
    "times": "key output.times",
    "shifts": "key align.shifts",
}


NOT_USABLE = 3  # the exit code of a run whose verdict says so


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0, or `NOT_USABLE`. Raises InputError before any work if something does not fit."""
    if {"-h", "--help"} & set(arguments):
        from dip4d.config.load import help_text

        print(f"{(__doc__ or '').strip()}\n\nKeys, with their defaults:\n\n{help_text()}")
        return 0

    from dip4d.experiment.signals import Handlers

    handlers = Handlers()
    if "SLURM_JOB_ID" in os.environ:  # in the fit, a checkpoint comes first
        handlers.set(signal.SIGUSR1, lambda: _leave(arguments))
    try:
        return _run(arguments)
    finally:
        handlers.restore()


def _run(arguments: Sequence[str]) -> int:
    from dip4d.experiment.quiet import quiet_lightning
    from dip4d.experiment.run import run_experiment
    from dip4d.run_folder import METRICS, read_metrics

    with quiet_lightning():
        folder = run_experiment(arguments)
    if not (folder / METRICS).exists():  # one of several processes, of which another writes
        return 0
    verdict = read_metrics(folder).get("verdict", {})
    return NOT_USABLE if verdict.get("level") == "not usable" else 0


def _leave(arguments: Sequence[str]) -> None:
    """The job of SLURM goes back into the queue, and ends."""
    from dip4d.config.load import load_config
    from dip4d.errors import TerminatedError
    from dip4d.experiment.signals import requeue

    if os.environ.get("LOCAL_RANK", "0") == "0":
        requeue(named=load_config(arguments).run.dir is not None)
    raise TerminatedError
