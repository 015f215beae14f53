"""`lop certify`, `diagnose` and `clone`: a network from its factory, weights as tensors alone, plain messages."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import lop
from torch_experiments import clone
from torch_experiments.lab.models import mlp
from torch_experiments.support import loading

MLP = "torch_experiments.lab.models:mlp"
SETTINGS = '{"inputs": 6, "classes": 3, "width": 4, "depth": 2}'
SMALL = (MLP, "--settings", SETTINGS, "--input", "6")


def base() -> nn.Sequential:
    """Return the network of `SETTINGS`."""
    return mlp(6, 3, width=4, depth=2)


@pytest.fixture
def printed(command: Any) -> Any:
    """Return what a command prints, checked to end well."""

    def act(*words: Any) -> str:
        code, out, err = command(*words)
        assert (code, err) == (0, "")
        return str(out)

    return act


@pytest.fixture
def said(command: Any) -> Any:
    """Return the one line with which a command ends, and check its exit code."""

    def act(*words: Any) -> str:
        code, _, err = command(*words)
        assert code == 2
        assert err.count("\n") == 1
        return str(err)

    return act


def as_words(options: dict[str, Any]) -> Iterator[Any]:
    """Yield options as the command line has them."""
    for name, value in options.items():
        yield f"--{name}"
        yield from value if isinstance(value, tuple) else [value]


class Evil:
    """An object whose unpickling writes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


def test_a_clone_is_written_and_certified_with_the_state_of_its_optimizer(tmp_path: Path, printed: Any) -> None:
    weights, wide = tmp_path / "base.safetensors", tmp_path / "wide.safetensors"
    save_file(base().state_dict(), weights)
    out = printed("clone", *SMALL, "--factor", 2, "--checkpoint", weights, "--out", wide)
    assert "linear1.weight: (4, 6) -> (8, 6)" in out
    wider = SETTINGS.replace("4", "8")
    model = mlp(6, 3, width=8, depth=2)
    loading.load_weights(model, wide)
    x, y = torch.randn(20, 6), torch.arange(20) % 3
    save_file({"inputs": x, "targets": y}, tmp_path / "batch.safetensors")
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
    optimizer.state[model.linear1.weight]["exp_avg"][0] += 1
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "run.pt")
    given = ("certify", MLP, "--settings", wider, "--optimizer", "adam")
    trained = ("--checkpoint", tmp_path / "run.pt", "--batch", tmp_path / "batch.safetensors")
    found = json.loads(printed(*given, *trained, "--json"))
    assert found["parameters"] > found["dimension"]
    assert found["optimizer"]["clones"] == "left"
    assert found["stability"]["kind"] == "saddle"
    out = printed(*given, "--input", "6", "--checkpoint", wide, "--html", tmp_path / "page.html")
    assert "exact copies" in out
    assert "exact copies" in (tmp_path / "page.html").read_text()


