"""A step on a GPU never waits: nothing of it is asked for by the CPU. And bfloat16 rounds no place and no time."""

from __future__ import annotations

import collections

import lightning as L
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dip4d.config.load import config_of
from dip4d.reconstruction import fit as fit_module
from dip4d.reconstruction.factors import added
from dip4d.reconstruction.fit import Fit, fit, make_trainer, prepare
from dip4d.reconstruction.module import DIP4D
from dip4d.reconstruction.networks.free_form import MOTIONS
from dip4d.reconstruction.networks.rigid_motion import rotations
from dip4d.reconstruction.split import choose_split
from dip4d.simulation.simulate import simulate

KEYS = {"network.channels": 8, "network.rank": 3, "train.slices": 4, "train.steps": 6, "trainer.accelerator": "cpu"}
KINDS = {
    "at rest": {},
    "moving": {"motion": "rigid"},
    "bending": {"motion": "free_form"},
    "refined": {"align.refine": True, "align.tilt": True},
}


def prepared(motion: str | None = None, **keys):
    series, _ = simulate("nanostar", 16, frames=10, scheme="grs", peak_counts=500, seed=0)
    torch.manual_seed(0)
    settings = config_of(**KEYS, **keys)
    start = None if motion is None else MOTIONS[motion](8.0)
    return settings, *prepare(series, choose_split(series, 0.1), settings=settings, motion=start)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_asks_for_no_number(kind):
    """On the meta device, as on a GPU, plain torch does all; to ask for a number is an error there."""
    _, module, data = prepared(**KINDS[kind])
    meta = torch.device("meta")
    module = module.to(meta)
    data.move(meta)
    module.show_once(data)
    numbers = range(4) if data.images is None else range(data.images)
    batch = (data.batch if data.images is None else data.batch_of_images)(list(numbers))
    module.loss_of(batch, batch.rows).backward()
    assert sum(p.grad is not None for p in module.parameters()) > 10
    with pytest.raises(RuntimeError, match="meta"):
        next(module.network.parameters()).sum().item()


class Calls(TorchDispatchMode):
    """Counts the operations that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.of: collections.Counter[str] = collections.Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.of[str(func.overloadpacket)] += 1
        return func(*args, **(kwargs or {}))


class Watch(L.Callback):
    """Counts the operations between the third step and the fifth, all that happens around them too."""

    def on_train_batch_end(self, trainer, *_) -> None:
        if trainer.global_step == 3:
            self.calls = Calls()
            self.calls.__enter__()
        elif trainer.global_step == 5:
            self.calls.__exit__(None, None, None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_reads_no_number(kind):
    settings, module, data = prepared(**KINDS[kind])
    watch = Watch()
    make_trainer(settings, data, callbacks=[watch]).fit(module, data)
    assert watch.calls.of["aten.add"] > 0
    assert watch.calls.of["aten._local_scalar_dense"] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_in_bfloat16_goes_the_same_way(kind):
    _, module, data = prepared(**KINDS[kind])
    with torch.no_grad():
        for p in module.parameters():  # a specimen that turns, poses that differ
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    data.move(torch.device("cpu"))
    batch = data.batch([3, 9]) if data.images is None else data.batch_of_images([1, 5, 8])
    found = []
    for mixed in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed), torch.no_grad():
            rows, shift = module.posed(batch.z, batch.rows)
            layers = module.network.layers(module.features(batch.z, batch.rows), rows.tau)
            found.append((module.microscope.project_sum(layers, rows.angles, shift=shift), added(layers)))
            module.loss_of(batch, batch.rows)
    for exact, mixed in zip(*found, strict=True):
        assert mixed.dtype == torch.float32
        assert (mixed - exact).norm() < 0.02 * exact.norm()  # what bfloat16 makes of the decoder


@pytest.mark.parametrize("kind", MOTIONS)
def test_places_and_motion_are_not_rounded_under_autocast(kind):
    motion, tau = MOTIONS[kind](128.0), torch.linspace(0, 1, 5)
    with torch.no_grad():
        motion.turn.normal_(generator=torch.Generator().manual_seed(0)).mul_(0.1)
        motion.travel.copy_(motion.turn)
    exact = motion(tau)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = motion(tau)
    assert all(torch.equal(a, b) for a, b in zip(exact, mixed, strict=True))


@pytest.mark.parametrize("size", [0.0, 1e-4, 0.0099, 0.0101, 0.5, 3.0])
def test_rotations_are_exponentials_and_so_are_their_gradients(size, generator):
    axis = torch.nn.functional.normalize(torch.randn(4, 3, generator=generator, dtype=torch.float64), dim=1)
    turn = (size * axis).requires_grad_()
    x, y, z = turn.unbind(-1)
    o = torch.zeros_like(x)
    exact = torch.linalg.matrix_exp(torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).unflatten(-1, (3, 3)))
    torch.testing.assert_close(rotations(turn), exact, rtol=0, atol=1e-9)
    weights = torch.randn(4, 3, 3, generator=generator, dtype=torch.float64)
    found, wanted = (
        torch.autograd.grad((r * weights).sum(), turn, retain_graph=True)[0] for r in (rotations(turn), exact)
    )
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_the_network_stays_where_it_was_fitted(monkeypatch):
    """Lightning takes it to the CPU; what follows, callbacks too, find it back in place."""
    seen: list[str] = []
    moved = DIP4D.to
    monkeypatch.setattr(DIP4D, "cpu", lambda self: seen.append("taken away"))
    monkeypatch.setattr(DIP4D, "to", lambda self, *a, **k: (seen.append(f"to {a[0]}"), moved(self, *a, **k))[1])

    class Draws(L.Callback):
        def on_fit_end(self, *_) -> None:
            seen.append("drawn")

    settings, _, data = prepared()
    done = fit(data.series, data.split, settings=settings, callbacks=[Draws()])
    assert isinstance(done, Fit)
    assert seen[seen.index("taken away") :] == ["taken away", "to cpu", "drawn"]
    assert fit_module.StaysOnDevice in map(type, done.trainer.callbacks)
