"""Streams: disjoint where they should be, seeded, the same whatever was asked before."""

from itertools import pairwise

import pytest
import torch

from torch_experiments.lab import streams
from torch_experiments.lab.images.pixels import load
from torch_experiments.support.generators import generator

DATA = load("digits")
EVERY = {
    "class_split": {"tasks": 5, "size": 2},
    "class_incremental": {"tasks": 5, "size": 2},
    "permuted": {"tasks": 3},
    "random_labels": {"tasks": 3, "images": 100},
    "label_noise": {"tasks": 3, "share": 0.4},
    "warm_start": {"tasks": 2},
    "blurred_start": {"tasks": 2, "factor": 2},
}


def make(name, seed=0, **settings):
    return streams.make(name, DATA, seed=seed, **EVERY[name] | settings)


def same(a, b):
    shown = DATA.train_x[:3]
    pairs = [(getattr(a, f), getattr(b, f)) for f in ("train", "train_y", "test", "test_y", "active")]
    pairs.append((a.transform(shown), b.transform(shown)))
    return all(x.shape == y.shape and torch.equal(x, y) for x, y in pairs)


def test_every_stream_is_tried():
    assert set(EVERY) == set(streams.STREAMS)


@pytest.mark.parametrize("name", EVERY)
def test_a_task_is_lawful(name):
    stream = make(name)
    for k in range(stream.tasks):
        task = stream.task(k)
        assert len(task.train) == len(task.train_y) > 0
        assert len(task.test) == len(task.test_y) > 0
        assert task.train.unique().shape == task.train.shape
        assert set(task.train_y.tolist()) <= set(task.active.tolist()) <= set(range(stream.outputs))
        assert task.active.tolist() == sorted(task.active.tolist())
        shown = task.transform(DATA.train_x[:5])
        assert shown.shape == (5, 1, 8, 8)
        assert shown.dtype == torch.uint8


@pytest.mark.parametrize("name", EVERY)
def test_tasks_depend_on_seed_and_place_alone(name):
    first, again = make(name), make(name)
    backwards = [again.task(k) for k in reversed(range(again.tasks))][::-1]
    assert all(same(first.task(k), backwards[k]) for k in range(first.tasks))
    differs = [not same(first.task(k), make(name, seed=1).task(k)) for k in range(first.tasks)]
    assert any(differs) == (name != "blurred_start")


@pytest.mark.parametrize("name", EVERY)
def test_a_task_past_the_end_is_named(name):
    stream = make(name)
    with pytest.raises(ValueError, match=rf"got task {stream.tasks}; allowed are 0 to {stream.tasks - 1}"):
        stream.task(stream.tasks)


def test_split_tasks_are_disjoint_and_cover_all_classes():
    stream = make("class_split")
    active = torch.cat([stream.task(k).active for k in range(5)])
    assert active.sort().values.tolist() == list(range(10))
    assert sum(len(stream.task(k).train) for k in range(5)) == len(DATA.train_y)


def test_pairs_are_drawn_anew_and_may_share_a_head():
    stream = make("class_split", tasks=30, disjoint=False, shared_head=True)
    assert stream.outputs == 2
    tasks = [stream.task(k) for k in range(30)]
    assert len({tuple(DATA.train_y[t.train].unique().tolist()) for t in tasks}) > 15
    for task in tasks[:3]:
        pairs = set(zip(DATA.train_y[task.train].tolist(), task.train_y.tolist(), strict=True))
        assert len(pairs) == 2


def test_classes_are_added():
    stream = make("class_incremental")
    seen = [set(stream.task(k).active.tolist()) for k in range(5)]
    assert [len(s) for s in seen] == [2, 4, 6, 8, 10]
    assert all(a < b for a, b in pairwise(seen))


def test_permuted_pixels_are_permuted_alike_in_all_images():
    stream, x = make("permuted"), DATA.train_x[:6]
    assert torch.equal(stream.task(0).transform(x), x)
    shown = stream.task(1).transform(x)
    assert not torch.equal(shown, x)
    assert torch.equal(shown.flatten(1).sort().values, x.flatten(1).sort().values)
    column = shown.flatten(1)[:, 17]
    assert any(torch.equal(column, x.flatten(1)[:, j]) for j in range(64))


def test_random_labels_change_and_images_stay():
    stream = make("random_labels")
    tasks = [stream.task(k) for k in range(3)]
    assert torch.equal(tasks[0].train, tasks[2].train)
    agreement = float((tasks[0].train_y == tasks[1].train_y).double().mean())
    assert agreement < 0.3