def test_a_file_that_runs_code_is_refused(tmp_path: Path, said: Any) -> None:
    traps = {"evil.pt": tmp_path / "ran", "evil.bin": tmp_path / "ran"}
    torch.save({"model": Evil(tmp_path / "ran")}, tmp_path / "evil.pt")
    (tmp_path / "evil.bin").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    torch.save(base(), tmp_path / "whole.pt")
    for name in (*traps, "whole.pt"):
        found = said("certify", *SMALL, "--checkpoint", tmp_path / name)
        assert "holds Python objects" in found
        assert "refused" in found
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_that_does_not_fit_is_named_key_by_key(tmp_path: Path, said: Any) -> None:
    state = clone(base(), 2).state_dict() | {"extra": torch.zeros(1)}
    del state["head.bias"]
    save_file(state, tmp_path / "x.safetensors")
    found = said("certify", *SMALL, "--checkpoint", tmp_path / "x.safetensors")
    for words in ("missing in the file: head.bias", "unknown to the model: extra", "(8, 6) in the file, (4, 6)"):
        assert words in found
    assert "Make the network in the sizes of the file, such as by --settings" in found


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"": "nowhere"}, "write module:function"),
        ({"": "no.such:make"}, "cannot import 'no.such'"),
        ({"": "torch_experiments.lab.models:mpl"}, "has no 'mpl'"),
        ({"": "torch_experiments.lab.models:ACTIVATIONS"}, "is a dict"),
        ({"settings": "{}"}, "missing a required argument: 'inputs'"),
        ({"settings": "width=3"}, "is no JSON"),
        ({"input": ""}, "--input 3,64,64, or --batch FILE"),
        ({"input": "3x4"}, "with commas"),
        ({"input": "5"}, "cannot run on inputs of shape (64, 5)"),
        ({"tokens": 3}, "--tokens N for integers"),
        ({"input": "0"}, "every size has to be 1 or more"),
        ({"optimizer": "adamm"}, "allowed are 'asgd'"),
        (
            {"optimizer": "adam", "optimizer-settings": '{"rate": 1}'},
            "its settings are lr, betas, eps, weight_decay",
        ),
        ({"optimizer": "sgd", "optimizer-settings": '{"lr": "x"}'}, 'sgd cannot be made with {"lr": "x"} ('),
        ({"optimizer": "sgd", "optimizer-settings": '{"lr": -1}'}, "its settings are lr, momentum"),
        ({"checkpoint": "none.pt"}, "there is no file none.pt"),
        ({"batch": "pyproject.toml"}, "it has to be .safetensors"),
        ({"html": "nowhere/x.html"}, "there is no folder nowhere"),
        ({"box": (1.0, 0.0)}, "box: got 1.0 to 0.0; the lower bound comes first"),
    ],
)
def test_bad_input_ends_with_one_line(options: dict[str, Any], words: str, said: Any) -> None:
    given = {"": MLP, "input": "6", "settings": SETTINGS} | options
    assert words in said("certify", given.pop(""), *as_words(given))


def test_damaged_files_are_named(tmp_path: Path, said: Any) -> None:
    for name in ("x.safetensors", "x.pt"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 not a checkpoint")
        assert "damaged" in said("certify", *SMALL, "--checkpoint", tmp_path / name)


def test_the_clone_puts_copies_in_the_order_that_is_asked_for(tmp_path: Path, printed: Any) -> None:
    for order, copies in (("interleaved", [0, 1]), ("tiled", [0, 4])):
        file = tmp_path / f"{order}.safetensors"
        assert "verified" in printed("clone", *SMALL, "--order", order, "--out", file)
        weight = load_file(file)["linear1.weight"]
        assert torch.equal(*weight[copies]), order
        assert not torch.equal(*weight[[0, 2]]), order


def test_the_clone_refuses_other_names_and_leaves_no_half_written_file(tmp_path: Path, said: Any) -> None:
    assert "has to end in .safetensors" in said("clone", *SMALL, "--out", tmp_path / "x.pt")
    assert "factor" in said("clone", *SMALL, "--out", tmp_path / "x.safetensors", "--factor", 1)
    assert list(tmp_path.iterdir()) == []


def test_a_batch_under_other_names_is_refused_with_the_line_that_writes_it(tmp_path: Path, said: Any) -> None:
    save_file({"x": torch.randn(20, 6)}, tmp_path / "b.safetensors")
    found = said("certify", MLP, "--settings", SETTINGS, "--batch", tmp_path / "b.safetensors")
    assert "holds x;" in found
    assert 'save_file({"inputs": x, "targets": y}, file)' in found


def test_diagnose_prints_its_metrics(tmp_path: Path, printed: Any) -> None:
    assert "random inputs" in printed("diagnose", *SMALL)
    save_file({"inputs": torch.randn(20, 6), "targets": torch.arange(20) % 3}, tmp_path / "b.safetensors")
    found = json.loads(
        printed("diagnose", MLP, "--settings", SETTINGS, "--batch", tmp_path / "b.safetensors", "--json")
    )
    assert 0 <= found["act1"]["dead_fraction"] <= 1
    assert found[""]["gradient_norm"] > 0


def test_the_command_line_finds_a_module_in_the_present_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from torch import nn\ndef make():\n    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))\n"
    )
    command = [sys.executable, "-m", "lop", "certify", "mine:make", "--input", "3", "--box", "0", "1"]
    paths = {**os.environ, "PYTHONPATH": str(Path(lop.__file__).parents[1])}
    done = subprocess.run(command, cwd=tmp_path, env=paths, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "certificate of Sequential" in done.stdout


def test_a_model_of_the_hub_is_certified_from_its_snapshot(printed: Any, said: Any, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 11, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 32}
    config = transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)
    with redirect_stderr(StringIO()):  # a bar
        transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "model")
    words = ("certify", "--hf", tmp_path / "model", "--samples", "3", "--input", "5")
    page = tmp_path / "certificate.md"
    shown = printed(*words, "--markdown", page)
    assert "certificate of GPT2LMHeadModel" in shown
    assert f"wrote {page}" in shown
    lines = page.read_text().splitlines()
    assert lines[0] == f"# Certificate of {tmp_path / 'model'}"
    assert lines[2].startswith("free: ")
    assert (lines[4], lines[-1]) == ("```text", "```")
    tokens = {"input_ids": torch.ones(2, 4).long(), "attention_mask": torch.ones(2, 4).long()}
    save_file(tokens, tmp_path / "b.safetensors")
    printed("diagnose", "--hf", tmp_path / "model", "--batch", tmp_path / "b.safetensors")
    assert "model: give one network, as module:function or by --hf ORG/NAME" in said("certify")
    assert "model: give one network" in said(*words, MLP)


