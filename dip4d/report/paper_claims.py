"""The claims of the paper's abstract, and what the runs of its cases say to each: computed from their files.

A claim is an entry of `CLAIMS`. Where the abstract gives no number, none is made up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from dip4d.errors import InputError
from dip4d.io.volumes import open_volumes
from dip4d.measures.image_quality import ERRORS, OURS
from dip4d.measures.verdict import EXPLAINS_NOTHING, Verdict, explains_nothing, rival_predicts_better
from dip4d.report.measures_table import quantities_in, read_measures
from dip4d.report.style import label, names_of
from dip4d.run_folder import MEASURES, VOLUMES, read_metrics

NOT_GIVEN = "not given"
FROZEN, WHOLE, WINDOW = "sirt_frozen", "sirt_whole", "sirt_window"
COMPARABLE = {"psnr": 1.0, "ssim": 0.01}  # below conventional tomography by no more than that
BEGINNING, VOLUME, SURFACE, AU = 3, 0.02, 0.05, 0.03  # frames that do not count; bars, relative
MIXED_FROM, MIXING, MIXING_BEFORE = 4, 0.05, 0.1  # frame, from 0; bars of the mixing index from there on, and before
MINUTE_S = 60.0


@dataclass(frozen=True)
class PaperRun:
    """A run of a case of the paper.

    name: of the case, and of its folder.
    title: of the case, in words.
    folder: of the run.
    measured: whether its series was measured, not simulated.
    changes: what of the specimen does: shape, composition.
    problem: why there is no result, in a line; None if there is.
    """

    name: str
    title: str
    folder: Path
    measured: bool = False
    changes: tuple[str, ...] = ()
    problem: str | None = None

    @cached_property
    def metrics(self) -> dict:
        return read_metrics(self.folder)

    @property
    def verdict(self) -> Verdict | None:
        return Verdict.of(self.metrics)


@dataclass(frozen=True)
class Claim:
    """A claim of the abstract.

    words: in its sense.
    paper: its number, as the abstract gives it.
    of: whether a run has to do with it.
    judge: what a run says to it, in words, and whether it meets it; None where that cannot be told.
    bar: what counts as met, in words.
    figure: of a run, that shows it.
    without: what is said where no run has to do with it.
    """

    words: str
    paper: str
    of: Callable[[PaperRun], bool]
    judge: Callable[[PaperRun], tuple[str, bool | None]]
    bar: str
    figure: str
    without: str = "no run of it yet"


@dataclass(frozen=True)
class Finding:
    """A claim, and of each run that has to do with it: the run, what it says, and whether it meets the claim."""

    claim: Claim
    told: tuple[tuple[PaperRun, str, bool | None], ...]

    @property
    def met(self) -> str:
        """Whether the claim is met, in words."""
        judged = [ok for _, _, ok in self.told if ok is not None]
        if not judged:
            return "open"
        if all(judged):
            return "met"
        return f"met by {sum(judged)} of {len(judged)}" if any(judged) else "not met"


def findings(runs: Sequence[PaperRun]) -> list[Finding]:
    """What the runs that have a result say to each of `CLAIMS`."""
    there = [run for run in runs if run.problem is None]
    return [Finding(c, tuple((r, *_judged(c, r)) for r in there if c.of(r))) for c in CLAIMS]


def _judged(claim: Claim, run: PaperRun) -> tuple[str, bool | None]:
    """A run of an earlier version, or one that was interrupted while it compared, lacks something."""
    try:
        return claim.judge(run)
    except InputError as error:
        return f"cannot be told: {error}", None
    except (LookupError, TypeError, ValueError) as error:
        return f"cannot be told: the files of the run lack something ({type(error).__name__}: {error})", None


def _trained_alone(run: PaperRun) -> tuple[str, bool | None]:
    m = run.metrics
    floor = m.get("noise_floor", {}).get("held_out")
    noise = f", the noise alone {floor:.3f}" if floor else ""
    return (
        f"{m['parameters']:,} weights from a random start, {m['fit_seconds'] / 60:.1f} minutes; "
        f"error of rows that were not fitted {m['held_out'][OURS]:.3f}{noise}"
    ), explains_nothing(m) is None


def _a_volume_for_every_image(run: PaperRun) -> tuple[str, bool | None]:
    images, volumes = len(run.metrics["times_s"]), open_volumes(run.folder / VOLUMES).shape
    return f"{images} images, {volumes[0]} volumes of {' x '.join(map(str, volumes[1:]))} voxels", images == volumes[0]


def _follows_time(run: PaperRun) -> tuple[str, bool | None]:
    (ours, our_worst), *others = _means(run, "psnr", names=(OURS, WHOLE, WINDOW))
    words = ("one volume of the whole series", "a sliding window")
    told = "; ".join(f"SIRT, {w}, {m:.1f}, worst {low:.1f}" for w, (m, low) in zip(words, others, strict=True))
    ok = all(ours > mean and our_worst > worst for mean, worst in others)
    return f"PSNR {ours:.1f} dB, worst volume {our_worst:.1f}; {told}", ok


def _is_comparable(run: PaperRun) -> tuple[str, bool | None]:
    told, ok = [], True
    for (score, below), form in zip(COMPARABLE.items(), ("PSNR {:.1f} dB", "SSIM {:.3f}"), strict=True):
        (ours, our_worst), (theirs, their_worst) = _means(run, score, names=(OURS, FROZEN))
        number = lambda v, form=form: form.format(v).split()[1]
        worst = f"worst volume {number(our_worst)} and {number(their_worst)}"
        told.append(f"{form.format(ours)}, conventional {number(theirs)} ({worst})")
        ok = ok and ours >= theirs - below
    return "; ".join(told), ok


def _means(run: PaperRun, score: str, *, names: Sequence[str]) -> list[tuple[float, float]]:
    """Mean and worst of a score of some methods, at the frames at which all of them are scored."""
    values = np.array([[np.nan if v is None else v for v in run.metrics["methods"][n][score]] for n in names])
    shared = values[:, np.isfinite(values).all(0)]
    if not shared.size:
        raise InputError("no frame is scored of all methods")
    return [(float(v.mean()), float(v.min())) for v in shared]


def _keeps_shape(run: PaperRun) -> tuple[str, bool | None]:
    off = {name: _relative(run, name)[BEGINNING:] for name in ("volume", "surface")}
    told = ", ".join(f"{name} {_percent(v)}" for name, v in off.items())
    return told, all(np.abs(off[n]).max() <= bar for n, bar in (("volume", VOLUME), ("surface", SURFACE)))


def _keeps_composition(run: PaperRun) -> tuple[str, bool | None]:
    amount = _relative(run, "Au")[BEGINNING:]
    ours, truth = _quantity(run, "mixing_index")
    before, after = np.split(np.abs(ours - truth), [MIXED_FROM])
    told = f"Au {_percent(amount)}; mixing index off by at most {after.max():.3f}, in the first four {before.max():.3f}"
    return told, np.abs(amount).max() <= AU and after.max() <= MIXING and before.max() <= MIXING_BEFORE


def _relative(run: PaperRun, name: str) -> np.ndarray:
    """How far a quantity is from the truth in each frame, relative to it."""
    ours, truth = _quantity(run, name)
    return ours / truth - 1


def _quantity(run: PaperRun, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A quantity of measures.csv without its unit, such as surface, and its truth, (t,) each. Raises InputError."""
    columns = read_measures(run.folder / MEASURES)
    for column in quantities_in(columns):
        if re.sub(r"_(nm|px)\d?$", "", column) == name and f"{column}_truth" in columns:
            return columns[column], columns[f"{column}_truth"]
    raise InputError(f"{run.folder / MEASURES}: no {name} beside its truth")


