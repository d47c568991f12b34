"""Which frames: a window of neighbours in time, or a few that are evenly spread."""

from __future__ import annotations


def window(t: int, frames: int, *, width: int) -> slice:
    """The `width` frames around t; at the ends of the series, the first or last `width`."""
    width = min(width, frames)
    start = min(max(t - width // 2, 0), frames - width)
    return slice(start, start + width)


def evenly(length: int, count: int) -> list[int]:
    """At most `count` different indices below `length`, evenly spread, the first and the last among them."""
    return sorted({round(i * (length - 1) / max(count - 1, 1)) for i in range(count)})
