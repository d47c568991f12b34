"""One run, from its configuration to its folder."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import lightning as L
import torch

from dip4d import run_folder
from dip4d.alignment.shifts import Shifts
from dip4d.config.load import save_config
from dip4d.config.schema import Config
from dip4d.conventional.baselines import Conventional
from dip4d.conventional.methods import check_saved, methods_of
from dip4d.conventional.series import SeriesStatistics, statistics_of
from dip4d.errors import InputError, in_words
from dip4d.experiment import callbacks, measures, outputs, several, tracking
from dip4d.experiment.budget import Budget
from dip4d.experiment.inputs import Alignment, Inputs, frozen_of, inputs_of, load_data, outline, split_of
from dip4d.experiment.live_picture import LivePicture
from dip4d.experiment.place import Place, configured
from dip4d.experiment.plan import Plan, check_motion, device_of, make_plan
from dip4d.experiment.provenance import made_of
from dip4d.measures.verdict import judge
from dip4d.reconstruction.fit import LEAST_STEPS, Fit, fit, steps_of_fit
from dip4d.reconstruction.motion_test import Behaviour, find_behaviour, motion_of
from dip4d.reconstruction.networks import NETWORKS
from dip4d.reconstruction.progress_line import ProgressLine
from dip4d.reconstruction.split import Split
from dip4d.report.run_page import write_page
from dip4d.report.run_report import draw_figures, print_table, trust_lines

ENDED = {
    "time": ", at its time budget; train.max_minutes gives it more.",
    "validation": ": the error of validation rows rose, noise was being fitted.",
    "hand": ": you stopped it, and what it had found is kept.",
}
STATIC = (
    "A movie that stands still predicts the images as well: the specimen does not change, as far as they tell "
    "(network.change=always lets it)"
)
_log = logging.getLogger(__name__)


def run_experiment(arguments: Sequence[str]) -> Path:
    """The whole run; returns its folder. Raises InputError before any work if something does not fit."""
    began = time.monotonic() - time.process_time()  # the imports count too
    if several.follows():
        return several.follow()
    config, place = configured(arguments)
    if config is None:
        return place.folder
    shared = several.wanted(config)
    torch.set_float32_matmul_precision("high")
    L.seed_everything(config.run.seed, verbose=False)
    loaded = load_data(config) if config.data.path else None
    with_truth = not config.data.path or config.data.truth is not None
    methods = methods_of(config.compare.methods, with_truth=with_truth)
    check_saved(config.output.save, methods, with_truth=with_truth)
    budget = Budget.of(config, len(methods))
    series = loaded[0] if loaded else outline(config)
    plan = make_plan(config, series, folder=place.folder, methods=methods, with_truth=with_truth, done=place.done)
    _log.info(plan.describe())
    inputs = inputs_of(config, loaded or load_data(config), seconds=budget.align_seconds, saved=place.saved)
    split = split_of(config, inputs.series)
    statistics = statistics_of(split.seen(inputs.series), config.network.intensity_bound, device=device_of(config))
    conventional = conventional_of(config, inputs, split=split, statistics=statistics, budget=budget, plan=plan)
    using = run_folder.in_use(place.folder, config.run)
    with using, _saying_how_to_go_on(place.folder), closing(_begin(config, place)) as logger:
        live = _live_picture(config, place, inputs=inputs, split=split, budget=budget)
        behaviour = _behaviour(config, inputs, split=split, budget=budget, place=place, live=live)
        config = behaviour.settings(config)
        around = _callbacks(
            config, place, live=live, conventional=conventional, methods=methods, inputs=inputs, budget=budget
        )
        how = {"settings": place.settings(config), "statistics": statistics, "motion": behaviour.motion}
        how |= {"callbacks": around, "logger": logger, "checkpoint": place.checkpoint, "budget": budget.fit}
        if shared:
            done = several.fit_shared(place.work, inputs.series, split=split, **how)
        else:
            done = fit(inputs.series, split, **how)
        _write_what_else(place.work, done, config=config, inputs=inputs, statistics=statistics)
        _complete(place, seconds=time.monotonic() - began, figures=config.output.figures)
        _say_what_came(place.folder, done, config=config, logger=logger)
    return place.folder


@contextmanager
def _saying_how_to_go_on(folder: Path) -> Iterator[None]:
    """Whatever ends the run inside is followed by the command that goes on with it."""
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{in_words(error)}; then go on with: {run_folder.resume_command(folder)}") from None
    except BaseException:
        _log.info(f"Interrupted; go on with: {run_folder.resume_command(folder)}")
        raise


def conventional_of(
    config: Config,
    inputs: Inputs,
    *,
    split: Split,
    statistics: SeriesStatistics,
    budget: Budget,
    plan: Plan,
) -> Conventional:
    """The conventional reconstructions of the same series, which know as much as the fit.

    One of the whole volume has to fit into the time for the choice of its settings.
    """
    iterations = int(min(config.compare.iterations, max(1, budget.search_seconds / plan.iteration)))
    if iterations < config.compare.iterations:
        _log.info(f"The time holds at most {iterations} iterations of a conventional method")
    return Conventional(
        inputs.series,
        split.validation_rows,
        test_rows=split.hidden_rows,
        truth=inputs.truth,
        frozen=frozen_of(config),
        iterations=iterations,
        windows=config.compare.windows,
        peak_counts=config.simulate.peak_counts if config.data.path is None else None,
        seed=config.run.seed,
        seconds=budget.search_seconds,
        device=device_of(config),
        statistics=statistics,
    )


def _behaviour(
    config: Config,
    inputs: Inputs,
    *,
    split: Split,
    budget: Budget,
    place: Place,
    live: LivePicture,
) -> Behaviour:
    """What the specimen does; what that says of the settings is kept in the configuration of the run."""
    if place.saved is not None:
        found = Behaviour(motion=motion_of(place.saved, inputs.series))
    else:
        look = live.of_motion_test()
        found = find_behaviour(inputs.series, split, settings=config, budget=budget.motion_test, callbacks=[look])
        if found.motion is not None:
            pace = check_motion(config, inputs.series, motion=found.motion, budget=budget)
            _log.info(f"With a motion a step of the fit takes {pace.step:.2g} s")
    if found.motion is not None:
        _log.info(f"{found.motion.describe()}: its motion is fitted apart from its change")
    if found.settings(config) != config:
        save_config(found.settings(config), place.work / run_folder.CONFIG)
    if not found.changes:
        _log.info(STATIC)
    return found


def _live_picture(config: Config, place: Place, *, inputs: Inputs, split: Split, budget: Budget) -> LivePicture:
    """What to look at while the run fits, with its first picture drawn."""
    live = LivePicture(
        place.work,
        inputs.series,
        split=split,
        truth=inputs.truth,
        label=NETWORKS[config.network.name].label,
        seconds=budget.first_look_seconds,
        wanted=config.output.figures,
    )
    live.begin()
    return live


def _begin(config: Config, place: Place) -> tracking.Tracker:
    """Puts the configuration into the folder of the run; returns what tracks it."""
    place.work.mkdir(exist_ok=True)
    if not place.fitted:  # else they are finished, not begun again
        run_folder.forget_results(place.work)
    save_config(config, place.work / run_folder.CONFIG)
    keys, tracked, into = dataclasses.asdict(config), place.folder / run_folder.TRACKING, config.tracking
    return tracking.make_logger(
        config.logger, tracked, config=keys, name=place.folder.name, group=into.group, tags=into.tags
    )


def _callbacks(
    config: Config,
    place: Place,
    *,
    live: LivePicture,
    conventional: Conventional,
    methods: Sequence[str],
    inputs: Inputs,
    budget: Budget,
) -> list[L.Callback]:
    folder, truth, seconds = place.work, inputs.truth, budget.scoring_seconds
    return [
        ProgressLine(),
        callbacks.StopByHand(),
        callbacks.Checkpoints(folder, config.train.checkpoint_seconds, named=config.run.dir is not None),
        Alignment(inputs.shifts),
        callbacks.Pictures(truth, vmax=conventional.statistics.intensity_bound),
        callbacks.Movie(
            folder, truth=truth, times_s=config.output.times, excluded=config.data.exclude, seconds=seconds
        ),
        live,
        callbacks.Comparison(
            folder, conventional, methods=methods, truth=truth, seconds=seconds, saved=config.output.save
        ),
        callbacks.Results(folder, network=network_of(config)),
    ]


def network_of(config: Config) -> dict[str, str]:
    """The name and the label of the network, for a metrics.json."""
    return {"name": config.network.name, "label": NETWORKS[config.network.name].label}


def facts_of(done: Fit, inputs: Inputs, *, config: Config, seconds: float) -> dict:
    """What a metrics.json says of the run itself, which took so many seconds in all."""
    truth = inputs.truth
    return {
        "network": network_of(config) | {"ensemble": done.module.network.ensemble_size},
        "steps": done.steps,
        "steps_needed": steps_of_fit(dataclasses.replace(config.train, steps=None), inputs.series.shape[1]),
        "steps_least": LEAST_STEPS,
        "one_sweep": inputs.series.one_sweep,
        "ended": done.ended,
        "fit_seconds": done.module.schedule.elapsed(),
        "seconds": seconds,
        "parameters": done.parameters,
        "data_range": None if truth is None else float(truth.max()),
        "times_s": inputs.series.times_s.tolist(),
        "angles_deg": inputs.series.angles_deg.tolist(),
        "pixel_nm": inputs.series.pixel_nm,
        "margin_px": inputs.series.margin,
    }


def shifts_of(done: Fit, inputs: Inputs) -> Shifts | None:
    """Where the images were found to lie: by the fit itself, or by the alignment before it; None if by neither."""
    return inputs.shifts if done.module.poses is None else done.module.poses.shifts()


def _write_what_else(
    folder: Path,
    done: Fit,
    *,
    config: Config,
    inputs: Inputs,
    statistics: SeriesStatistics,
) -> None:
    """Shifts and motion where they were found, the uncertainty where it is asked for and missing; and the verdict."""
    shifts, there = shifts_of(done, inputs), run_folder.read_metrics(folder)
    if shifts is not None:
        outputs.save_shifts(folder, shifts, config=config)
    outputs.save_motion(folder, done)
    outputs.save_inputs(folder, inputs, wanted=config.output.save)
    known = (folder / run_folder.UNCERTAINTY).exists() and (inputs.truth is None or "uncertainty" in there)
    if config.uncertainty.members and not known:
        outputs.write_uncertainty(
            folder, done, config=config, statistics=statistics, truth=inputs.truth, callbacks=[ProgressLine()]
        )
    facts = facts_of(done, inputs, config=config, seconds=there.get("seconds", 0.0))
    facts["made"] = made_of(config, inputs.series)
    facts["statistics"] = {name: float(value) for name, value in vars(statistics).items()}
    run_folder.add_metrics(folder, facts | {"verdict": vars(judge(there | facts))})
    found = measures.write_measures(folder, config=config, truth=inputs.truth, seconds=measures.MOST_SECONDS)
    if found is None:
        _log.info(f"Volumes this large take long to measure: dip4d report {folder} does it")


def _complete(place: Place, *, seconds: float, figures: bool) -> None:
    """Draws figures and page, and says that all is there: it then replaces what a run that went on had before.

    seconds: of this part of the run.
    figures: whether they are drawn.
    """
    if figures:
        draw_figures(place.work)
    run_folder.add_metrics(place.work, {"seconds": place.seconds + seconds})
    write_page(place.work, name=place.folder.resolve().name)
    run_folder.add_metrics(place.work, {run_folder.COMPLETE: True})
    if place.work != place.folder:
        run_folder.replace_with(place.folder, place.work)


def _say_what_came(folder: Path, done: Fit, *, config: Config, logger: tracking.Tracker) -> None:
    """Prints the table and what to open."""
    metrics = run_folder.read_metrics(folder)
    print_table(metrics)
    figures = sorted((folder / run_folder.FIGURES).glob("*.png"))
    lines = [f"{metrics['steps']} steps, {metrics['seconds'] / 60:.1f} minutes. In {folder}:"]
    lines += [f"  {run_folder.VOLUMES}: one volume for every image; open it in Fiji or napari"]
    if config.uncertainty.members:
        lines += [f"  {run_folder.UNCERTAINTY}: the standard deviation of every voxel"]
    lines += [f"  {run_folder.PAGE}: all of it to look at, in a browser"]
    lines += [f"  {figure.relative_to(folder)}" for figure in figures]
    lines += [f"  {tracking.hint(logger)}"]
    if done.ended != "steps":
        lines += [f"The fit ended before its {done.data.steps} steps{ENDED[done.ended]}"]
    _log.info("\n".join([*lines, *trust_lines(metrics)]))
    tracking.log_results(logger, folder, artifacts=config.tracking.artifacts)
