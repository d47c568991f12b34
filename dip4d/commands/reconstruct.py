"""One tilt series in, one volume for every image out.

    dip4d reconstruct [config.yaml ...] [key=value ...]        (or: python train.py ...)

Without arguments: simulates a dynamic nanoparticle and reconstructs it. Later arguments win over earlier ones.
"""

from __future__ import annotations

from collections.abc import Sequence

SUMMARY = "reconstruct a tilt series, measured or simulated: one volume for every image"
ARGUMENTS = {
    **{name: f"key data.{name}" for name in ("path", "angles", "tilt_axis", "pixel_nm", "bin", "crop", "exclude")},
    "truth": "key data.truth",
    "times": "key output.times",
    "shifts": "key align.shifts",
}


def main(arguments: Sequence[str]) -> None:
    """Raises InputError before any work if something does not fit."""
    if {"-h", "--help"} & set(arguments):
        from dip4d.config.load import help_text

        print(f"{(__doc__ or '').strip()}\n\nKeys, with their defaults:\n\n{help_text()}")
        return

    from dip4d.experiment.quiet import quiet_lightning
    from dip4d.experiment.run import run_experiment

    with quiet_lightning():
        run_experiment(arguments)
