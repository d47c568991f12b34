"""The page of a run, or of several: one file that needs no network, drawn from saved files only."""

from __future__ import annotations

import base64
import gzip
import html
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from dip4d.measures.image_quality import ERRORS, OURS, SCORES
from dip4d.measures.resolution import in_words
from dip4d.measures.verdict import Verdict
from dip4d.report.curves import charts_of
from dip4d.report.preview import MEASURED, PREDICTED, SmallMovie, movies_of, read_preview, side_by_side, view_of
from dip4d.report.style import label, names_of
from dip4d.report.tables import table_of
from dip4d.report.words import PAGE_FILES, bibtex, command_of, config_of_run, methods_paragraph
from dip4d.run_folder import FIGURES, PAGE, read_metrics
from dip4d.whole_file import written_beside

LARGEST = 15e6  # bytes of a page
PACKING = 6  # level of gzip: 9 takes seven times as long and saves 4 %
FIGURE_WORDS = {  # of a run, and what is said below them
    "pipeline.png": "How it was made: each row of an image is projected again from the orthoslice of its z and t.",
    "orthoslices_yx.png": "Orthoslices across the tilt axis, through the densest z; one grey scale.",
    "orthoslices_zx.png": "Orthoslices along the tilt axis, through the middle.",
    "surfaces.png": "The surface over time.",
    "kymograph.png": "The intensity on three lines through the densest place, against time.",
    "images.png": "Images that nothing has seen, beside what the volumes predict of them.",
    "uncertainty.png": "How sure each voxel is: its standard deviation, and where there is a truth, its error.",
    "quality.png": "Scores of every volume against the truth.",
    "measures.png": "Quantities of the specimen against time.",
    "diagnostics.png": "What tells without a truth how far to trust the result.",
}


@dataclass(frozen=True)
class PageRun:
    """name: as on the page. path: of its folder. metrics: in its metrics.json."""

    name: str
    path: Path
    metrics: dict


@dataclass(frozen=True)
class _Shown:
    """Volumes, or images, on a page. name: of the method. title: as on the page."""

    name: str
    title: str
    movie: SmallMovie

    def told(self, key: str) -> dict[str, Any]:
        """What the script of the page has to know of it, besides what lies under its key."""
        m = self.movie
        about = {"shape": list(m.volumes.shape[1:]), "vmax": m.vmax, "times": m.times_s.tolist()}
        return {"id": key, "label": self.title, "ours": self.name == OURS} | about

    def thinned(self, stride: int) -> _Shown:
        """The same with one time of so many."""
        m = self.movie
        return _Shown(self.name, self.title, SmallMovie(m.volumes[::stride], m.times_s[::stride], m.vmax, m.binned))


def write_page(run: Path, *, name: str | None = None) -> Path:
    """Writes report.html into the folder of a run; the file is whole at any moment. Returns its path.

    name: of the run on the page; that of its folder if None.
    Raises InputError if a file of the run is missing or damaged.
    """
    one = PageRun(name or run.resolve().name, run, read_metrics(run))
    parts = [_head(one), viewer(), _table([one]), _figures(one), _what_was_done(one)]
    write_parts(run / PAGE, parts, runs=[one], title=f"{one.name} · DIP-4D")
    return run / PAGE


def write_comparison(runs: Sequence[Path], path: Path) -> Path:
    """Writes a page that lays several runs side by side. Raises InputError as `write_page`."""
    some = [PageRun(run.resolve().name, run, read_metrics(run)) for run in runs]
    names = [one.name for one in some]
    some = [PageRun(f"{r.name} ({i + 1})" if names.count(r.name) > 1 else r.name, r.path, r.metrics)
            for i, r in enumerate(some)]  # fmt: skip
    verdicts = "".join(f"<li><b>{_text(r.name)}</b>: {_text(Verdict.of(r.metrics) or 'no verdict')}</li>" for r in some)
    head = f'<header><h1>DIP-4D</h1><p class="verdict">{len(some)} runs</p><ul class="because">{verdicts}</ul></header>'
    write_parts(path, [head, viewer(), _table(some)], runs=some, title=f"{len(some)} runs · DIP-4D")
    return path


