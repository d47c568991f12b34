"""Further fits: members go on from the fit with half of its rows, and none sees a test image."""

from __future__ import annotations

import pytest
import torch

from dip4d.config.load import load_config
from dip4d.reconstruction.fit import Fit, fit
from dip4d.reconstruction.refits import MEMBER_SHARE, fit_members
from dip4d.reconstruction.split import choose_split
from dip4d.simulation.simulate import simulate
from tests.helpers import same

SMALL_FIT = ["network.motion=never", "network.channels=16", "network.rank=4", "train.slices=4", "train.steps=20"]
CONFIG = load_config([*SMALL_FIT, "trainer.accelerator=cpu"])


@pytest.fixture(scope="module")
def done() -> Fit:
    series, _ = simulate("nanostar", 16, frames=12, scheme="grs", peak_counts=500, seed=2)
    return fit(series, choose_split(series, 0.1, test_images=0.1), settings=CONFIG)


def test_members_see_half_of_the_rows_each_and_none_that_is_kept_aside(done):
    members, split = fit_members(done, CONFIG, members=3), done.data.split
    assert [member.steps for member in members] == 3 * [round(MEMBER_SHARE * 20)]
    for member in members:
        of = member.data.split
        assert of.test_images == split.test_images
        assert torch.equal(of.validation_rows, split.validation_rows)
        assert not (of.fitted_rows & ~split.fitted_rows).any()
        assert (of.fitted_rows.sum(1) == -(-split.fitted_rows.sum(1) // 2)).all()
        assert not same(member.module.state_dict(), done.module.state_dict())
    assert not torch.equal(members[0].data.split.hidden_rows, members[1].data.split.hidden_rows)


def test_a_member_begins_from_the_weights_of_the_fit(done):
    still = load_config([*SMALL_FIT, "trainer.accelerator=cpu", "train.learning_rate=1e-7"])
    before = {name: v.clone() for name, v in done.module.state_dict().items()}
    (member,) = fit_members(done, still, members=1)
    for name, value in member.module.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=1e-4)
    assert same(done.module.state_dict(), before)  # the fit itself stays as it is
