"""The networks of other groups and the free voxel maps: what they promise, and that each fits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import train
from dip4d.config import load_config
from dip4d.data import Rows, drawn
from dip4d.errors import InputError
from dip4d.loss import GemanMcClure, SquaredError, total_variation
from dip4d.networks import TDDIP, BoundedLowRank, Dipster, VoxelMaps

PROGRESS, ANGLES = torch.linspace(0, 1, 6), torch.linspace(-1, 1, 6)


def dipster(**keys) -> Dipster:
    torch.manual_seed(0)
    return Dipster((16, 16), 12, PROGRESS, ANGLES, 1.0, **keys)


@pytest.mark.parametrize("shape", [(16, 16), (48, 48), (20, 37)])
def test_they_draw_any_shape(shape):
    for net in (Dipster(shape, 9, PROGRESS, ANGLES, 1.0), TDDIP(shape, 9, 1.0)):
        slices = net.render(net.features(torch.tensor([0.0, 4.0]), None), torch.rand(2, 3))
        assert slices.shape == (2, 3, *shape)
        assert slices.std() > 0


def test_dipster_sees_the_angle_of_each_image_in_training_and_one_view_afterwards():
    z, between = torch.tensor([3.0]), torch.tensor([[0.18, 0.22, 0.28]])  # the nearest image of all is the second
    free = dipster(view=None).eval()
    fixed = dipster(view=float(ANGLES[1])).eval()
    torch.testing.assert_close(
        free.render(free.features(z, None), between), fixed.render(fixed.features(z, None), between)
    )
    elsewhere = dipster(view=0.9).eval()
    assert not torch.allclose(
        free.render(free.features(z, None), between), elsewhere.render(elsewhere.features(z, None), between)
    )
    own, other = dipster(view=0.9).train(), dipster(view=None).train()
    torch.testing.assert_close(
        own.render(own.features(z, None), between), other.render(other.features(z, None), between)
    )


def test_voxel_maps_begin_as_the_volume_they_are_given():
    volume = 0.1 + 0.8 * torch.rand(5, 6, 7)
    net = BoundedLowRank(VoxelMaps(volume, 4, 1.0), 4, 0.3, 1.0)
    slices = net.render(net.features(torch.arange(5.0), None), torch.rand(5, 3))
    torch.testing.assert_close(slices, volume[:, None].expand(-1, 3, -1, -1), rtol=1e-4, atol=1e-5)
    maps = VoxelMaps(volume, 1, 1.0)
    halfway, ends = maps(torch.tensor([1.5]), None), maps(torch.tensor([1.0, 2.0]), None)
    torch.testing.assert_close(halfway[0], ends.mean(0))


def test_geman_mcclure_is_squared_for_small_errors_and_bounded_for_large_ones():
    measured = torch.zeros(1, 1, 4)
    small = torch.full_like(measured, 1e-3)
    ratio = GemanMcClure(2.0, scale=0.1)(small, measured) / SquaredError(2.0)(small, measured)
    assert ratio == pytest.approx(100, rel=1e-3)
    assert GemanMcClure(2.0)(small * 1e9, measured) == pytest.approx(100)


def test_total_variation_of_a_step():
    slices = torch.zeros(2, 3, 4, 5)
    slices[..., 2:] = 7.0
    assert total_variation(slices) == pytest.approx(7 / 4)
    assert total_variation(slices.transpose(-1, -2)) == pytest.approx(7 / 4)
    assert total_variation(slices * 0 + 3) == 0


def test_rows_are_drawn_by_the_step_alone():
    t = torch.arange(10).expand(3, 10)
    rows = Rows(t[..., None].float().expand(-1, -1, 4), t, t / 9, t / 5)
    once, again, later = (drawn(rows, 4, step) for step in (7, 7, 8))
    assert torch.equal(once.t, again.t)
    assert not torch.equal(once.t, later.t)
    assert all(len(set(row.tolist())) == 4 for row in once.t)
    assert torch.equal(once.values[..., 0], once.t.float())
    assert drawn(rows, 99, 0).t.shape == (3, 10)


@pytest.mark.parametrize("name", ["dip", "voxels", "dipster", "tddip"])
def test_each_network_fits(tmp_path, small, name):
    losses = []

    def run(steps: int) -> float:
        folder = tmp_path / str(steps)
        rate = {"dipster": ["train.learning_rate=1e-3"]}.get(name, [])  # its own is made for hours
        arguments = [*small, f"network={name}", *rate, f"train.steps={steps}", "train.slices=4", "compare.methods=[]"]
        assert train.main([*arguments, f"run.dir={folder}", "train.max_minutes=null"]) == 0
        return train.read_metrics(folder)["held_out"]["dip"]

    losses = [run(1), run(120)]
    assert losses[1] < 0.95 * losses[0]


def test_a_preset_is_one_argument_and_later_ones_win():
    config = load_config(["network=dipster", "train.slices=8"])
    assert (config.network.name, config.train.loss, config.train.rows, config.train.slices) == (
        "dipster", "geman_mcclure", 1, 8)  # fmt: skip
    with pytest.raises(InputError, match="network=dipstr: must be one of dip, dipster, tddip, voxels"):
        load_config(["network=dipstr"])
    assert load_config(["network={channels: 16}"]).network.channels == 16


def test_volumes_between_the_images(tmp_path, small):
    from dip4d.io import open_volumes

    small += ["compare.methods=[]", "train.steps=5", f"run.dir={tmp_path / 'run'}"]
    assert train.main([*small, "output.times=[0, 2.5, 3, 11]"]) == 0
    volumes = np.array(open_volumes(tmp_path / "run" / "volumes.ome.tif"))
    assert train.main([*small, "run.overwrite=true"]) == 0
    of_images = np.array(open_volumes(tmp_path / "run" / "volumes.ome.tif"))
    np.testing.assert_array_equal(volumes[[0, 2, 3]], of_images[[0, 3, 11]])
    assert not np.array_equal(volumes[1], of_images[2])
    assert not np.array_equal(volumes[1], of_images[3])


def test_a_time_outside_of_the_series_is_refused_before_any_work(tmp_path, small, capsys):
    assert train.main([*small, f"run.dir={tmp_path / 'run'}", "output.times=[0, 11.5]"]) == 2
    error = capsys.readouterr().err
    assert "output.times" in error
    assert "11.5 s" in error
    assert not (tmp_path / "run").exists()
