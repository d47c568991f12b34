"""Work in parallel is the same work: in order, each alone, and what fails is heard of."""

from __future__ import annotations

import threading

import pytest
import torch

from dip4d.threads import each_alone


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_come_in_order_from_threads_that_are_alone(threads):
    def of(item: int) -> tuple[int, int]:
        (torch.ones(600, 600) @ torch.ones(600, 600)).add_(1)  # may start threads
        return item**2, torch.get_num_threads()

    assert list(each_alone(of, iter(range(20)))) == [(i**2, 1) for i in range(20)]
    assert torch.get_num_threads() == threads
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert found == [threads]  # of those that begin hereafter too


def test_work_within_work_does_not_wait_for_itself(threads):
    within = lambda item: sum(each_alone(lambda i: i * item, range(5)))
    assert list(each_alone(within, range(8))) == [10 * i for i in range(8)]


def test_few_items_are_drawn_ahead(threads):
    drawn: list[int] = []
    results = each_alone(lambda i: i, (drawn.append(i) or i for i in range(100)))
    next(results)
    assert len(drawn) <= threads + 1


def test_an_error_reaches_who_asked(threads):
    with pytest.raises(ZeroDivisionError):
        list(each_alone(lambda i: 1 // i, [2, 1, 0]))
