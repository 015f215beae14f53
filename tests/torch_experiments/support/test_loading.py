"""Networks from outside: tied and wrapped names of a checkpoint, nested ones, and states of other optimizers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from torch_experiments.lab.models import mlp
from torch_experiments.support import loading


def base() -> nn.Sequential:
    """Return a small network."""
    return mlp(6, 3, width=4, depth=2)


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
