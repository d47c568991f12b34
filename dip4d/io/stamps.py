"""Times of images as people and microscopes write them: seconds, a clock, a date and a clock."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np

from dip4d.io.table import number_of

_CLOCK = re.compile(r"(?<![\d:])(\d{1,2}):(\d{2}):(\d{2}(?:[.,]\d+)?)\s*([ap])?\.?(?:m\.?)?(?:\s*uhr)?", re.IGNORECASE)
_ZONE = re.compile(r"\s*(z|utc|gmt|[+-]\d\d:?\d\d)$", re.IGNORECASE)
_DATES = ("%d-%b-%y", "%d-%b-%Y", "%Y-%b-%d", "%Y-%m-%d", "%Y/%m/%d", "%Y:%m:%d", "%Y.%m.%d", "%Y%m%d",
          "%d.%m.%Y", "%d.%m.%y", "%m/%d/%Y", "%d/%m/%Y", "%m/%d/%y", "%d/%m/%y", "%m-%d-%Y", "%d-%m-%Y",
          "%d %b %Y", "%b %d %Y", "%d %B %Y", "%B %d %Y", "%a %b %d %Y", "%a %d %b %Y")  # fmt: skip
_ENGLISH = {"mrz": "mar", "mär": "mar", "mai": "may", "okt": "oct", "dez": "dec"}
_DAY = 86400.0
_MOST_UNKNOWN = 0.2  # of the times may be missing


def seconds_of(stamps: Sequence[str | None], *, unit: float = 1.0) -> tuple[np.ndarray | None, str | None]:
    """Times (t,) in seconds, and what is to be said about them; None for the times if they cannot be known.

    stamps: of each image, None where it has none: numbers in units of `unit` seconds, which stay as they are, or clocks
    or dates with clocks, counted from the first. One that is missing or not understood is set between its neighbours
    where the others are in order, else into the largest gap; the note names it. A clock that passes midnight goes on.
    """
    stamps = [None if s is None or not s.strip() else s.strip() for s in stamps]
    kinds = (_numbers(stamps, unit=unit), _clocks(stamps), _dates(stamps))
    times = max(kinds, key=lambda k: int(np.isfinite(k).sum()))
    if times is not kinds[0] and np.isfinite(times).any():
        times = times - np.nanmin(times)
    unknown = np.flatnonzero(~np.isfinite(times))
    if not len(unknown):
        return times, None
    first = int(unknown[0])
    stamp = stamps[first]
    said = "is missing" if stamp is None else f"'{_short(stamp)}' is not understood"
    more = f", and {len(unknown) - 1} more" if len(unknown) > 1 else ""
    if len(unknown) == len(times) or len(unknown) > max(1, _MOST_UNKNOWN * len(times)):
        return None, None if len(unknown) == len(times) and stamp is None else (
            f"the time of image {first} {said}{more}: times are left out"
        )
    return _filled(times), f"the time of image {first} {said}{more}: set by the times of the others"


def _filled(times: np.ndarray) -> np.ndarray:
    known = np.isfinite(times)
    if (np.diff(times[known]) >= 0).all() and known.sum() > 1:
        places = np.arange(len(times))
        step = np.median(np.diff(times[known]))
        filled = np.interp(places, places[known], times[known])
        first, last = places[known][[0, -1]]
        filled[:first] += step * (places[:first] - first)
        filled[last + 1 :] += step * (places[last + 1 :] - last)
        return filled
    times = times.copy()
    for at in np.flatnonzero(~known):
        there = np.sort(times[np.isfinite(times)])
        gaps = np.diff(there)
        wide = gaps.max() > 1.5 * np.median(gaps) if len(gaps) else False
        times[at] = there[gaps.argmax()] + gaps.max() / 2 if wide else there[-1] + (np.median(gaps) if len(gaps) else 1)
    return times


def _numbers(stamps: Sequence[str | None], *, unit: float) -> np.ndarray:
    values = [number_of(s) if s is not None else None for s in stamps]
    return np.array([np.nan if v is None else v * unit for v in values], np.float64)


def _clocks(stamps: Sequence[str | None]) -> np.ndarray:
    """Clocks without a date. What is not in order is taken to begin after the longest break of the day."""
    found = [_CLOCK.fullmatch(s) if s is not None else None for s in stamps]
    times = np.array([np.nan if m is None else _of_day(m) for m in found])
    known = np.sort(times[np.isfinite(times)])
    order = times[np.isfinite(times)]
    if len(known) > 1 and (np.diff(order) < 0).any():
        breaks = np.diff(known, append=known[0] + _DAY)
        start = known[(int(breaks.argmax()) + 1) % len(known)]
        times = (times - start) % _DAY + start
    return times


def _of_day(clock: re.Match[str]) -> float:
    hours, minutes, seconds = int(clock[1]), int(clock[2]), float(clock[3].replace(",", "."))
    if clock[4]:
        hours = hours % 12 + (12 if clock[4].lower() == "p" else 0)
    return 3600 * hours + 60 * minutes + seconds


def _dates(stamps: Sequence[str | None]) -> np.ndarray:
    """Dates with clocks, seconds since 1970. Of the forms that fit most, the one with the shortest series."""
    days: list[str | None] = []
    rest = np.zeros(len(stamps))
    for i, stamp in enumerate(stamps):
        clock = None if stamp is None else _CLOCK.search(stamp)
        if stamp is None or clock is None:
            days.append(None)
            continue
        after = stamp[clock.end() :]
        zone = _ZONE.match(after)
        after = after[zone.end() :] if zone else after
        text = f"{stamp[: clock.start()].strip().removesuffix('T')} {after}".replace(",", " ").lower()
        text = re.sub(r"[^\W\d_]+", lambda word: _ENGLISH.get(word[0], word[0]), text)
        days.append(" ".join(text.split()))
        rest[i] = _of_day(clock) - _offset(zone)
    best = np.full(len(stamps), np.nan)
    for form in _DATES:
        times = np.array([np.nan if d is None else _day(d, form) for d in days]) + rest
        more, span = np.isfinite(times).sum(), np.ptp(times[np.isfinite(times)]) if np.isfinite(times).any() else 0
        had = np.isfinite(best).sum()
        if more > had or (more == had > 0 and span < np.ptp(best[np.isfinite(best)])):
            best = times
    return best


def _day(text: str, form: str) -> float:
    try:
        return (datetime.strptime(text, form) - datetime(1970, 1, 1)) / timedelta(seconds=1)
    except ValueError:
        return np.nan


def _offset(zone: re.Match[str] | None) -> float:
    if zone is None or zone[1][0] not in "+-":
        return 0.0
    digits = zone[1].replace(":", "")
    return (-1 if digits[0] == "-" else 1) * (3600 * int(digits[1:3]) + 60 * int(digits[3:5]))


def _short(text: str) -> str:
    return text[:40].encode("unicode_escape").decode()