@pytest.mark.parametrize("prefix", ["net.", "model.body.", "module.net."])
def test_the_network_inside_of_a_larger_module_is_read(printed: Any, tmp_path: Path, prefix: str) -> None:
    """As of a LightningModule, with a loss of its own beside the network."""
    state = {f"{prefix}{name}": tensor for name, tensor in base().state_dict().items()} | {
        "loss.weight": torch.ones(3)
    }
    torch.save({"state_dict": state, "pytorch-lightning_version": "2.6.6", "epoch": 1}, tmp_path / "last.ckpt")
    printed("certify", *SMALL, "--checkpoint", tmp_path / "last.ckpt")
    model = mlp(6, 3, width=4, depth=2)
    with torch.no_grad():
        model[1].weight.zero_()
    loading.load_weights(model, tmp_path / "last.ckpt")
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in base().state_dict().items())


def test_two_networks_in_one_module_are_not_chosen_between(said: Any, tmp_path: Path) -> None:
    own = base().state_dict()
    torch.save(
        {f"{part}.{name}": t for part in ("student", "teacher") for name, t in own.items()}, tmp_path / "two.pt"
    )
    assert "several times, under student., teacher." in said("certify", *SMALL, "--checkpoint", tmp_path / "two.pt")


def test_the_state_of_a_lightning_checkpoint_is_taken(said: Any, tmp_path: Path) -> None:
    model = base()
    rule = torch.optim.AdamW(model.parameters(), lr=0.25)
    model(torch.ones(2, 6)).sum().backward()
    rule.step()
    weights = {f"net.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"state_dict": weights, "optimizer_states": [rule.state_dict()]}, tmp_path / "one.ckpt")
    made = loading.make_optimizer(base(), "adamw", {}, tmp_path / "one.ckpt")
    assert made.param_groups[0]["lr"] == 0.25
    assert len(made.state) == len(list(model.parameters()))
    torch.save({"state_dict": weights, "optimizer_states": [rule.state_dict()] * 2}, tmp_path / "two.ckpt")
    words = ("certify", *SMALL, "--optimizer", "adamw", "--checkpoint", tmp_path / "two.ckpt")
    assert "holds the states of 2 optimizers" in said(*words)


class Actor(nn.Module):
    """A policy without a forward."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.mean = nn.Linear(6, 4), nn.Linear(4, 3)

    def act(self, x: torch.Tensor) -> torch.Tensor:
        """Return the mean action."""
        return self.mean(torch.relu(self.body(x)))


ACTOR = ("tests.lop.test_networks:Actor", "--input", "6")


def test_another_method_is_called(printed: Any, said: Any, tmp_path: Path) -> None:
    assert json.loads(printed("certify", *ACTOR, "--call", "act", "--json"))["parameters"] == 7 * 4 + 5 * 3
    assert "relu" in printed("diagnose", *ACTOR, "--call", "act")
    assert "verified" in printed("clone", *ACTOR, "--call", "act", "--out", tmp_path / "wide.safetensors")
    assert load_file(tmp_path / "wide.safetensors")["body.weight"].shape == (8, 6)
    assert "act" in said("certify", *ACTOR)
    assert "see" in said("certify", *ACTOR, "--call", "see")
