"""A certificate is printed, and goes to JSON, HTML and notebooks."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from tests.torch_experiments.certificates.clones import steps
from tests.torch_experiments.cloning.test_modulewise import network, randn
from torch_experiments import certify, clone
from torch_experiments.lab.models import mlp


def test_it_prints_and_goes_to_json_and_html() -> None:
    x = randn(12, 5)
    wide = clone(mlp(5, 3, width=4, depth=2, dtype=torch.float64), 2, example_inputs=x)
    found = certify(wide, x, torch.optim.SGD(wide.parameters(), 0.1), targets=torch.arange(12) % 3)
    assert json.loads(json.dumps(found.to_dict()))["dimension"] == found.dimension
    said = " ".join(str(found).replace("│", " ").split())
    for words in (
        "exact copies",
        "4 sets of 2, identical",
        " 8 copies exact copies",
        "under SGD",
        "stability: saddle",
    ):
        assert words in said
    assert "exact copies" in found.to_html()


def test_the_print_says_what_traps_and_which_weights_move() -> None:
    model, x = network(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), randn(20, 4)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    steps(model, optimizer, x, torch.arange(20) % 3, 2)
    model[0].bias.data.fill_(9)  # all others live
    for k in (2, 5):
        model[0].weight.data[k], model[0].bias.data[k] = 0, -1 - k
    said = str(certify(model, x, optimizer))
    for words in ("because of 2 frozen units", "0.weight: Adam: 8 frozen weights have momentum left"):
        assert words in said
    free = str(certify(network(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)), x))
    assert "nothing traps this network" in free
    assert "because of" not in free


def test_dropout_is_said_to_part_copies() -> None:
    x = randn(12, 5)
    base = network(nn.Linear(5, 4), nn.Tanh(), nn.Dropout(0.25), nn.Linear(4, 3))
    wide = clone(base, 2, example_inputs=x).train()
    found = certify(wide, x, torch.optim.SGD(wide.parameters(), 0.1), parts=("optimizer",))
    assert found.optimizer is not None
    assert found.optimizer.clones == "left"
    said = " ".join(str(found).replace("│", " ").split())
    assert "Dropout is on, with p = 0.25, and draws another mask for every copy" in said


def test_entries_without_gradient_are_said_once() -> None:
    model, x = network(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)), randn(20, 4)
    x[:, 1] = 0.0  # a constant input
    found = certify(model, x)
    assert any(note.startswith("no gradient: 0.weight: 6 of 24 entries: ") for note in found.notes)
    said = str(found)
    assert said.count("6 of 24") == 1
    assert "note: no gradient" not in said


def test_a_certificate_is_text_and_html_in_a_notebook_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """There rich would show what is printed and leave the file empty."""
    found = certify(network(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), randn(9, 4), parts=())
    outside = str(found), found.to_html()
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert (str(found), found.to_html()) == outside
    assert "certificate of Sequential" in str(found)


def test_names_that_hold_markup_are_text_in_the_page() -> None:
    name = "</script><b onclick='x'>"
    model = nn.Sequential()
    model.add_module(name, nn.Linear(4, 6))
    model.add_module("act", nn.ReLU())
    model.add_module("out", nn.Linear(6, 3))
    found = certify(model.double(), randn(9, 4), parts=())
    page = found.to_html()
    assert name in str(found.to_dict())
    assert name not in page
    assert page.count("</script>") == 2
    numbers = page.partition('id="certificate-data">')[2].partition("</script>")[0]
    assert json.loads(numbers) == json.loads(json.dumps(found.to_dict()))


def test_what_the_terminal_says_in_words_is_in_the_numbers() -> None:
    x = randn(12, 5)
    wide = clone(mlp(5, 3, width=4, depth=2, dtype=torch.float64), 2, example_inputs=x)
    found = certify(wide, x, torch.optim.SGD(wide.parameters(), 0.1), targets=torch.arange(12) % 3)
    said = " ".join(str(found).replace("│", " ").split())
    sentences = found.to_dict()["said"]
    assert set(sentences) == {"headline", "stability", "minibatches", "rounding"}
    assert all(sentence in said for sentence in sentences.values())
