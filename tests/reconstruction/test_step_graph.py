"""A step that is recorded computes what a step computes; where that fails the fit goes on, and says so once."""

from __future__ import annotations

import pytest
import torch

from dip4d.config.load import config_of
from dip4d.reconstruction.fit import prepare
from dip4d.reconstruction.networks.free_form import MOTIONS
from dip4d.reconstruction.split import choose_split
from dip4d.reconstruction.step_graph import StepGraph, _tensors
from dip4d.simulation.simulate import simulate

KEYS = {"network.channels": 8, "network.rank": 3, "train.slices": 4, "train.steps": 4}
MOVING = [{"motion": kind} for kind in MOTIONS]


def prepared(motion: str | None = None, **keys):
    """A module and two batches of rows, of a specimen at rest or of one that moves."""
    series, _ = simulate("nanostar", 16, frames=10, scheme="grs", peak_counts=500, seed=0)
    torch.manual_seed(0)
    split = choose_split(series, 0.1)
    start = None if motion is None else MOTIONS[motion](8.0)
    module, data = prepare(series, split, settings=config_of(**KEYS, **keys), motion=start)
    batches = list(data.train_dataloader())[:2]
    assert len(batches) == 2
    return module, batches


def recorded(step, tensors, **_):
    """As torch.cuda.make_graphed_callables: each call copies into tensors of its own, which are all that is read."""

    def replay(*own):
        for to, value in zip(tensors, own, strict=True):
            to.copy_(value)
        return step(*tensors)

    return replay


@pytest.mark.parametrize("keys", [{}, *MOVING, {"align.refine": True}, {"train.rows": 3}], ids=str)
def test_a_recorded_step_has_the_same_loss_and_gradients(keys, monkeypatch):
    from dip4d.reconstruction.data import drawn

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", recorded)
    module, batches = prepared(**keys)
    graph = StepGraph(module)
    for step, batch in enumerate([*batches, batches[0]]):
        rows = batch.rows if module.rows is None else drawn(batch.rows, module.rows, step=step)
        found = []
        for loss in (module.loss_of, graph):
            module.zero_grad()
            value = loss(batch, rows)
            value.backward()
            found.append([value.detach(), *(p.grad for p in module.parameters() if p.grad is not None)])
        assert graph._graph is not None
        assert len(found[0]) == len(found[1]) > 10
        assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_what_all_positions_share_is_copied_once():
    _, (batch, _) = prepared(motion="rigid")
    assert batch.rows.tau.stride(0) == 0
    assert [len(t) for t in _tensors(batch, batch.rows)].count(1) == 2  # t and tau


@pytest.mark.parametrize("fault", ["refused", "wrong"])
def test_a_step_that_cannot_be_recorded_is_launched_as_before(fault, monkeypatch, logged):
    def refuse(*_, **__):
        raise RuntimeError("operation not permitted when stream is capturing\nmore of it")

    wrong = lambda step, tensors, **_: lambda *own: 1.5 * step(*own)
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", refuse if fault == "refused" else wrong)
    module, batches = prepared()
    graph = StepGraph(module)
    graph(batches[0], batches[0].rows)
    for _ in range(2):
        assert torch.equal(graph(batches[1], batches[1].rows), module.loss_of(batches[1], batches[1].rows))
    (line,) = (r.getMessage() for r in logged)
    assert "CUDA graph" in line
    assert ("capturing" if fault == "refused" else "should be") in line


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("keys", [{}, *MOVING, {"align.refine": True}], ids=str)
def test_a_step_is_recorded_on_a_gpu(keys):
    module, batches = prepared(**keys)
    module = module.to("cuda")
    graph = StepGraph(module)
    for batch in [b.to(torch.device("cuda")) for b in (*batches, *batches)]:
        torch.testing.assert_close(graph(batch, batch.rows), module.loss_of(batch, batch.rows), rtol=1e-4, atol=0)
    assert graph._graph is not None
