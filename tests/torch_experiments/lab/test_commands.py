"""`lop certify`, `diagnose` and `clone`: a network from its factory, weights as tensors alone, plain messages."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import lop
from torch_experiments import clone
from torch_experiments.lab.models import mlp
from torch_experiments.support import loading

MLP = "torch_experiments.lab.models:mlp"
SETTINGS = '{"inputs": 6, "classes": 3, "width": 4, "depth": 2}'


def base() -> nn.Sequential:
    """Return the network of `SETTINGS`."""
    return mlp(6, 3, width=4, depth=2)


def said(capsys: pytest.CaptureFixture[str], act: Any) -> str:
    """Return the one line with which a command ends, and check its exit code."""
    with pytest.raises(SystemExit) as stopped:
        act()
    assert stopped.value.code == 2
    printed = capsys.readouterr().err.strip()
    assert len(printed.splitlines()) == 1
    return printed


class Evil:
    """An object whose unpickling writes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


def test_a_clone_is_written_and_certified_with_the_state_of_its_optimizer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, wide = tmp_path / "base.safetensors", tmp_path / "wide.safetensors"
    save_file(base().state_dict(), weights)
    lop.clone(MLP, wide, "6", factor=2, checkpoint=weights, settings=SETTINGS)
    assert "linear1.weight: (4, 6) -> (8, 6)" in capsys.readouterr().out
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
    lop.certify(
        MLP,
        checkpoint=tmp_path / "run.pt",
        settings=wider,
        optimizer="adam",
        batch=tmp_path / "batch.safetensors",
        as_json=True,
    )
    found = json.loads(capsys.readouterr().out)
    assert found["parameters"] > found["dimension"]
    assert found["optimizer"]["clones"] == "left"
    assert found["stability"]["kind"] == "saddle"
    lop.certify(MLP, "6", checkpoint=wide, settings=wider, optimizer="adam", html=tmp_path / "page.html")
    assert "exact copies" in capsys.readouterr().out
    assert "exact copies" in (tmp_path / "page.html").read_text()


def test_a_file_that_runs_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    traps = {"evil.pt": tmp_path / "ran", "evil.bin": tmp_path / "ran"}
    torch.save({"model": Evil(tmp_path / "ran")}, tmp_path / "evil.pt")
    (tmp_path / "evil.bin").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    torch.save(base(), tmp_path / "whole.pt")
    for name in (*traps, "whole.pt"):
        file = tmp_path / name
        found = said(capsys, lambda: lop.certify(MLP, "6", checkpoint=file, settings=SETTINGS))  # noqa: B023
        assert "holds Python objects" in found
        assert "refused" in found
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_that_does_not_fit_is_named_key_by_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = clone(base(), 2).state_dict() | {"extra": torch.zeros(1)}
    del state["head.bias"]
    save_file(state, tmp_path / "x.safetensors")
    found = said(capsys, lambda: lop.certify(MLP, "6", checkpoint=tmp_path / "x.safetensors", settings=SETTINGS))
    for words in ("missing in the file: head.bias", "unknown to the model: extra", "(8, 6) in the file, (4, 6)"):
        assert words in found


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"model": "nowhere"}, "write module:function"),
        ({"model": "no.such:make"}, "cannot import 'no.such'"),
        ({"model": "torch_experiments.lab.models:mpl"}, "has no 'mpl'"),
        ({"model": "torch_experiments.lab.models:ACTIVATIONS"}, "is a dict"),
        ({"settings": "{}"}, "missing a required argument: 'inputs'"),
        ({"settings": "width=3"}, "is no JSON"),
        ({"input_": ""}, "--input 3,64,64, or --batch FILE"),
        ({"input_": "3x4"}, "with commas"),
        ({"input_": "5"}, "cannot run on inputs of shape (64, 5)"),
        ({"tokens": 3}, "--tokens N for integers"),
        ({"input_": "0"}, "every size has to be 1 or more"),
        ({"optimizer": "adamm"}, "allowed are 'asgd'"),
        ({"optimizer": "adam", "optimizer_settings": '{"rate": 1}'}, "optimizer: "),
        ({"checkpoint": Path("none.pt")}, "there is no file none.pt"),
        ({"batch": Path("lop.py")}, "it has to be .safetensors"),
        ({"html": Path("nowhere/x.html")}, "there is no folder nowhere"),
        ({"box": (1.0, 0.0)}, "box: got 1.0 to 0.0; the lower bound comes first"),
    ],
)
def test_bad_input_ends_with_one_line(
    arguments: dict[str, Any], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"model": MLP, "input_": "6", "settings": SETTINGS} | arguments
    assert words in said(capsys, lambda: lop.certify(**given))


