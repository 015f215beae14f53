"""What the networks see: every image of a task once an epoch, changed by numbers that depend on the place alone."""

import dataclasses

import pytest
import torch

from tests.torch_experiments.lab.training.settings import DATA, MLP
from torch_experiments.lab.images import augment
from torch_experiments.lab.training.feed import Feed


def order_of(feed, epoch):
    """Return images and labels of an epoch of the first task for the only seed."""
    index, labels = feed.orders.of({0: feed.tasks[0]}, 0, epoch)
    return index[0], labels[0]


def test_batches_go_through_a_task_before_they_repeat():
    feed = Feed(dataclasses.replace(MLP, batch=50), [0], DATA)
    n = len(feed.tasks[0].train)
    index, labels = (torch.cat(parts) for parts in zip(*(order_of(feed, e) for e in range(2)), strict=True))
    assert sorted(index[:n].tolist()) == sorted(feed.tasks[0].train.tolist())
    assert torch.equal(feed.tasks[0].active[labels], DATA.train_y[index])
    shown = [feed.picked((0,), step) for step in range(2 * n // 50)]
    assert torch.equal(torch.cat([i[0] for i, _ in shown]), index[: 2 * n // 50 * 50])
    assert torch.equal(torch.cat([y[0] for _, y in shown]), labels[: 2 * n // 50 * 50])
    x, _ = feed.batch(1)
    assert x.shape == (1, 50, 1, 8, 8)


@pytest.mark.parametrize("batch", [7, 400])
def test_a_batch_may_span_epochs(batch):
    feed = Feed(dataclasses.replace(MLP, batch=batch, steps=200), [0], DATA)
    n = len(feed.tasks[0].train)
    endless = torch.cat([order_of(feed, e)[0] for e in range(batch // n + 60)])
    for step in (0, n // batch, 2 * n // batch + 1):
        assert torch.equal(feed.picked((0,), step)[0][0], endless[step * batch :][:batch])


def test_an_accelerator_changes_all_seeds_at_once_and_draws_ahead():
    config = dataclasses.replace(MLP, stream="permuted", stream_settings=(), remedy="none", remedy_settings=())
    feed, alone = (Feed(config, seeds, DATA) for seeds in ([1, 2], [2]))
    x, _ = feed.batch(3)
    levels = DATA.train_x[feed.picked((0, 1), 3)[0].flatten()]
    assert torch.equal(feed.changed(levels, feed.draws.at(3, feed.part)), x.flatten(0, 1))
    feed.draws.ahead = alone.draws.ahead = 4
    together = feed.draws.at(6, feed.part)
    for both, own in zip(together, alone.draws.at(6, feed.part), strict=True):
        assert torch.equal(both[..., 16:], own)
    assert not torch.equal(feed.draws.at(7, feed.part).factors, together.factors)
    assert torch.equal(feed.draws.at(6, feed.part).factors, together.factors)


def test_what_an_accelerator_does_to_images_compiles_without_a_break(monkeypatch):
    monkeypatch.setattr(augment, "crop_flip", augment.gathered)
    feed = Feed(MLP, [1], DATA)
    levels, draw = DATA.train_x[:16].clone(), feed.draws.at(0, feed.part)
    fused = torch.compile(feed.changed, backend="aot_eager", fullgraph=True)
    assert torch.equal(fused(levels, draw), feed.changed(levels, draw))


def test_a_task_without_images_is_named():
    kept = DATA.train_y != 3
    few = dataclasses.replace(DATA, train_x=DATA.train_x[kept], train_y=DATA.train_y[kept])
    feed = Feed(dataclasses.replace(MLP, stream_settings=(("size", 1),), tasks=10), [0], few)
    with pytest.raises(ValueError, match=r"stream: task \d of seed 0 \(3\) has no images of one of the splits"):
        list(map(feed.enter, range(10)))


def test_noisy_labels_are_new_whenever_an_image_is_shown():
    noise = {"stream": "label_noise", "stream_settings": (("share", 0.5), ("drawn", "step")), "tasks": 2}
    config = dataclasses.replace(MLP, **noise, batch=len(DATA.train_y), steps=2)
    noisy, alone = Feed(config, [0, 1], DATA), Feed(config, [1], DATA)
    shown = [noisy.batch(step)[1] for step in (0, 1)]
    truth = [noisy.picked((0, 1), step)[1] for step in (0, 1)]
    for labels, right in zip(shown, truth, strict=True):
        assert (labels != right).double().mean().item() == pytest.approx(0.45, abs=0.03)
    assert not torch.equal(shown[0] != truth[0], shown[1] != truth[1])
    assert torch.equal(shown[0][1], alone.batch(0)[1][0])
    noisy.enter(1)
    assert torch.equal(noisy.batch(2)[1], noisy.picked((0, 1), 2)[1])
