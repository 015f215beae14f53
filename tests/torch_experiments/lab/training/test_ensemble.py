"""Stacked seeds are separate seeds, and the order of tensors in memory changes no number."""

import dataclasses

import pytest
import torch

from tests.torch_experiments.lab.training.settings import CNN, DATA, MLP, RESNET, to_the_end, values
from torch_experiments.lab.training import Run, checkpoints, ensemble, keeping, run


@pytest.mark.parametrize("config", [CNN, RESNET])
@pytest.mark.parametrize("remedy", ["redo", "spectral", "parseval", "weight-clipping", "shrink-perturb"])
def test_the_order_of_tensors_of_a_gpu_changes_no_number(config, remedy, tmp_path, monkeypatch):
    config = dataclasses.replace(config, remedy=remedy, remedy_settings=())
    expected, rows = to_the_end(Run(config, [3], DATA))
    monkeypatch.setattr(ensemble, "fast_order", lambda model: torch.channels_last)
    found = Run(config, [3], DATA)
    images = [p for p in found.networks.ensemble.models[0].parameters() if p.ndim == 4]
    assert images
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in images)
    assert not all(p.is_contiguous() for p in images)
    while found.step < 18:
        found.advance()
    keeping.save(found, tmp_path)
    again = Run(config, [3], DATA)
    keeping.restore(again, checkpoints.latest(tmp_path, keeping.about(again)))
    for name, weights in to_the_end(again)[0].items():
        assert torch.allclose(weights, expected[name], rtol=1e-8, atol=1e-10), name
    measured = [[row["value"] for row in part[0]] for part in (again.rows, rows)]
    assert measured[0] == pytest.approx(measured[1], rel=1e-5, abs=1e-5)


def test_tensors_keep_their_order_on_a_cpu():
    assert all(p.is_contiguous() for p in Run(CNN, [3], DATA).networks.ensemble.models[0].parameters())


@pytest.mark.parametrize(
    "change",
    [
        {"remedy": "none", "remedy_settings": ()},
        {"remedy": "l2-init", "remedy_settings": (("strength", 0.1),)},
        {"remedy": "noise", "remedy_settings": ()},
        {"remedy": "shrink-perturb", "remedy_settings": ()},
        {"remedy": "fresh", "remedy_settings": (), "head": "fresh"},
        {"remedy": "optimizer-reset", "remedy_settings": (), "optimizer": "sgd", "lr": 0.05},
        {"remedy": "none", "remedy_settings": (), "norm": "layer", "protocol": "published"},
        {"remedy": "spectral", "remedy_settings": (("strength", 0.1),)},
        {"remedy": "parseval", "remedy_settings": (("strength", 0.1),)},
        {"remedy": "syre", "remedy_settings": (("strength", 0.1),)},
        {"remedy": "weight-clipping", "remedy_settings": (("kappa", 0.5),)},
        {"remedy": "escape", "remedy_settings": ()},
        {"remedy": "recovery", "remedy_settings": (("every", 5), ("dead", 0.01), ("rank", 0.1))},
    ],
)
def test_stacked_seeds_are_separate_seeds_to_rounding(change):
    config = dataclasses.replace(MLP, precision="float64", tasks=2, measure_every=20, **change)
    separate, together = (run(config, [5, 6], data=DATA, stack=stack) for stack in (False, True))
    for one, other in zip(separate, together, strict=True):
        assert one.table.drop(["value"]).equals(other.table.drop(["value"]))
        a, b = (torch.tensor(r.table["value"].to_pylist(), dtype=torch.float64) for r in (one, other))
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-6)
    ends = [values(record, "weight_norm")[1, 20] for record in together]
    assert ends == pytest.approx([values(record, "weight_norm")[1, 20] for record in separate], rel=1e-12)
    assert len(set(ends)) == 2


def test_a_remedy_that_watches_and_a_norm_with_state_are_not_stacked():
    with pytest.raises(ValueError, match=r"the remedy 'cbp' watches single networks"):
        Run(MLP, [0, 1], DATA)
    with pytest.raises(ValueError, match=r"norm1 is BatchNorm1d; a stack takes neither running statistics"):
        Run(dataclasses.replace(MLP, remedy="none", remedy_settings=(), norm="batch"), [0, 1], DATA)
