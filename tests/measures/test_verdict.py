"""The verdict: what speaks against a run, from its metrics.json alone."""

from __future__ import annotations

import copy

import pytest

from dip4d.measures.verdict import judge

HEALTHY = {
    "steps": 2000,
    "steps_needed": 2000,
    "steps_least": 200,
    "held_out": {"dip": 0.075, "sirt_window": 0.093},
    "held_out_images": {"dip": 0.070, "sirt_window": 0.085},
    "noise_floor": {"held_out": 0.069, "held_out_images": 0.069},
    "fit_over_noise": 1.0,
    "mass": {"volumes_over_images": 1.01},
    "geometry": {"axis_other": 0.0, "disorder": 0.4, "turn_deg": {"rms": 0.5, "error": 0.5}},
    "bound": {"learned": 1.05, "grown": 0.95, "share": 0.02},
    "one_sweep": False,
    "change": 0.15,
}


def judged(**changes):
    metrics = copy.deepcopy(HEALTHY)
    for key, value in changes.items():
        metrics[key] = metrics[key] | value if isinstance(value, dict) else value
    return judge(metrics)


def test_a_healthy_run_is_good():
    assert str(judged()) == "good"


@pytest.mark.parametrize(("changes", "level", "words"), [
    ({"steps": 1}, "not usable", "the fit had 1 steps"),
    ({"steps": 300}, "doubtful", "300 of the 2000 steps"),
    ({"held_out_images": {"dip": 1.0}}, "not usable", "explains nothing of the unseen images"),
    ({"held_out_images": {"dip": 0.09, "sirt_window": 0.075}}, "not usable", "SIRT predicts unseen images better"),
    ({"mass": {"volumes_over_images": 2.7}}, "not usable", "2.70 times the mass"),
    ({"mass": {"volumes_over_images": 0.8}}, "doubtful", "0.80 times the mass"),
    ({"bound": {"learned": 0.5, "grown": 1.9, "share": 0.72}}, "doubtful", "72% of the specimen is at the bound"),
    ({"bound": {"share": 0.5}, "fit_over_noise": 1.12}, "doubtful", "network.intensity_bound=2.1"),
    ({"one_sweep": True}, "doubtful", "in a single sweep"),
    ({"geometry": {"turn_deg": {"rms": 4.9, "error": 0.6}}}, "doubtful", "4.9 degrees from those given"),
    ({"fit_over_noise": 1.4}, "doubtful", "1.40 times their noise"),
    ({"fit_over_noise": 1.4, "held_out_images": {"dip": 0.1, "sirt_window": 0.11}, "geometry": {"axis_other": 0.3}},
     "not usable", "tilt axis"),
    ({"fit_over_noise": 1.4, "held_out_images": {"dip": 0.1, "sirt_window": 0.11}, "geometry": {"disorder": 1.0}},
     "not usable", "do not follow their tilt angles"),
])  # fmt: skip
def test_what_speaks_against_it_is_said(changes, level, words):
    verdict = judged(**changes)
    assert verdict.level == level
    assert words in verdict.because[0]
    assert str(verdict).startswith(f"{level} because {verdict.because[0]}")


@pytest.mark.parametrize("changes", [
    {"one_sweep": True, "change": 0.01},  # a specimen at rest
    {"geometry": {"axis_other": 0.3, "disorder": 1.0}},  # it looks alike from all sides, and all is explained
    {"fit_over_noise": 1.1, "geometry": {"disorder": 1.0}},
    {"geometry": {"turn_deg": {"rms": 5.0, "error": 4.0}}},  # the angle does not show
    {"bound": {"grown": 1.3, "share": 0.84}},  # of one material, whose intensity the bound has found
    {"held_out_images": {"dip": 0.0705, "sirt_window": 0.070}},  # no more than chance
])  # fmt: skip
def test_what_says_nothing_is_not_held_against_it(changes):
    assert judged(**changes).level == "good"


def test_the_gravest_comes_first_and_what_is_unknown_is_not_judged():
    verdict = judged(one_sweep=True, held_out_images={"dip": 0.95})
    assert verdict.level == "not usable"
    assert "explains nothing" in verdict.because[0]
    assert "single sweep" in verdict.because[-1]
    assert judge({"methods": {}}).level == "good"
