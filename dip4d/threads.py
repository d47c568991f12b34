"""Work shared out to plain threads: kernels of numba release the GIL, and autograd may call from any thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from threading import Barrier
from typing import TypeVar

import numba
import torch

Item = TypeVar("Item")
Result = TypeVar("Result")
BLOCKS_PER_THREAD = 2  # so that threads end together
SMALL = 2**18  # numbers, which one thread is through with before another has begun

fast_jit = numba.njit(nogil=True, cache=True, fastmath={"nsz", "arcp", "contract", "reassoc"}, error_model="numpy")


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="dip4d")


def spread(kernel: Callable[..., None], arrays: tuple, *, tasks: list[tuple[int, ...]], threads: int) -> None:
    """Runs ``kernel(*arrays, *task)`` for each task, on as many threads; tasks must write to disjoint places."""
    threads = min(threads, len(tasks))
    if threads == 1:
        for task in tasks:
            kernel(*arrays, *task)
    else:
        list(_pool(threads).map(lambda task: kernel(*arrays, *task), tasks))


def blocks(length: int, size: int) -> list[tuple[int, int]]:
    """First and last + 1 of blocks of a length, `size` each but for the last."""
    return [(i, min(i + size, length)) for i in range(0, length, size)]


def on_threads(kernel: Callable[..., None], arrays: tuple, *, items: int) -> None:
    """Runs ``kernel(*arrays, first, last)`` for blocks of so many items, on the threads of torch.

    kernel: must write the items of different blocks to different places.
    arrays: what it reads and writes; where the first is small, one thread does all.
    """
    threads = torch.get_num_threads() if arrays[0].size > SMALL else 1
    size = max(1, -(-items // (BLOCKS_PER_THREAD * threads if threads > 1 else 1)))
    spread(kernel, arrays, tasks=blocks(items, size), threads=threads)


@cache
def _lone_workers(threads: int) -> ThreadPoolExecutor:
    """Threads in each of which torch uses no other."""
    pool, all_there = ThreadPoolExecutor(threads, thread_name_prefix="dip4d-alone"), Barrier(threads)

    def begin() -> None:
        torch.get_num_threads()  # or else the first operation would undo what follows
        torch.set_num_threads(1)  # of this thread, and of those that begin hereafter
        all_there.wait()

    for begun in [pool.submit(begin) for _ in range(threads)]:
        begun.result()
    torch.set_num_threads(threads)
    return pool


def each_alone(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """``map(function, items)``, on as many threads as torch has, with no other threads for any of them.

    For work of many small steps, which shares out better whole than step by step. Items are drawn, and results are
    ready, a few ahead of the one that is asked for.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        yield from map(function, items)
        return
    pool, pending = _lone_workers(threads), deque[Future[Result]]()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for left in pending:
            left.cancel()
