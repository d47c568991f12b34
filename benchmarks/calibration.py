"""Are the error bars right? Whole runs of simulated series, with their uncertainty and their twin, against the truth.

    python benchmarks/calibration.py [--group set|check] [--only TEXT ...] [--again] [--jobs 2] [--draw]

The factors of `dip4d/measures/error_bars.py` and `dip4d/reconstruction/uncertainty.py` are set on the group `set`; the
group `check`, of other specimens and seeds, has no part in that. 48 x 48 x 24 voxels, 60 images, 500 or 50 counts; all
are at rest, so no motion is looked for.

Of each run: the share of voxels of the specimen within one and two standard deviations, by what the deviations would
have to be multiplied for 68 and for 95 %, and their rank correlation with the errors inside of the specimen; and of
each quantity the share of frames within one and two. What is computed is kept in results/calibration.json and not
computed again; the table goes to results/calibration.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common import RESULTS, environment

# isort: split
import numpy as np
from filelock import FileLock
from scipy.stats import spearmanr

from dip4d.config.load import load_config
from dip4d.experiment.measures import truth_of_run, write_measures
from dip4d.io.volumes import open_volumes
from dip4d.reconstruction.uncertainty import FAINT, calibration
from dip4d.run_folder import CONFIG, METRICS, UNCERTAINTY, VOLUMES

FRAMES_APART = 4  # of those whose voxels are compared
INSIDE = 0.3  # of the largest intensity: what lies above is the inside of the specimen
QUANTITIES = ("volume", "surface", "Au", "mixing_index")


@dataclass(frozen=True)
class Case:
    specimen: str
    seed: int
    counts: float = 500

    @property
    def name(self) -> str:
        return f"{self.specimen} seed{self.seed} counts{self.counts:g}"


GROUPS = {
    "set": [
        Case("nanostar_alloying", 3),
        Case("nanocage", 3),
        Case("growth", 3),
        Case("sintering", 3),
        Case("event", 5),
        Case("alloying", 5),
        Case("nanostar_alloying", 5, 50),
        Case("nanocage", 5, 50),
    ],
    "check": [
        Case("nanostar", 8),
        Case("nanostar_alloying", 8),
        Case("nanocage", 8),
        Case("growth", 8),
        Case("sintering", 9),
        Case("alloying", 9),
        Case("ripening", 23),
        Case("nanostar_alloying", 9, 50),
    ],
}


def compute(case: Case) -> dict[str, Any]:
    """Runs it in a folder of its own, and tells how far the truth lies from what the run says."""
    with tempfile.TemporaryDirectory() as parent:
        run = Path(parent) / "run"
        keys = [f"simulate.specimen={case.specimen}", "simulate.size=48", "simulate.n_z=24", "simulate.frames=60"]
        keys += [f"simulate.peak_counts={case.counts:g}", f"run.seed={case.seed}", f"run.dir={run}"]
        keys += ["compare.methods=[]", "network.motion=never", "uncertainty.members=4", "logger=csv"]
        for words in (["reconstruct", *keys], ["twin", str(run), "--no-resolution"]):
            done = subprocess.run([sys.executable, "-m", "dip4d", *words], capture_output=True, text=True)
            if done.returncode not in (0, 3):
                raise RuntimeError(f"{case.name}: {done.stderr[-2000:]}")
        metrics = json.loads((run / METRICS).read_text())
        told = {key: metrics[key] for key in ("noise_floor", "held_out", "steps", "verdict")}
        truth = truth_of_run(load_config([str(run / CONFIG)]))
        assert truth is not None
        return told | {"voxels": of_voxels(run, truth), "quantities": dict(of_quantities(run, truth))}


def of_voxels(run: Path, truth: np.ndarray) -> dict[str, float]:
    """How the standard deviations of voxels fit to their errors. truth: (t, z, y, x)."""
    some, found = slice(None, None, FRAMES_APART), (open_volumes(run / name) for name in (VOLUMES, UNCERTAINTY))
    truth, volumes, sigmas = (v[some] for v in (truth, *found))
    there = (truth > FAINT * truth.max()) | (volumes > FAINT * truth.max())
    errors, inside = np.abs(volumes - truth), truth > INSIDE * truth.max()
    ratios = errors[there] / np.maximum(sigmas[there], 1e-12)
    ranks = [spearmanr(s[i], e[i]).statistic for s, e, i in zip(sigmas, errors, inside, strict=True) if i.any()]
    shares = calibration(volumes, sigmas, truth=truth)
    right = {"for_68": float(np.quantile(ratios, 0.6827)), "for_95": float(np.quantile(ratios, 0.9545) / 2)}
    return shares | right | {"rank_inside": float(np.mean(ranks))}


def of_quantities(run: Path, truth: np.ndarray) -> Iterator[tuple[str, dict[str, float]]]:
    """Of each quantity that has an error bar: how often the truth (t, z, y, x) lies within it."""
    columns = write_measures(run, truth=truth)
    assert columns is not None
    for name, values in columns.items():
        kind = next((q for q in QUANTITIES if name.split("_px")[0] == q), None)
        if kind is None or f"{name}_sigma" not in columns:
            continue
        sigma, error = columns[f"{name}_sigma"], np.abs(values - columns[f"{name}_truth"])
        ratio = error / np.maximum(sigma, 1e-12)
        yield (
            kind,
            {
                "within_1_sigma": float((ratio < 1).mean()),
                "within_2_sigma": float((ratio < 2).mean()),
                "rms_over_sigma": float(np.sqrt(np.mean(ratio**2))),
            },
        )


def path_of_results() -> Path:
    return RESULTS / "calibration.json"


def read() -> dict[str, dict]:
    path = path_of_results()
    return json.loads(path.read_text()) if path.exists() else {}


def keep(case: Case, result: dict) -> None:
    path = path_of_results()
    with FileLock(path.with_suffix(".lock")):
        kept = read() | {case.name: asdict(case) | environment() | result}
        path.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n")


def table() -> str:
    """Markdown: each run, and all of each group."""
    kept, lines = read(), []
    for group, cases in GROUPS.items():
        results = {c.name: kept[c.name] for c in cases if c.name in kept}
        if not results:
            continue
        lines += [f"\nGroup `{group}`: percent within one, two standard deviations\n"]
        lines += ["| run | voxels | right factor | rank inside | " + " | ".join(QUANTITIES) + " |"]
        lines += ["|---" * (4 + len(QUANTITIES)) + "|"]
        for name, of in results.items():
            v = of["voxels"]
            lines.append(f"| {name} | {_shares(v)} | {v['for_68']:.2f} | {v['rank_inside']:.2f} | {_row(of)} |")
        voxels = [of["voxels"] for of in results.values()]
        quantities = {q: [of["quantities"][q] for of in results.values() if q in of["quantities"]] for q in QUANTITIES}
        means = " | ".join(_shares(_mean(of)) if of else "" for of in quantities.values())
        lines.append(f"| **all** | {_shares(_mean(voxels))} | | {_mean(voxels)['rank_inside']:.2f} | {means} |")
    return "\n".join(lines).strip() + "\n"


def _row(result: dict) -> str:
    return " | ".join(_shares(result["quantities"][q]) if q in result["quantities"] else "" for q in QUANTITIES)


def _shares(of: dict[str, float]) -> str:
    return f"{100 * of['within_1_sigma']:.0f}, {100 * of['within_2_sigma']:.0f}"


def _mean(of: list[dict[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([one[key] for one in of])) for key in of[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--group", choices=GROUPS)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side, of one thread each if more than one")
    parser.add_argument("--draw", action="store_true")
    a = parser.parse_args()
    done = set() if a.again else set(read())
    cases = [c for group in ([a.group] if a.group else GROUPS) for c in GROUPS[group]]
    todo = [c for c in cases if c.name not in done and all(word in c.name.split() for word in a.only)]
    if a.jobs > 1:
        os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    with ThreadPoolExecutor(a.jobs) as pool:
        for case, result in zip([] if a.draw else todo, pool.map(compute, [] if a.draw else todo), strict=True):
            keep(case, result)
            print(case.name, json.dumps(result["voxels"]), json.dumps(result["quantities"]), flush=True)
    text = table()
    path_of_results().with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
