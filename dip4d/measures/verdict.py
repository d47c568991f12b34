"""A verdict on a run, in words: good, doubtful because ..., or not usable because ...; no truth is needed for it.

Each rule is a function of the metrics.json of a run, which says what speaks against it, or None; to add one is to add
an entry to `RULES`. What a rule has no numbers for it does not judge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from dip4d.measures.consistency import less_noise
from dip4d.measures.image_quality import OURS

Level = Literal["good", "doubtful", "not usable"]
EXPLAINS_NOTHING = 0.9  # relative error of what was not fitted, from which nothing is explained
WORSE, CHANCE = 1.1, 0.05  # times the error of a rival, and share of the squared noise, that make one error worse
FEW_STEPS = 0.25  # of those needed: with fewer a fit is far from its end
MORE_THAN_NOISE = 1.15  # times the noise: of 16 healthy simulated series the misfit is 0.95 to 1.01 times it
TOO_MUCH_MASS, FAR_TOO_MUCH = 0.1, 0.5  # of the volumes, relative to the images
CHANGES = 0.05  # share of the specimen that is elsewhere in the next figure: it changes
ANGLES_OFF = 2.5  # degrees, rms: of 16 healthy simulated series it is up to 2.5, where its error is as large
UNEXPLAINED = 0.06  # error less the noise: a round needle, alike from all sides, has 0.04
SURE_OF_AXIS = 0.2  # confidence in another tilt axis, with a misfit that is more than noise
AT_BOUND = 0.3  # share of the specimen at the bound; where that is right it may be 0.8, of one material, hence
GROWS = 1.5  # times in the fit: the right one 1.3, others 1.8 and more; or
STILL_TOO_LOW = 1.1  # the misfit, times the noise
LIKE_CHANCE = 0.78  # of what angles in a random order leave unexplained: the best of 200 orders left 0.81 to 0.87


@dataclass(frozen=True)
class Verdict:
    """level: of trust. because: what speaks against the run, a clause each, the gravest first."""

    level: Level
    because: tuple[str, ...] = ()

    @classmethod
    def of(cls, metrics: dict[str, Any]) -> Verdict | None:
        """That of a metrics.json; None if it has none."""
        saved = metrics.get("verdict")
        return None if saved is None else cls(saved["level"], tuple(saved["because"]))

    def __str__(self) -> str:
        return self.level + (f" because {'; '.join(self.because)}" if self.because else "")


@dataclass(frozen=True)
class Objection:
    """What speaks against a run. grave: it is not usable then; else doubtful."""

    why: str
    grave: bool = False


def judge(metrics: dict[str, Any]) -> Verdict:
    """The verdict on the run whose metrics.json this is."""
    found = [objection for rule in RULES if (objection := rule(metrics)) is not None]
    found.sort(key=lambda objection: not objection.grave)
    level: Level = "good" if not found else "not usable" if found[0].grave else "doubtful"
    return Verdict(level, tuple(objection.why for objection in found))


def _unseen(metrics: dict[str, Any]) -> tuple[str, str]:
    """What was not fitted, as a key and in words: test images where there are any, else validation rows."""
    if metrics.get("held_out_images", {}).get(OURS) is not None:
        return "held_out_images", "unseen images"
    return "held_out", "unseen rows"


def explains_nothing(metrics: dict[str, Any]) -> Objection | None:
    """An error near 1: the volumes might as well be empty, as of an inverted contrast or a wild learning rate."""
    key, words = _unseen(metrics)
    error = metrics.get(key, {}).get(OURS)
    if error is None or error < EXPLAINS_NOTHING:
        return None
    return Objection(f"it explains nothing of the {words} (error {error:.2f})", grave=True)


def rival_predicts_better(metrics: dict[str, Any]) -> Objection | None:
    """A conventional method, which takes the specimen for one at rest, predicts better what was not fitted."""
    key, words = _unseen(metrics)
    errors, floor = metrics.get(key, {}), metrics.get("noise_floor", {}).get(key) or 0.0
    rivals = {name: e for name, e in errors.items() if name != OURS and e is not None}
    if errors.get(OURS) is None or not rivals:
        return None
    name = min(rivals, key=rivals.__getitem__)
    ours, theirs = (less_noise(errors[n], floor) for n in (OURS, name))
    if ours <= WORSE * theirs or ours**2 - theirs**2 <= CHANCE * floor**2:
        return None
    method = name.split("_")[0].upper()
    return Objection(
        f"{method} predicts {words} better than this ({theirs:.3f} against {ours:.3f}, less their noise): "
        "do not use it as a movie",
        grave=True,
    )


def too_few_steps(metrics: dict[str, Any]) -> Objection | None:
    """A fit that was left long before its end."""
    done, needed, least = (metrics.get(k) for k in ("steps", "steps_needed", "steps_least"))
    if done is None or needed is None or least is None:
        return None
    if done < min(least, needed):
        return Objection(f"the fit had {done} steps, and with fewer than {least} it may be worse than SIRT", grave=True)
    return Objection(f"the fit had {done} of the {needed} steps it needs") if done < FEW_STEPS * needed else None


def images_contradict_geometry(metrics: dict[str, Any]) -> Objection | None:
    """Images that fit another tilt axis, or other angles, better, and a misfit that shows it."""
    misfit, geometry = metrics.get("fit_over_noise"), metrics.get("geometry")
    key, _ = _unseen(metrics)
    error, floor = metrics.get(key, {}).get(OURS), metrics.get("noise_floor", {}).get(key)
    if misfit is None or geometry is None or error is None or floor is None:
        return None
    if misfit < MORE_THAN_NOISE or less_noise(error, floor) < UNEXPLAINED:
        return None
    if geometry["axis_other"] > SURE_OF_AXIS:
        return Objection("the tilt axis seems to lie along the other axis of the images (data.tilt_axis)", grave=True)
    if geometry["disorder"] > LIKE_CHANCE:
        return Objection("the images do not follow their tilt angles: check their order, and the tilt axis", grave=True)
    return None


def angles_are_off(metrics: dict[str, Any]) -> Objection | None:
    """Images that fit best at other angles than those that were given."""
    turn = metrics.get("geometry", {}).get("turn_deg")
    if turn is None or turn["rms"] < max(ANGLES_OFF, 2 * turn["error"]):
        return None
    return Objection(f"the images fit best at tilt angles that are {turn['rms']:.1f} degrees from those given")


def misfit_is_not_noise(metrics: dict[str, Any]) -> Objection | None:
    """Something in the images that no volume at these angles explains."""
    misfit = metrics.get("fit_over_noise")
    if misfit is None or misfit < MORE_THAN_NOISE:
        return None
    return Objection(f"the misfit of the images is {misfit:.2f} times their noise")


def wrong_mass(metrics: dict[str, Any]) -> Objection | None:
    """Volumes that are heavier or lighter than the images, whose mass no tilt changes."""
    ratio = metrics.get("mass", {}).get("volumes_over_images")
    if ratio is None or abs(ratio - 1) < TOO_MUCH_MASS:
        return None
    grave = not 1 - FAR_TOO_MUCH < ratio < 1 + FAR_TOO_MUCH
    return Objection(f"the volumes hold {ratio:.2f} times the mass of the images", grave)


def bound_too_low(metrics: dict[str, Any]) -> Objection | None:
    """A specimen that is cut off at the bound of the intensity, which follows too slowly."""
    bound, misfit = metrics.get("bound"), metrics.get("fit_over_noise") or 1.0
    if bound is None or bound["share"] < AT_BOUND or (bound["grown"] < GROWS and misfit < STILL_TOO_LOW):
        return None
    share, learned = bound["share"], bound["learned"]
    return Objection(
        f"{share:.0%} of the specimen is at the bound of the intensity, {learned:.3g}, which is too low: "
        f"network.intensity_bound={2 * learned:.2g}"
    )


def change_in_one_sweep(metrics: dict[str, Any]) -> Objection | None:
    """A change that may as well be the tilt."""
    if not metrics.get("one_sweep") or metrics.get("change", 0.0) < CHANGES:
        return None
    return Objection("in a single sweep a change of the specimen cannot be told from the tilt")


RULES: tuple[Callable[[dict[str, Any]], Objection | None], ...] = (
    explains_nothing,
    rival_predicts_better,
    too_few_steps,
    images_contradict_geometry,
    wrong_mass,
    bound_too_low,
    change_in_one_sweep,
    angles_are_off,
    misfit_is_not_noise,
)
