"""Networks from outside: tied and wrapped names of a checkpoint, nested ones, and states of other optimizers."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.flips import flipped
from torch_experiments.lab.models import mlp
from torch_experiments.support import loading


def base() -> nn.Sequential:
    """Return a small network."""
    return mlp(6, 3, width=4, depth=2)


WEIGHT = next(iter(base().state_dict()))


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


@pytest.mark.parametrize(
    "content", [b"hello world", b"", b"PK", b"PK\x03\x04 cut short", b"\x80\x02abc", b"e" * 200]
)
@pytest.mark.parametrize("suffix", [".txt", ".pt", ".safetensors", ""])
def test_what_is_no_checkpoint_is_named(tmp_path: Path, content: bytes, suffix: str) -> None:
    file = tmp_path / f"x{suffix}"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=f"{file} is damaged or no (checkpoint|safetensors file)"):
        loading.read_checkpoint(file)


@pytest.mark.parametrize("checked", [True, False])
def test_a_flipped_bit_of_weights_is_refused_where_the_archive_has_sums(tmp_path: Path, checked: bool) -> None:
    file, weights = tmp_path / "x.pt", {"w": torch.randn(500)}
    torch.serialization.set_crc32_options(checked)
    try:
        torch.save(weights, file)
    finally:
        torch.serialization.set_crc32_options(True)
    changed = 0
    for _ in flipped(file, 100):
        with contextlib.suppress(ValueError):
            changed += not torch.equal(loading.read_checkpoint(file).get("w", weights["w"]), weights["w"])
    assert (changed == 0) == checked
    assert torch.equal(loading.read_checkpoint(file)["w"], weights["w"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({1: torch.ones(1)}, r"unknown to the model: 1"),
        ({WEIGHT: 3}, rf"of another shape: {WEIGHT}: int in the file, \(4, 6\) in the model"),
        ({WEIGHT: torch.ones(4, 6).to_sparse()}, r"\(4, 6\) torch\.sparse_coo in the file"),
        ({WEIGHT: torch.ones(4, 6, dtype=torch.complex64)}, r"\(4, 6\) complex in the file"),
    ],
)
def test_what_are_no_weights_is_named(tmp_path: Path, change: dict[object, object], said: str) -> None:
    torch.save({**base().state_dict(), **change}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=said):
        loading.load_weights(base(), tmp_path / "x.pt")


@pytest.mark.parametrize(
    "state", [{"param_groups": 3}, {"param_groups": [1]}, {"state": {}, "param_groups": []}, {}]
)
def test_what_is_no_state_of_an_optimizer_is_named(tmp_path: Path, state: object) -> None:
    torch.save({"model": base().state_dict(), "optimizer": state}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"optimizer: its state in .*x\.pt"):
        loading.make_optimizer(base(), "adam", {}, tmp_path / "x.pt")


def test_what_is_no_array_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones(3))
    for content in ((tmp_path / "x.npz").read_bytes(), b"PK\x03\x04 cut short", b"text"):
        (tmp_path / "x.npy").write_bytes(content)
        with pytest.raises(ValueError, match=r"x\.npy is damaged, or no array of numbers"):
            loading.read_batch(tmp_path / "x.npy", base())
