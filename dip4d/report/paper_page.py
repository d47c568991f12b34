"""The page that lays the claims of the paper beside the runs of its cases: one file, and the table as Markdown."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Template

from dip4d.report.paper_claims import Finding, PaperRun
from dip4d.report.run_page import FIGURE_WORDS, PageRun, picture_of, viewer, write_parts
from dip4d.run_folder import FIGURES, PAGE
from dip4d.whole_file import written_beside

PAPER_PAGE, PAPER_TABLE = "paper.html", "paper.md"
RUN_HEADS = ("Run", "Series", "Time", "Verdict")
HEADS = ("Claim of the abstract", "The paper", "Ours", "Met?", "To look at")
_SOURCE = (
    "Craig, Kadu, Batenburg and Bals, 3D visualization of in situ nanoscale dynamics in transmission electron "
    "microscopy via self-supervised deep learning"
)
_text = html.escape


def write_paper(found: Sequence[Finding], runs: Sequence[PaperRun], *, folder: Path, quick: bool = False) -> list[Path]:
    """Writes paper.html and paper.md into a folder; each is whole at any moment. Returns their paths.

    found: what the runs say to each claim.
    runs: of all cases, those without a result too.
    folder: of the page.
    quick: whether the runs are those of --quick.
    """
    shown = _figures_of(found)
    simulated = [PageRun(r.title, r.folder, r.metrics) for r in runs if r.problem is None and not r.measured]
    parts = [
        _head(found, quick),
        _claims(found, shown, folder=folder),
        _runs(runs, folder=folder),
        viewer(),
        _figures(shown),
    ]
    write_parts(folder / PAPER_PAGE, parts, runs=simulated, title="The paper and DIP-4D")
    with written_beside(folder / PAPER_TABLE) as place:
        place.write_text(_markdown(found, runs, folder=folder, quick=quick), encoding="utf-8")
    return [folder / PAPER_PAGE, folder / PAPER_TABLE]


def lines_of(found: Sequence[Finding]) -> list[str]:
    """What became of each claim, a line each."""
    return [f"{one.met}: {one.claim.words}" for one in found]


def _figures_of(found: Sequence[Finding]) -> dict[Path, str]:
    """The figures that show the claims, as far as they are there, each once, and what is said below it."""
    shown = {}
    for one in found:
        for run, _, _ in one.told:
            path = _figure(one, run)
            if path.is_file():
                shown.setdefault(path, f"{run.title}, {_series(run)}. {FIGURE_WORDS[one.claim.figure]}")
    return shown


def _figure(one: Finding, run: PaperRun) -> Path:
    return run.folder / FIGURES / one.claim.figure


def _how(quick: bool) -> str:
    """Where the numbers are from."""
    size = " They are smaller and shorter than those without --quick, and worse." if quick else ""
    return (
        "The paper's numbers are those that its abstract gives. Ours are computed from the files of the runs below, "
        f"which python evaluate.py --paper{' --quick' if quick else ''} makes.{size}"
    )


def _head(found: Sequence[Finding], quick: bool) -> str:
    met = sum(one.met == "met" for one in found)
    others = [one for one in found if one.met != "met"]
    because = "".join(f"<li>{_text(line)}</li>" for line in lines_of(others))
    return (
        f'<header><h1>The paper and DIP-4D</h1><p class="verdict">{met} of {len(found)} claims met.</p>'
        f'<ul class="because">{because}</ul><p class="note">{_text(_SOURCE)}. {_text(_how(quick))}</p></header>'
    )


def _claims(found: Sequence[Finding], shown: dict[Path, str], *, folder: Path) -> str:
    """The table; on a phone each claim is a block of its own."""
    numbers = {path: n for n, path in enumerate(shown, start=1)}
    rows = []
    for one in found:
        ours = "".join(f"<p><b>{_text(run.title)}</b>: {_text(told)}</p>" for run, told, _ in one.told)
        links = "".join(_links(run, numbers.get(_figure(one, run)), folder=folder) for run, _, _ in one.told)
        met = f"<b>{_text(one.met)}</b><p>Bar: {_text(one.claim.bar)}.</p>"
        rows.append((_text(one.claim.words), _text(one.claim.paper), ours or _text(one.claim.without), met, links))
    return _table("Claim by claim", HEADS, rows=rows)


def _table(title: str, heads: Sequence[str], *, rows: Iterable[Sequence[str]]) -> str:
    """A section of a title and a table, each row as many cells of HTML as there are heads."""
    row_of = lambda cells: "".join(f'<td data-head="{h}">{cell}</td>' for h, cell in zip(heads, cells, strict=True))
    head = "".join(f"<th>{name}</th>" for name in heads)
    return (
        f'<section><h2>{title}</h2><table class="claims"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(f'<tr>{row_of(cells)}</tr>' for cells in rows)}</tbody></table></section>"
    )


def _links(run: PaperRun, figure: int | None, *, folder: Path) -> str:
    """To a figure of this page, to the page of the run, and its verdict."""
    level = "no verdict" if run.verdict is None else run.verdict.level
    shown = "" if figure is None else f'<a href="#figure{figure}">Figure {figure}</a><br>'
    return f'<p>{shown}<a href="{_text(_link(run, folder))}">{_text(run.title)}</a>: {_text(level)}</p>'


def _runs(runs: Sequence[PaperRun], *, folder: Path) -> str:
    """The runs, their verdicts, and what went wrong."""
    rows = []
    for run in runs:
        name = _text(run.title)
        name = name if run.problem else f'<a href="{_text(_link(run, folder))}">{name}</a>'
        rows.append((name, _series(run), _text(_minutes(run)), _text(_state(run))))
    return _table("The runs", RUN_HEADS, rows=rows)


def _series(run: PaperRun) -> str:
    return "measured" if run.measured else "simulated"


def _state(run: PaperRun) -> str:
    """The verdict of a run, or why it has no result."""
    return f"no result: {run.problem}" if run.problem else str(run.verdict or "no verdict")


def _minutes(run: PaperRun) -> str:
    return "-" if run.problem or "seconds" not in run.metrics else f"{run.metrics['seconds'] / 60:.1f} min"


def _figures(shown: dict[Path, str]) -> str:
    pictures = (picture_of(p, f"Figure {n}. {w}", anchor=f"figure{n}") for n, (p, w) in enumerate(shown.items(), 1))
    return f"<section><h2>Figures</h2>{''.join(pictures)}</section>" if shown else ""


def _link(run: PaperRun, folder: Path) -> str:
    """The page of a run, from the folder of this one."""
    return Path(os.path.relpath(run.folder / PAGE, folder)).as_posix()


_MARKDOWN = Template("""# The paper and DIP-4D

$source.
$how

| claim of the abstract | the paper | ours | met? | to look at |
|---|---|---|---|---|
$claims

| run | series | time | verdict |
|---|---|---|---|
$runs
""")


def _markdown(found: Sequence[Finding], runs: Sequence[PaperRun], *, folder: Path, quick: bool) -> str:
    claims = []
    for one in found:
        ours = "<br>".join(f"**{run.title}**: {told}" for run, told, _ in one.told) or one.claim.without
        figures = [(run, _figure(one, run)) for run, _, _ in one.told]
        links = "<br>".join(
            f"[{run.title}]({Path(os.path.relpath(path, folder)).as_posix()})"
            for run, path in figures
            if path.is_file()
        )
        claims.append((one.claim.words, one.claim.paper, ours, f"**{one.met}**<br>{one.claim.bar}", links))
    name = lambda r: r.title if r.problem else f"[{r.title}]({_link(r, folder)})"
    states = [(name(r), _series(r), _minutes(r), _state(r)) for r in runs]
    table = lambda rows: "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)
    return _MARKDOWN.substitute(source=_SOURCE, how=_how(quick), claims=table(claims), runs=table(states))
