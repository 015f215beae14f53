"""A slice of the zoo: every tool answers, and a wrong answer would be noticed."""

import sys

import pytest
import torch
from torch import nn

from tests.zoo import judged, page, registry, timm_models
from tests.zoo.zoo import ZOO
from torch_experiments.cloning import clone

QUICK = ("perceptron", "convolutional network", "nn.MultiheadAttention", "GRU, two layers", "U-Net", "deep sets")
BY_NAME = {architecture.name: architecture for architecture in ZOO}


@pytest.mark.parametrize("name", QUICK)
def test_all_tools_answer(name):
    for tool, answer in judged.judged(BY_NAME[name]).items():
        assert answer.standing in ("works", "note"), f"{tool}: {answer}"


def test_a_tokenizers_batch_is_taken():
    pytest.importorskip("transformers", reason="the extra 'hf'")
    answers = judged.judged(BY_NAME["GPT2LMHeadModel"])
    assert {answer.standing for answer in answers.values()} <= {"works", "note"}


def test_the_zoo_is_large_and_each_has_a_name_of_its_own():
    assert len(ZOO) >= 60
    assert len(BY_NAME) == len(ZOO)


def subject(model, x):
    """Return a network and a batch as the tools are given them."""
    return judged.Subject(registry.Architecture("mine", "test", "torch", model, x))


def small():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))


def vectors():
    return torch.randn(16, 4)


def test_a_network_that_is_said_to_have_copies_is_noticed():
    with pytest.raises(judged.Wrong, match="said to have copies"):
        judged.certified(subject(lambda: clone(small()), vectors))


def test_a_copy_that_is_not_found_is_noticed(monkeypatch):
    monkeypatch.setattr(judged, "plant_copy", lambda *_: None)
    with pytest.raises(judged.Wrong, match="not found"):
        judged.certified(subject(small, vectors))


def test_a_clone_of_another_function_is_noticed(monkeypatch):
    def other(model, *args, **kwargs):
        wide = clone(model, *args, **kwargs)
        wide[0].weight.data[0] += 1.0
        return wide

    monkeypatch.setattr(judged, "clone", other)
    with pytest.raises(judged.Wrong, match="on another batch"):
        judged.cloned(subject(small, vectors))


def test_copies_that_part_are_noticed(monkeypatch):
    def apart(model, *_):
        model[0].weight.data[0] += 1.0

    monkeypatch.setattr(judged, "train", apart)
    with pytest.raises(judged.Wrong, match="were to be kept"):
        judged.cloned(subject(small, vectors))


def test_dead_units_that_are_not_found_are_noticed(monkeypatch):
    monkeypatch.setattr(judged, "plant_dead", lambda *_: True)
    for tool in (judged.certified, judged.diagnosed, judged.remedied):
        with pytest.raises(judged.Wrong, match="dead units"):
            tool(subject(small, vectors))


class Odd(nn.Module):
    """It raises an error of torch, not of the library."""

    def forward(self, x):
        return x.view(-1, 7)


def test_an_error_of_the_library_is_told_from_others():
    assert judged.answered(lambda: judged.certified(subject(Odd, vectors))).standing == "raised"

    def refused():
        return judged.certified(subject(small, lambda: torch.randn(4)))

    answer = judged.answered(refused)
    assert (answer.standing, answer.said[:20]) == ("refusal", "TraceError: inputs: ")


def test_the_page_counts_and_quotes():
    architecture = BY_NAME["perceptron"]
    rows = dict.fromkeys(judged.TOOLS, judged.Answer("works")) | {
        "clone": judged.Answer("refusal", "layer 'a': why")
    }
    text = page.page({architecture: rows})
    assert "**3 work** (75.0%)" in text
    assert "- perceptron (clone): *refused by name*: layer 'a': why" in text


def test_stand_ins_go_away_again():
    if timm_models.find_spec("torchvision"):
        pytest.skip("torchvision is installed")
    with timm_models.stood_in():
        from torchvision.ops.misc import FrozenBatchNorm2d

        assert issubclass(FrozenBatchNorm2d, nn.Module)
    assert "torchvision" not in sys.modules
