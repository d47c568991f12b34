"""What becomes of damaged files of users: bytes changed, ends cut off, lines lost, of any files at hand.

    python benchmarks/fuzz.py FOLDER [FOLDER ...] [--trials 40] [--seed 0]

Every folder or file of tilt series below the folders (the images, the angle file, the sidecar: any file of it) is
damaged so many times, and read in a process that is ended after `SECONDS` or beyond `MEMORY`. Survived is what is read,
every value finite, or refused in one line that names a file. Lost is everything else: a traceback, a crash, no end.
Cut is what was read although a tenth of the images or more was gone, without a note. Prints a table by kind of file and
writes results/fuzz.json.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import random
import resource
import shutil
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

from common import RESULTS

# isort: split
import numpy as np

from dip4d.errors import InputError
from dip4d.io.series import READERS, read_tilt_series

SECONDS, MEMORY = 60, 6 * 2**30
LARGEST = 2**21  # bytes of a file that is damaged: reading larger ones is slow, and tells no more
TEXTS = {".txt", ".tlt", ".rawtlt", ".csv", ".mdoc", ".log"}
FEW = 11  # files that lie together belong together
SINGLE, PICTURES = (".tif", ".tiff", ".png", ".dm3", ".dm4", ".mrc"), 3  # so many of one kind make a folder a series
JUNK = [b"", b"\x00", b"\xff" * 4, b"-1", b"nan", b"1e308", b"9" * 400, b",", b";", b"\t", "−5\u00a0°".encode(), b"\r"]


def series_below(folder: Path) -> list[Path]:
    """Files and folders that may be read as a tilt series."""
    kinds = {*READERS, ".gz", ".bz2"}
    found = []
    for each in sorted(p for p in [folder, *folder.rglob("*")] if p.is_dir()):
        files = [f for f in sorted(each.iterdir()) if f.is_file() and f.suffix.lower() in kinds]
        kind, count = Counter(f.suffix.lower() for f in files).most_common(1)[0] if files else ("", 0)
        is_folder = count >= PICTURES and kind in SINGLE
        found += [each] if is_folder else []
        found += [f for f in files if not (is_folder and f.suffix.lower() == kind)]
    return found


def damaged(data: bytes, rng: random.Random, *, text: bool) -> tuple[str, bytes]:
    """What was done to a file, and what became of it."""
    if text and rng.random() < 0.8:
        return damaged_text(data, rng)
    how = rng.choice(["bytes", "bytes", "header", "header", "cut", "doubled", "hole"])
    at = rng.randrange(max(1, len(data)))
    if how == "cut":
        return how, data[:at]
    if how == "doubled":
        return how, data[:at] + data[at // 2 :]
    if how == "hole":
        return how, data[:at] + data[at + rng.randrange(1, 400) :]
    changed = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        last = min(len(changed), 1200) if how == "header" else len(changed)
        if last:
            changed[rng.randrange(last)] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
    return how, bytes(changed)


def damaged_text(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    lines = data.splitlines(keepends=True) or [b""]
    at = rng.randrange(len(lines))
    how = rng.choice(["line lost", "line twice", "junk", "junk", "lines swapped"])
    if how == "line lost":
        del lines[at]
    elif how == "line twice":
        lines.insert(at, lines[at])
    elif how == "lines swapped":
        other = rng.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    else:
        where = rng.randrange(len(lines[at]) + 1)
        lines[at] = lines[at][:where] + rng.choice(JUNK) + lines[at][where + rng.randrange(4) :]
    return how, b"".join(lines)


def outcome(path: Path, size: int | None, answer) -> None:
    """Reads a series; puts what came of it into a pipe."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    try:
        series = read_tilt_series(path)
        finite = bool(np.isfinite(series.images).all() and np.isfinite(series.angles_deg).all())
        short = size is not None and series.images.size < 0.9 * size and not series.notes
        answer.send(("cut" if short else "read") if finite else "lost: values that are not finite")
    except InputError as error:
        said = str(error)
        answer.send("refused" if "\n" not in said.strip() else f"lost: more than a line: {said[:300]}")
    except BaseException as error:
        answer.send(f"lost: {type(error).__name__}: {str(error)[:300]}")


def read_apart(path: Path, size: int | None) -> str:
    here, there = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=outcome, args=(path, size, there))
    process.start()
    there.close()
    try:
        return here.recv() if here.poll(SECONDS) else "lost: no end"
    except EOFError:
        process.join()
        return f"lost: ended with code {process.exitcode}"
    finally:
        process.kill()
        process.join()


def copied(source: Path, folder: Path) -> Path:
    """A copy of a series with what lies beside it; with an angle file of its own where it has no angles."""
    if source.is_dir():
        return Path(shutil.copytree(source, folder / source.name, copy_function=shutil.copyfile))
    beside = [f for f in source.parent.iterdir() if f.is_file() and f.stat().st_size <= LARGEST]
    for file in beside if len(beside) <= FEW else [source]:
        shutil.copyfile(file, folder / file.name)
    path = folder / source.name
    try:
        read_tilt_series(path)
    except InputError as error:
        reader = READERS.get(path.suffix.lower())
        if error.argument == "angles" and reader is not None:
            count = len(np.atleast_3d(reader(path).images))
            path.with_suffix(".tlt").write_text("\n".join(f"{angle:.2f}" for angle in np.linspace(-60, 60, count)))
    return path


def size_of(path: Path) -> int | None:
    """How many values an undamaged series has; None if it is not read."""
    try:
        return read_tilt_series(path).images.size
    except InputError:
        return None


def tried(source: Path, rng: random.Random, *, trials: int, add: Callable[[str, str, str], None]) -> None:
    """One series, damaged many times; `add` takes the kind of the damaged file, the damage and the outcome."""
    with tempfile.TemporaryDirectory() as place:
        path = copied(source, Path(place))
        size = size_of(path)
        files = {f: f.read_bytes() for f in sorted(Path(place).rglob("*")) if f.is_file()}
        for _ in range(trials):
            file = path if path.is_file() and rng.random() < 0.6 else rng.choice(list(files))
            how, data = damaged(files[file], rng, text=file.suffix.lower() in TEXTS)
            file.write_bytes(data)
            add(file.suffix.lower() or "none", how, read_apart(path, size))
            file.write_bytes(files[file])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    rng, counts, lost = random.Random(given.seed), defaultdict(Counter), []
    for source in (s for folder in given.folders for s in series_below(folder)):
        if source.is_file() and source.stat().st_size > LARGEST:
            continue

        def add(kind: str, how: str, came: str, *, name: str = source.name) -> None:
            counts[kind][came.split(":")[0]] += 1
            if came.startswith(("lost", "cut")):
                lost.append(f"{name}, {kind} with {how}: {came}")
                print(f"  {lost[-1]}", flush=True)

        tried(source, rng, trials=given.trials, add=add)
    print("| kind | trials | read | refused in a line | cut | lost |\n|---|---|---|---|---|---|")
    for kind, of in sorted(counts.items()):
        cells = [kind, sum(of.values()), *(of[c] for c in ("read", "refused", "cut", "lost"))]
        print(f"| {' | '.join(map(str, cells))} |")
    (RESULTS / "fuzz.json").write_text(json.dumps({"kinds": counts, "lost": lost}, indent=1))
    sys.exit(any(line for line in lost if ": lost" in line))


if __name__ == "__main__":
    main()