def write_parts(path: Path, parts: Sequence[str], *, runs: Sequence[PageRun], title: str) -> None:
    """Puts a page together; where it comes out too large, with every second volume only, every third, ...

    path: the file.
    parts: of HTML, in their order.
    runs: whose volumes and curves are shown where `viewer` is among the parts.
    title: of the page.
    """
    volumes, images = _volumes(runs), _images(runs)
    read = lambda file: (PAGE_FILES / file).read_text(encoding="utf-8")
    for stride in range(1, 100):
        shown = [*volumes, *images] if stride == 1 else [s.thinned(stride) for s in (*volumes, *images)]
        page = Template(read("page.html")).substitute(
            title=_text(title),
            style=read("page.css"),
            content="\n".join(parts),
            data=json.dumps(_data(runs, shown, count=len(volumes)), allow_nan=False).replace("</", "<\\/"),
            movies="\n".join(
                f'<script type="text/plain" id="m{i}">{_packed(s.movie)}</script>' for i, s in enumerate(shown)
            ),
            three=read("three.min.js") if volumes else "",
            script=read("page.js"),
        )
        if len(page) < LARGEST:
            break
    with written_beside(path) as place:
        place.write_text(page, encoding="utf-8")


def _packed(movie: SmallMovie) -> str:
    """Volumes as base64 of gzip of the first one and of the differences from one time to the next, modulo 256."""
    steps = movie.volumes.copy()
    steps[1:] -= movie.volumes[:-1]
    return base64.b64encode(gzip.compress(steps.tobytes(), PACKING, mtime=0)).decode()


def _volumes(runs: Sequence[PageRun]) -> list[_Shown]:
    """The volumes that a page shows: all of a run; of several runs ours, and the truth of the first."""
    several, shown = len(runs) > 1, []
    for i, run in enumerate(runs):
        there = movies_of(run.path)
        names = [n for n in names_of(run.metrics) if n in there]
        for name in [n for n in names if not several or n == OURS or (n == "truth" and i == 0)]:
            title = label(name, run.metrics) + (f", {run.name}" if several else "")
            shown.append(_Shown(name, title, there[name]))
    return shown


def _images(runs: Sequence[PageRun]) -> list[_Shown]:
    """The measured images of a single run, and those of its volumes; none where there are not both."""
    there = read_preview(runs[0].path) if len(runs) == 1 else {}
    shown = [_Shown(name, name, there[name]) for name in (MEASURED, PREDICTED) if name in there]
    return shown if len(shown) == 2 else []


def _data(runs: Sequence[PageRun], shown: Sequence[_Shown], *, count: int) -> dict[str, Any]:
    """What the script of a page reads. count: how many of what is shown are volumes; images follow them."""
    told = [s.told(f"m{i}") for i, s in enumerate(shown)]
    metrics = runs[0].metrics if runs else {}
    data = {
        "movies": told[:count],
        "panels": _panels([s.name for s in shown[:count]]),
        "times": sorted({t for run in runs for t in run.metrics.get("times_s", [])}),
        "images": dict(zip(("measured", "predicted"), told[count:], strict=False)) or None,
        "unseen": np.flatnonzero(np.isin(metrics.get("images", []), metrics.get("unseen_images", []))).tolist(),
        "charts": charts_of({run.name: (run.path, run.metrics) for run in runs}),
    }
    return data | (_scales(shown[:count], pixel_nm=metrics.get("pixel_nm")) if count else {})


def _panels(names: Sequence[str]) -> list[int]:
    """Which volumes stand side by side first."""
    if names.count(OURS) != 1:  # of several runs
        return list(range(min(3, len(names))))
    return [names.index(n) for n in side_by_side(names)]


def _scales(volumes: Sequence[_Shown], *, pixel_nm: float | None) -> dict[str, Any]:
    """What is drawn white, where the surface and the slice lie to begin with, and how large a voxel is."""
    by_name = {s.name: s.movie for s in reversed(volumes)}
    movie = by_name.get(OURS, volumes[0].movie)
    white = by_name.get("truth", movie).vmax
    view, edges = view_of(movie, white), np.array(movie.volumes.shape[1:])
    return {
        "white": white,
        "level": view.level,
        "zoom": round(float(np.clip(0.43 * np.linalg.norm(edges) / view.reach, 1, 2.5)), 2),
        "slice": view.z / max(int(edges[0]) - 1, 1),
        "binned": movie.binned,
        "voxel_nm": pixel_nm and pixel_nm * movie.binned,
    }


def _text(words: object) -> str:
    return html.escape(str(words))


def _head(run: PageRun) -> str:
    """The verdict, what speaks against the run, and the numbers that say most."""
    verdict = Verdict.of(run.metrics)
    level = f"{verdict.level}." if verdict else "No verdict."
    because = "".join(f"<li>{_text(why)}</li>" for why in verdict.because) if verdict else ""
    because = f'<ul class="because">{because}</ul>' if because else ""
    numbers = "".join(
        f"<div><dt>{_text(what)}</dt><dd>{_text(value)} <small>{_text(beside)}</small></dd></div>"
        for what, value, beside in _numbers(run.metrics)
    )
    note = "Judged by what needs no truth: images and rows that the fit has not seen, mass, and the geometry."
    note = note if verdict else "The run was written before there were verdicts, or did not end."
    return (
        f'<header><h1>{_text(run.name)}</h1><p class="verdict">{_text(level)}</p>{because}'
        f'<p class="note">{note}</p><dl class="numbers">{numbers}</dl></header>'
    )