def _percent(off: np.ndarray) -> str:
    return f"off by {100 * off.mean():+.1f} % in the mean, {100 * np.abs(off).max():.1f} % at most"


def _frame_rate(run: PaperRun) -> tuple[str, bool | None]:
    times = np.array(run.metrics["times_s"])
    told = f"{len(times)} images, {open_volumes(run.folder / VOLUMES).shape[0]} volumes"
    if np.array_equal(times, np.arange(len(times))):
        return f"{told}; the file tells no times", None
    pace = float(times[-1] - times[0]) / max(len(times) - 1, 1)
    return f"{told}, one in {pace:.3g} s", pace <= MINUTE_S


def _predicts(run: PaperRun) -> tuple[str, bool | None]:
    m = run.metrics
    key = "held_out_images" if m.get("held_out_images", {}).get(OURS) is not None else "held_out"
    errors = [f"{label(n, m)} {m[key][n]:.3f}" for n in names_of(m) if m[key].get(n) is not None]
    floor = m.get("noise_floor", {}).get(key)
    noise = [f"the noise alone {floor:.3f}"] if floor else []
    ok = None if len(errors) < 2 else rival_predicts_better(m) is None
    return f"error of {ERRORS[key].words}: {', '.join(errors + noise)}", ok


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "Trained solely from the acquired tilt series: a row and its (z, t) give an orthoslice, which is projected and "
        "compared with the row (Figure 1 of the abstract).",
        NOT_GIVEN,
        lambda run: True,
        _trained_alone,
        f"no training data, and what was not fitted is predicted at all: its error is below {EXPLAINS_NOTHING}",
        "pipeline.png",
    ),
    Claim(
        "Simulated: for every image of the tilt series a full volume, where conventional tomography has one for all.",
        "100 images, 100 volumes",
        lambda run: not run.measured,
        _a_volume_for_every_image,
        "as many volumes as images",
        "surfaces.png",
    ),
    Claim(
        "Simulated: the temporal resolution is significantly better than that of conventional tomography.",
        NOT_GIVEN,
        lambda run: not run.measured,
        _follows_time,
        "closer to the truth than SIRT of the same images, in the mean and in the worst volume",
        "orthoslices_yx.png",
    ),
    Claim(
        "Simulated: signal-to-noise ratio and structural similarity are comparable to conventional tomography.",
        NOT_GIVEN,
        lambda run: not run.measured,
        _is_comparable,
        "in the mean at most 1 dB and 0.01 below SIRT of a full series of the specimen stopped in each state",
        "quality.png",
    ),
    Claim(
        "Simulated: a change of shape is reconstructed.",
        NOT_GIVEN,
        lambda run: "shape" in run.changes,
        _keeps_shape,
        "volume within 2 %, surface within 5 % of the truth in every frame but the first three",
        "measures.png",
    ),
    Claim(
        "Simulated: a change of composition is reconstructed.",
        NOT_GIVEN,
        lambda run: "composition" in run.changes,
        _keeps_composition,
        "Au within 3 % in every frame but the first three; mixing index within 0.05, in the first four frames 0.1",
        "measures.png",
    ),
    Claim(
        "Measured: a full volume at the time of every image.",
        "about 1 volume per minute",
        lambda run: run.measured,
        _frame_rate,
        "a volume per minute or more",
        "surfaces.png",
    ),
    Claim(
        "Measured: the quality is comparable to conventional tomography.",
        NOT_GIVEN,
        lambda run: run.measured,
        _predicts,
        "what no fit saw is predicted about as well as by the best conventional method, for there is no truth",
        "images.png",
    ),
    Claim(
        "Measured: Au/Ag particles that change shape and alloy while they are heated.",
        NOT_GIVEN,
        lambda run: run.measured and bool(run.changes),
        _frame_rate,
        "a measured series of a specimen that changes",
        "surfaces.png",
        without="the series of the abstract are not public, and the measured specimens here are at rest",
    ),
)
