"""The rank in time of volumes whose rank is known."""

from __future__ import annotations

import numpy as np
import pytest

from dip4d.measures.time_rank import time_rank


def test_a_specimen_at_rest_is_one_function_of_time():
    assert time_rank(np.broadcast_to(np.random.default_rng(0).random((4, 5, 6)), (20, 4, 5, 6))) == 1


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_a_mixture_of_so_many_functions_has_their_number(rank):
    random = np.random.default_rng(rank)
    functions, maps = (
        np.linalg.qr(random.normal(size=(30, rank)))[0],
        np.linalg.qr(random.normal(size=(99_000, rank)))[0],
    )
    assert time_rank((functions @ maps.T).reshape(30, 9, 11, 1000).astype(np.float32)) == rank


def test_the_share_is_that_of_the_energy():
    frames = np.diag([3.0, 2.0, 1.0, 0.1])  # energies 9, 4, 1, 0.01
    assert [time_rank(frames, share) for share in (0.6, 0.9, 0.95, 0.9999)] == [1, 2, 3, 4]