def test_label_noise_has_its_share_and_ends():
    stream = make("label_noise")
    noisy, clean = stream.task(0), stream.task(1)
    assert torch.equal(clean.train_y, DATA.train_y)
    assert torch.equal(noisy.test_y, DATA.test_y)
    changed = float((noisy.train_y != DATA.train_y).double().mean())
    assert changed == pytest.approx(0.4 * 0.9, abs=0.05)


def test_wrong_labels_stay_and_noisy_ones_are_drawn_when_they_are_shown():
    once, step = (make("label_noise", noisy=2, drawn=drawn) for drawn in ("once", "step"))
    assert torch.equal(once.task(0).train_y, once.task(1).train_y)
    assert not torch.equal(once.task(0).train_y, DATA.train_y)
    assert torch.equal(step.task(0).train_y, DATA.train_y)
    assert [step.task(k).noise for k in range(3)] == [0.4, 0.4, 0.0]


def test_labels_that_stay_are_those_of_the_first_task():
    moving, fixed = make("random_labels"), make("random_labels", moving=False)
    assert torch.equal(moving.task(0).train_y, fixed.task(0).train_y)
    assert torch.equal(fixed.task(2).train_y, fixed.task(0).train_y)
    assert not torch.equal(moving.task(2).train_y, fixed.task(2).train_y)


def test_data_grow_and_what_was_seen_is_seen_again():
    stream = make("warm_start", tasks=4, share=0.25, growing=3)
    parts = [set(stream.task(k).train.tolist()) for k in range(4)]
    assert [len(part) for part in parts] == [359, 718, 1078, 1437]
    assert all(small < large for small, large in pairwise(parts))


def test_wrong_labels_are_never_right():
    first, last = (make("warm_start", wrong=True).task(k) for k in (0, 1))
    right = DATA.train_y[first.train]
    assert not (first.train_y == right).any()
    assert len(set(((first.train_y - right) % 10).tolist())) == 9
    assert torch.equal(last.train_y, DATA.train_y)


def test_a_warm_start_is_a_part_of_the_whole():
    stream = make("warm_start", share=0.25)
    part, whole = stream.task(0), stream.task(1)
    assert len(part.train) == round(0.25 * len(whole.train))
    assert torch.equal(whole.train_y[part.train], part.train_y)


def test_blur_takes_means_over_squares():
    x = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    x[0, 0, :2, :2] = 200
    shown = streams.Blur(2)(x)
    assert int(shown[0, 0, 0, 0]) == 200
    assert 0 < int(shown[0, 0, 1, 2]) < 200
    assert torch.equal(streams.Blur(2)(torch.full_like(x, 7)), torch.full_like(x, 7))


def test_generators_of_neighbouring_places_are_unrelated():
    places = [(0,), (0, 0), (1,), (0, 1), (1, 0)]
    drawn = [torch.randn(5000, generator=generator(*p)) for p in places]
    correlation = torch.corrcoef(torch.stack(drawn)).fill_diagonal_(0)
    assert float(correlation.abs().max()) < 0.06


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("class_split", {"tasks": 6}, r"tasks: got 6 tasks of 2 classes; the data have 10 classes"),
        ("class_incremental", {"size": 3}, r"tasks: got 5 tasks of 3 classes"),
        ("label_noise", {"share": 1.5}, r"share: got 1.5; it has to be in \[0, 1\]"),
        ("label_noise", {"drawn": "x"}, r"drawn: got 'x'; allowed are 'task', 'once', 'step'"),
        ("warm_start", {"growing": 0}, r"growing: got 0; it has to be at least 1"),
        ("permuted", {"size": 3}, r"stream_settings: .*size.*'permuted'"),
    ],
)
def test_wrong_settings_are_named(name, settings, message):
    with pytest.raises(ValueError, match=message):
        make(name, **settings)


def test_an_unknown_stream_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"stream: got 'spilt'; allowed are 'class_split'"):
        streams.make("spilt", DATA, 2, 0)


@pytest.mark.parametrize(
    ("name", "settings"),
    [("random_labels", {"images": -5}), ("warm_start", {"share": 2.0}), ("blurred_start", {"factor": 0})],
)
def test_settings_out_of_range_are_refused(name, settings):
    ((setting, value),) = settings.items()
    with pytest.raises(ValueError, match=f"{setting}: got {value}; it has to be"):
        make(name, **settings)
