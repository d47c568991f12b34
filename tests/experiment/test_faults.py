"""Whatever ends a run, it goes on as if nothing had been; nothing of what it had is lost."""

from __future__ import annotations

import numpy as np
import pytest

from dip4d.io import open_volumes
from dip4d.reconstruction.module import DIP4D
from tests.helpers import StopNowError, interrupt, run, same, weights

TINY = [
    "simulate.size=8",
    "simulate.frames=8",
    "network.channels=8",
    "compare.methods=[]",
    "train.checkpoint_seconds=0.1",
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run with validation at every fifth step and an uncertainty, never interrupted."""
    from tests.conftest import SMALL

    folder = tmp_path_factory.mktemp("faults") / "whole"
    arguments = [*SMALL, *TINY, "train.steps=12", "trainer.val_check_interval=5", "uncertainty.members=3"]
    run(folder, *arguments)
    return folder, arguments


def pull_the_plug(monkeypatch, hook: str, step: int) -> None:
    """The fit ends with an exception in a hook at a step; checkpoints are due at every look at the clock."""
    before = getattr(DIP4D, hook)

    def pull(self, *arguments):
        if self.global_step == step and self.trainer.max_steps == 12:
            raise StopNowError
        return before(self, *arguments)

    interrupt(monkeypatch, step=10**6)
    monkeypatch.setattr(DIP4D, hook, pull)


@pytest.mark.parametrize(
    ("hook", "step"),
    [
        ("on_validation_start", 5),  # a step whose validation has not been
        ("on_train_end", 12),  # the last step, before the weights are chosen
    ],
)
def test_a_run_goes_on_exactly_from_any_step(tmp_path, whole, hook, step):
    folder, arguments = whole
    with pytest.MonkeyPatch.context() as patch:
        pull_the_plug(patch, hook, step)
        with pytest.raises(StopNowError):
            run(tmp_path, *arguments)
    run(tmp_path, "run.resume=true")
    assert same(weights(folder), weights(tmp_path))
    for name in ("volumes.ome.tif", "uncertainty.ome.tif"):
        np.testing.assert_array_equal(*(np.array(open_volumes(f / name)) for f in (folder, tmp_path)))
