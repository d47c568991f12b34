"""The results of `quality.py` as tables and a figure."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from quality_cases import ALL, METHODS, SPECIMENS, case_of

from dip4d.simulation.hard_specimens import FAMILIES

PLAIN = ("grs", 500, 0, "")  # scheme, counts, jitter and camera of the data that all methods have seen
BEGINNING = 0.05  # of the frames, in which many specimens change fastest
COLOURS = ("#c1121f", "#2a9d8f", "#1b6b62", "#7b2cbf", "#e09f3e", "#adb5bd", "#669bbc", "#003049", "#6a994e", "#386641",
           "#9c6644")  # fmt: skip


def summary(result: dict, frozen: dict | None, tv_frozen: dict | None = None) -> dict[str, float]:
    """The numbers of one result: over the frames the mean, the worst, the spread; beside frozen-frame SIRT and TV."""
    mean = lambda name: float(np.mean(result[name]))
    still = sum(result["change_of_truth"]) == 0
    row = {
        "PSNR": mean("psnr"),
        "worst": min(result["psnr"]),
        "SSIM": mean("ssim"),
        "Dice": mean("dice"),
        "mass %": 100 * mean("mass"),
        "spread %": 100 * float(np.std(result["mass"])),
        "change": math.nan if still else sum(result["change"]) / sum(result["change_of_truth"]),
        "still dB": mean("stillness") if still else math.nan,
        "lost dB": lost_by_stopping(result),
        "seconds": result["seconds"],
        "near": mean("psnr_near") if "psnr_near" in result else math.nan,
        "first 5 %": float(np.mean(result["psnr"][: max(1, round(BEGINNING * len(result["psnr"])))])),
        "steps": result.get("steps", result.get("settings", {}).get("iterations", math.nan)),
        "rank": result.get("time_rank", math.nan),
    }
    if tv_frozen:
        row["over TV frozen"] = float(np.mean(np.subtract(result["psnr"], tv_frozen["psnr"])))
    if frozen:
        gap = np.subtract(result["psnr"], frozen["psnr"])
        row |= {"over frozen": float(gap.mean()), "worst gap": float(gap.min()), "below": int((gap < 0).sum())}
    return row


def lost_by_stopping(result: dict) -> float:
    """How much better, in dB, the best moment of the fit was than the one that validation rows chose."""
    curve = result.get("curve")
    return max(c["psnr"] for c in curve) - curve[-1]["psnr"] if curve else math.nan


def table(results: dict[str, dict]) -> str:
    """All results as a table in Markdown, those of one tilt series together, seeds averaged.

    At its end the mean of each method that has been run on all specimens that change, of plain data.
    """
    columns = ("PSNR", "near", "worst", "SSIM", "Dice", "mass %", "spread %", "change", "still dB", "lost dB",
               "over frozen", "over TV frozen", "worst gap", "below", "seconds", "steps")  # fmt: skip
    groups: dict[tuple, list[dict[str, float]]] = {}
    for result in results.values():
        case = case_of(result)
        key = (case.specimen, case.scheme, case.peak_counts, case.jitter, case.camera, case.method)
        groups.setdefault(key, []).append(beside_frozen(result, results))
    order = lambda k: (k[1] != "grs", k[2] != 500, k[3:5], SPECIMENS.index(k[0]), k[1:5], METHODS.index(k[5]))
    lines = head("specimen", "data", "method", columns=columns)
    for key in sorted(groups, key=order):
        specimen, scheme, counts, jitter, camera, method = key
        data = f"{scheme}, {counts:g} counts" + (f", jitter {jitter:g} px" if jitter else "")
        data += f", camera: {camera}" if camera else ""
        lines.append(line(specimen, data, method, rows=groups[key], columns=columns))
    for method in METHODS:
        keys = [(specimen, *PLAIN, method) for specimen in ALL]
        if all(key in groups for key in keys):
            rows = [row for key in keys for row in groups[key]]
            lines.append(line("mean", "grs, 500 counts", method, rows=rows, columns=columns))
    return "\n".join(lines) + "\n"


def hard_table(results: dict[str, dict]) -> str:
    """The results on hard specimens as a table in Markdown, a part for each family, with the means over its specimens.

    The mean of a method is only there if it has been run on all specimens of the family.
    """
    columns = ("PSNR", "near", "first 5 %", "worst", "change", "mass %", "over frozen", "over TV frozen", "below",
               "seconds", "steps", "rank")  # fmt: skip
    groups: dict[tuple[str, str], list[dict[str, float]]] = {}
    for result in results.values():
        groups.setdefault((result["specimen"], result["method"]), []).append(beside_frozen(result, results))
    lines = []
    for family, specimens in FAMILIES.items():
        there = [(s, m) for s in specimens for m in METHODS if (s, m) in groups]
        if not there:
            continue
        lines += ["", f"**Family {family}**", "", *head("specimen", "method", columns=columns)]
        lines += [line(s, m, rows=groups[s, m], columns=columns) for s, m in there]
        for m in METHODS:
            if all((s, m) in groups for s in specimens):
                lines.append(line("mean", m, rows=[row for s in specimens for row in groups[s, m]], columns=columns))
    return "\n".join(lines[1:]) + "\n"


def beside_frozen(result: dict, results: dict[str, dict]) -> dict[str, float]:
    """The `summary` of a result, beside those of frozen frames of the same series."""
    of = lambda method: results.get(case_of(result | {"method": method}).name)
    return summary(result, of("sirt_frozen"), of("tv_frozen"))


def head(*names: str, columns: tuple[str, ...]) -> list[str]:
    """The two first lines of a table in Markdown."""
    return [
        "| " + " | ".join((*names, "seeds", *columns)) + " |",
        "|---" * len(names) + "|--:" * (len(columns) + 1) + "|",
    ]


def line(*names: str, rows: list[dict[str, float]], columns: tuple[str, ...]) -> str:
    """A line of a table in Markdown: of several summaries the mean, or the worst where the column is one."""
    cells = []
    for column in columns:
        values = [row[column] for row in rows if column in row and not math.isnan(row[column])]
        worst = {"worst": min, "worst gap": min, "below": max}.get(column, np.mean)
        digits = {"SSIM": 4, "Dice": 4, "below": 0, "seconds": 0, "steps": 0, "rank": 0}.get(column, 2)
        cells.append(f"{worst(values):.{digits}f}" if values else "")
    return "| " + " | ".join((*names, str(len(rows)), *cells)) + " |"


def draw(path: Path, results: dict[str, dict]) -> None:
    """For each specimen, frame by frame and against the time of the fit: ours beside the others. PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    base = [r for r in results.values() if (r["scheme"], r["peak_counts"], r["jitter"], r.get("camera", "")) == PLAIN]
    specimens = [s for s in SPECIMENS if s != "static" and any(r["specimen"] == s for r in base)]
    colours = dict(zip(METHODS, COLOURS, strict=True))
    figure, axes = plt.subplots(2, len(specimens), figsize=(2.9 * len(specimens) + 1, 6), squeeze=False, sharey="col")
    for column, specimen in zip(axes.T, specimens, strict=True):
        for r in sorted((r for r in base if r["specimen"] == specimen), key=lambda r: METHODS.index(r["method"])):
            first = r["seed"] == min(q["seed"] for q in base if q["specimen"] == specimen)
            look = {
                "color": colours[r["method"]],
                "alpha": 1 if first else 0.35,
                "lw": 2 if r["method"] == "dip" else 1.2,
            }
            column[0].plot(r["psnr"], label=r["method"] if first else None, **look)
            if "curve" in r:
                column[1].plot([c["seconds"] for c in r["curve"]], [c["psnr"] for c in r["curve"]], **look)
            elif first:
                column[1].axhline(np.mean(r["psnr"]), ls=":", **look)
        column[0].set(title=specimen, xlabel="frame")
        column[1].set(xlabel="seconds of the fit")
    axes[0, 0].set_ylabel("PSNR of the frame, dB")
    axes[1, 0].set_ylabel("mean PSNR, dB")
    handles = {label: h for ax in axes[0] for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)
    figure.set_layout_engine("constrained")
    figure.savefig(path, dpi=110)