def test_damaged_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("x.safetensors", "x.pt"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 not a checkpoint")
        file = tmp_path / name
        assert "damaged" in said(capsys, lambda: lop.certify(MLP, "6", checkpoint=file, settings=SETTINGS))  # noqa: B023


def test_the_clone_refuses_other_names_and_leaves_no_half_written_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "has to end in .safetensors" in said(
        capsys, lambda: lop.clone(MLP, tmp_path / "x.pt", "6", settings=SETTINGS)
    )
    assert "factor" in said(capsys, lambda: lop.clone(MLP, tmp_path / "x.safetensors", "6", 1, settings=SETTINGS))
    assert list(tmp_path.iterdir()) == []


def tied(shared: bool = True) -> nn.Sequential:
    """Return two maps that share their weights, or only look alike."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    if shared:
        model[1].weight = model[0].weight
    return model


def test_a_file_that_holds_a_tied_tensor_under_one_of_its_names_holds_it_under_all(tmp_path: Path) -> None:
    state = {name: torch.randn_like(t) for name, t in tied().state_dict().items() if name != "1.weight"}
    save_file(state, tmp_path / "x.safetensors")
    model = tied()
    loading.load_weights(model, tmp_path / "x.safetensors")
    assert torch.equal(model[1].weight, state["0.weight"])
    with pytest.raises(ValueError, match=r"missing in the file: 1\.weight"):
        loading.load_weights(tied(shared=False), tmp_path / "x.safetensors")


def test_wrappers_leave_names_as_they_were_and_unknown_nesting_is_explained(tmp_path: Path) -> None:
    for prefix in ("module.", "_orig_mod."):
        state = {f"{prefix}{name}": torch.ones_like(t) for name, t in base().state_dict().items()}
        save_file(state, tmp_path / "x.safetensors")
        model = base()
        loading.load_weights(model, tmp_path / "x.safetensors")
        assert all(bool((p == 1).all()) for p in model.parameters())
    torch.save({"net": base().state_dict()}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match="looked for at the top, or under state_dict"):
        loading.load_weights(base(), tmp_path / "x.pt")


def test_the_state_of_another_optimizer_is_refused(tmp_path: Path) -> None:
    model = base()
    adam = torch.optim.Adam(model.parameters(), 0.5)
    torch.save({"model": model.state_dict(), "optimizer": adam.state_dict()}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match="of another kind than sgd: it has the settings betas"):
        loading.make_optimizer(model, "sgd", {}, tmp_path / "x.pt")
    assert loading.make_optimizer(model, "adam", {}, tmp_path / "x.pt").param_groups[0]["lr"] == 0.5


def test_a_batch_under_other_names_is_refused_with_the_line_that_writes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file({"x": torch.randn(20, 6)}, tmp_path / "b.safetensors")
    found = said(capsys, lambda: lop.certify(MLP, settings=SETTINGS, batch=tmp_path / "b.safetensors"))
    assert "holds x;" in found
    assert 'save_file({"inputs": x, "targets": y}, file)' in found


def test_diagnose_prints_its_metrics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lop.diagnose(MLP, "6", settings=SETTINGS)
    assert "random inputs" in capsys.readouterr().out
    save_file({"inputs": torch.randn(20, 6), "targets": torch.arange(20) % 3}, tmp_path / "b.safetensors")
    lop.diagnose(MLP, settings=SETTINGS, batch=tmp_path / "b.safetensors", as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert 0 <= found["act1"]["dead_fraction"] <= 1
    assert found[""]["gradient_norm"] > 0


def test_the_command_line_finds_a_module_in_the_present_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from torch import nn\ndef make():\n    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))\n"
    )
    command = [sys.executable, str(Path(lop.__file__)), "certify", "mine:make", "--input", "3", "--box", "0", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "certificate of Sequential" in done.stdout
