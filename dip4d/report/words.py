"""What was done in a run, in words: its command, a paragraph for the methods of a paper, what to cite."""

from __future__ import annotations

import shlex
from importlib.resources import files
from pathlib import Path

from dip4d.config.load import changed_values, load_config
from dip4d.config.schema import Config
from dip4d.errors import InputError
from dip4d.measures.image_quality import ERRORS, OURS
from dip4d.measures.resolution import in_words
from dip4d.report.style import label, names_of
from dip4d.run_folder import CONFIG

PAGE_FILES = files("dip4d.report") / "page"
_SCHEMES = {"grs": "golden-ratio scanning", "incremental": "a single sweep", "pingpong": "several sweeps"}
_MISFITS = {
    "weighted": ", by least squares with each pixel weighted by its noise",
    "squared": ", by least squares",
    "geman_mcclure": ", with the misfit of Geman and McClure (1987)",
}


def config_of_run(run: Path) -> Config | None:
    """The configuration in the folder of a run; None if there is none that this version understands."""
    try:
        return load_config([str(run / CONFIG)]) if (run / CONFIG).exists() else None
    except InputError:
        return None


def command_of(config: Config) -> str:
    """The command that repeats a run, to be pasted: the keys that differ from their defaults."""
    keys = [f"{name}={_in_yaml(value)}" for name, value in changed_values(config).items()]
    return " ".join(["dip4d reconstruct", *(shlex.quote(key) for key in keys)])


def _in_yaml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value).replace("'", "").replace(", ", ",")


def methods_paragraph(metrics: dict, config: Config | None) -> str:
    """A paragraph for a paper, of what the files of a run tell."""
    sentences = [_series_sentence(metrics, config), _fit_sentence(metrics, config), *_comparison_sentences(metrics)]
    return " ".join(sentence for sentence in sentences if sentence)


def _series_sentence(metrics: dict, config: Config | None) -> str:
    made, times = metrics.get("made", {}).get("series"), metrics.get("times_s", [])
    if made is None:
        return f"A tilt series of {len(times)} images was reconstructed." if times else ""
    frames, rows, columns = made["shape"]
    low, high = made["angles_deg"]
    pixel = f", pixels of {metrics['pixel_nm']:.4g} nm" if metrics.get("pixel_nm") else ""
    kind, margin = "A tilt series", metrics.get("margin_px")
    wider = f", from orthoslices that reach {margin} pixels beyond the images at each side" if margin else ""
    if config is not None and config.data.path is None:
        s = config.simulate
        noise = f"Poisson noise of {s.peak_counts:g} counts at the brightest pixel" if s.peak_counts else "no noise"
        kind = f"A simulated tilt series ({s.specimen.replace('_', ' ')}, {_SCHEMES.get(s.scheme, s.scheme)}, {noise})"
    return (
        f"{kind} of {frames} images ({rows} rows along the tilt axis, {columns} columns{pixel}; tilt angles "
        f"{low:.1f} to {high:.1f} degrees, taken in {times[-1] - times[0]:g} s) was reconstructed as one volume for "
        f"every image{wider}."
    )


def _fit_sentence(metrics: dict, config: Config | None) -> str:
    made, name = metrics.get("made", {}).get("versions", {}), metrics.get("network", {}).get("label", "DIP-4D")
    with_what = f"{name} (dip4d {made['dip4d']}, PyTorch {made['torch']})" if "torch" in made else name
    aside = ""
    if config is not None:
        aside = (
            f" {100 * config.data.validation_rows:g} % of the image rows were kept aside to choose the weights, and "
            f"{len(metrics.get('unseen_images', []))} whole images as an unbiased test."
        )
    weights, steps = metrics.get("parameters"), metrics.get("steps")
    fitted = f" of {weights:,} weights" if weights else ""
    networks = metrics.get("network", {}).get("ensemble", 1)
    drawn = "an untrained network" if networks == 1 else f"the mean of {networks} untrained networks"
    return (
        f"With {with_what}, {drawn}{fitted} draws each orthoslice from its position along the tilt axis "
        f"and the time; it was fitted in {steps} steps to this series alone, through the projection of its "
        f"orthoslices along the beam{_MISFITS[config.train.loss] if config else ''}.{aside}"
    )


def _comparison_sentences(metrics: dict) -> list[str]:
    found = []
    for key, kind in ERRORS.items():
        errors = metrics.get(key, {})
        ours = errors.get(OURS)
        others = [f"{errors[n]:.3f} ({label(n, metrics)})" for n in names_of(metrics) if n != OURS and errors.get(n)]
        if key == "held_out_images" and ours is not None:
            floor = metrics.get("noise_floor", {}).get(key)
            noise = f"; noise alone makes {floor:.3f}" if floor else ""
            rivals = f", against {', '.join(others)}" if others else ""
            found.append(f"The relative error of the {kind.words} is {ours:.3f}{rivals}{noise}.")
    if resolution := metrics.get("resolution"):
        found.append(f"The resolution, from rows that were not fitted, is {in_words(resolution)}.")
    if psnr := [v for v in metrics["methods"].get(OURS, {}).get("psnr", []) if v is not None]:
        found.append(f"Against the truth the PSNR is {sum(psnr) / len(psnr):.1f} dB (worst volume {min(psnr):.1f} dB).")
    return found


def bibtex(metrics: dict) -> str:
    """What to cite, as CITATION.cff says, in the version of the run where that is known."""
    version = metrics.get("made", {}).get("versions", {}).get("dip4d")
    text = (PAGE_FILES / "citation.bib").read_text(encoding="utf-8")
    return text.replace("VERSION", version) if version else text.replace(",\n  version = {VERSION}", "")
