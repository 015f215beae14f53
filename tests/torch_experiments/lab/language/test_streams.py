"""Streams of text: their laws, and that each task is a function of its number and the seed."""

from itertools import pairwise

import pytest
import torch

from torch_experiments.lab.language import load, streams

TEXT = load("sample")


@pytest.mark.parametrize("name", streams.STREAMS)
def test_a_task_depends_on_seed_and_number_alone(name):
    one, again, other = (streams.make(name, TEXT, seed) for seed in (1, 1, 2))
    for k in (3, 0, 5):
        assert torch.equal(one.task(k).written, again.task(k).written)
        assert one.task(k).name == again.task(k).name
    assert torch.equal(one.task(0).read, torch.arange(len(TEXT.alphabet)))
    alike = torch.equal(one.task(3).written, other.task(3).written) and one.task(3).name == other.task(3).name
    assert not alike


def test_an_alphabet_renames_what_is_read_and_written_alike():
    task = streams.make("alphabet", TEXT, 0).task(2)
    assert torch.equal(task.read, task.written)
    assert torch.equal(task.read.sort().values, torch.arange(len(TEXT.alphabet)))
    assert not torch.equal(task.read, torch.arange(len(TEXT.alphabet)))


def test_pairs_change_places_one_task_after_the_other():
    stream = streams.make("alphabet", TEXT, 0, pairs=3)
    letters = [stream.task(k).read for k in range(5)]
    for before, after in pairwise(letters):
        assert int((before != after).sum()) == 6
        assert torch.equal(after.sort().values, torch.arange(len(TEXT.alphabet)))
    assert int((letters[0] != letters[4]).sum()) > 12


def test_labels_leave_what_is_read_as_it_is():
    tasks = [streams.make("labels", TEXT, 0).task(k) for k in (1, 2)]
    assert all(torch.equal(task.read, torch.arange(len(TEXT.alphabet))) for task in tasks)
    assert not torch.equal(tasks[0].written, tasks[1].written)


def test_domains_come_in_turn_and_come_back():
    stream = streams.make("domains", TEXT, 0)
    names = [stream.task(k).name for k in range(8)]
    assert sorted(names[:4]) == [domain.name for domain in TEXT.domains]
    assert names[4:] == names[:4]
    by_name = {domain.name: domain for domain in TEXT.domains}
    assert torch.equal(stream.task(1).train, by_name[names[1]].train)