def _numbers(metrics: dict) -> Iterator[tuple[str, str, str]]:
    """What, its value, and what stands beside it: of the numbers that say most."""
    scores = [v for v in metrics["methods"].get(OURS, {}).get("psnr", []) if v is not None]
    if scores:
        yield "PSNR, mean", f"{np.mean(scores):.1f} dB", f"worst volume {min(scores):.1f} dB"
    for key in ("held_out_images", "held_out"):
        errors = metrics.get(key, {})
        if (ours := errors.get(OURS)) is not None:
            others = [v for n, v in errors.items() if n != OURS and v is not None]
            beside = [f"conventional {min(others):.3f}"] if others else []
            floor = metrics.get("noise_floor", {}).get(key)
            beside += [f"noise alone {floor:.3f}"] if floor else []
            yield f"Error of {ERRORS[key].words}", f"{ours:.3f}", ", ".join(beside)
            break
    if found := metrics.get("resolution"):
        yield "Resolution", in_words(found), "from rows that were not fitted"
    if times := metrics.get("times_s"):
        yield "Volumes", str(len(times)), f"{times[0]:g} to {times[-1]:g} s"


def viewer() -> str:
    """The part of a page in which volumes and curves move."""
    return (PAGE_FILES / "viewer.html").read_text(encoding="utf-8")


def _table(runs: Sequence[PageRun]) -> str:
    """The table of the methods, of several runs one below the other."""
    several, tables, mine = len(runs) > 1, [], ' class="ours"'
    for run in runs:
        columns, rows = table_of(run.metrics)
        ours = label(OURS, run.metrics)
        head = "".join(f"<th>{_text(_in_words(c))}</th>" for c in columns)
        body = "".join(
            f"<tr{mine if row[0].startswith(ours) else ''}>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>"
            for row in rows
        )
        title = f"<h3>{_text(run.name)}</h3>" if several else ""
        tables.append(f'{title}<div class="scroll"><table><tr>{head}</tr>{body}</table></div>')
    return f"<section><h2>Beside other methods</h2>{''.join(tables)}</section>"


def _in_words(column: str) -> str:
    """A column of the table, with the name and the unit of a score."""
    name, _, which = column.partition(" ")
    return f"{SCORES[name].label}, {which}" if name in SCORES else column


def _figures(run: PageRun) -> str:
    """The figures of a run that there are, each within the page."""
    figures = []
    for name, words in FIGURE_WORDS.items():
        path = run.path / FIGURES / name
        if path.is_file():
            figures.append(picture_of(path, words))
    return f"<section><h2>Figures</h2>{''.join(figures)}</section>" if figures else ""


def picture_of(path: Path, words: str, *, anchor: str | None = None) -> str:
    """A PNG file within the page, words below it, and where it can be linked to."""
    picture = base64.b64encode(path.read_bytes()).decode()
    image = f'<img alt="{_text(words)}" src="data:image/png;base64,{picture}">'
    place = f' id="{_text(anchor)}"' if anchor else ""
    return f"<figure{place}>{image}<figcaption>{_text(words)}</figcaption></figure>"


def _what_was_done(run: PageRun) -> str:
    """Command, versions, hashes, a paragraph for a paper, and what to cite."""
    config, made = config_of_run(run.path), run.metrics.get("made", {})
    parts = []
    if config is not None:
        parts.append(_to_copy("The command", command_of(config)))
    parts.append(_to_copy("For the methods of a paper", methods_paragraph(run.metrics, config), text=True))
    parts.append(_to_copy("To cite", bibtex(run.metrics)))
    if made:
        versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
        hashes = {name: found or "gone when the run ended" for name, found in made["files"].items()}
        hashes["images as fitted"] = made["series"]["sha256"]
        lines = "\n".join(f"{found}  {name}" for name, found in hashes.items())
        parts.append(f"<h3>Versions</h3><p>{_text(versions)}</p><h3>SHA-256</h3><pre>{_text(lines)}</pre>")
    return f"<section><h2>What was done</h2>{''.join(parts)}</section>"


def _to_copy(title: str, words: str, *, text: bool = False) -> str:
    kind = ' class="text"' if text else ""
    return f'<h3>{_text(title)}</h3><div class="copied"><pre{kind}>{_text(words.strip())}</pre></div>'
