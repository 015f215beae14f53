"""What becomes of the moments of replaced units, for every optimizer of torch."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torch_experiments import remedies
from torch_experiments.remedies.moments import JointMemory, Moments, Trainers, forgotten
from torch_experiments.remedies.surgery import commit

OPTIMIZERS: dict[str, Any] = {
    "SGD": {"momentum": 0.9},
    "Adam": {"amsgrad": True},
    "AdamW": {},
    "Adamax": {},
    "NAdam": {},
    "RAdam": {},
    "RMSprop": {"momentum": 0.9, "centered": True},
    "Adagrad": {"initial_accumulator_value": 0.25},
    "Adadelta": {},
    "Adafactor": {},
    "Rprop": {},
    "ASGD": {},
    "LBFGS": {"max_iter": 2},
    "Muon": {},
}
NOT_HERE = {"SparseAdam"}  # takes sparse gradients only, as of embeddings, whose rows are no hidden units
X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def network(hidden: int = 4) -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Linear(3, hidden, bias=False), nn.Tanh(), nn.Linear(hidden, 2, bias=False)
    return nn.Sequential(*layers).double()


def step(model: nn.Module, optimizer: torch.optim.Optimizer, target: float = 0.0) -> None:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (model(X) - target).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)


def trained(name: str, steps: int = 3, hidden: int = 4) -> tuple[nn.Sequential, torch.optim.Optimizer]:
    model = network(hidden)
    optimizer = getattr(torch.optim, name)(model.parameters(), lr=0.01, **OPTIMIZERS[name])
    for _ in range(steps):
        step(model, optimizer, 1.0)
    return model, optimizer


def test_every_optimizer_of_torch_is_in_the_table() -> None:
    base = torch.optim.Optimizer
    kinds = {name for name, kind in vars(torch.optim).items() if isinstance(kind, type) and issubclass(kind, base)}
    assert kinds - {"Optimizer"} - NOT_HERE == set(OPTIMIZERS)


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "LBFGS"])
def test_all_state_of_a_replaced_unit_starts_anew_and_that_of_its_neighbours_is_kept(name: str) -> None:
    model, optimizer = trained(name)
    before = {id(p): copy.deepcopy(optimizer.state[p]) for p in model.parameters()}
    bound = remedies.ReDo().on(model, optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        remedies.replace(bound.network, {"0": torch.tensor([2])}, 0)
    others, seen = torch.tensor([0, 1, 3]), 0
    for p, dim in zip(model.parameters(), (0, 1), strict=True):
        for key, value in optimizer.state[p].items():
            if isinstance(value, Tensor) and value.ndim and value.shape[dim] == p.shape[dim]:
                seen += 1
                start = torch.full_like(value, {"step_size": 0.01, "sum": 0.25}.get(key, 0.0))
                assert torch.equal(value.select(dim, 2), (p if key == "ax" else start).select(dim, 2)), key
                old = before[id(p)][key].index_select(dim, others)
                assert torch.equal(value.index_select(dim, others), old), key
            elif isinstance(value, Tensor):
                assert torch.equal(value, before[id(p)][key]), key
    assert seen


def test_the_history_of_lbfgs_is_forgotten_as_a_whole_and_taken_back_as_one() -> None:
    model, optimizer = trained("LBFGS")
    bound = remedies.ReDo().on(model, optimizer)
    (state,) = optimizer.state.values()
    remedies.replace(bound.network, {"0": torch.tensor([2])}, 0)
    assert len(optimizer.state) == 0
    step(model, optimizer)
    kept = dict(optimizer.state)
    edits = list(bound.network.trainers.renewed(model[0].weight, 0, torch.tensor([2]), None, "zero"))
    with pytest.raises(AttributeError):
        commit([*edits, None])  # type: ignore[list-item]
    assert dict(optimizer.state) == kept
    assert state


class Packed(torch.optim.SGD):
    """An optimizer that keeps statistics of another shape."""

    def step(self, closure: Any = None) -> Any:
        """Step, and remember."""
        loss = super().step(closure)
        for p in self.param_groups[0]["params"]:
            self.state[p] |= {"packed": torch.ones(p.numel() + 1), "history": [torch.ones(2)]}
        return loss


def test_state_that_cannot_be_split_is_named_once() -> None:
    model = network()
    optimizer = Packed(model.parameters(), lr=0.01, momentum=0.9)
    step(model, optimizer)
    network_of = remedies.ReDo().on(model, optimizer).network
    with pytest.warns(UserWarning, match="Packed keeps 'packed', 'history', which do not have"):
        remedies.replace(network_of, {"0": torch.tensor([2])}, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        remedies.replace(network_of, {"0": torch.tensor([1])}, 0)
    assert not optimizer.state[model[0].weight]["momentum_buffer"][[1, 2]].any()


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("second", ["zero", "mean"])
def test_a_replaced_unit_moves_like_the_others(name: str, second: str) -> None:
    """Its out-weights, of which gradients come at once; other units start from where they are, hence a range."""
    model, optimizer = trained(name, steps=10, hidden=8)
    remedies.replace(remedies.ReDo().on(model, optimizer).network, {"0": torch.tensor([2])}, 0, second=second)
    before = model[2].weight.detach().clone()
    for _ in range(20):
        step(model, optimizer, -1.0)  # another task, so that all units have somewhere to go
    moved = (model[2].weight.detach() - before).abs().amax(dim=0)
    others = moved[[0, 1, 3, 4, 5, 6, 7]]
    assert others.min() / 10 < moved[2] < 10 * others.max()


def test_factors_become_their_mean_on_request() -> None:
    model, optimizer = trained("Adafactor")
    before = copy.deepcopy(optimizer.state[model[0].weight])
    remedies.replace(remedies.ReDo().on(model, optimizer).network, {"0": torch.tensor([2])}, 0, second="mean")
    after = optimizer.state[model[0].weight]
    assert after["row_var"][2].item() == pytest.approx(before["row_var"].mean().item(), rel=1e-14)
    assert torch.equal(after["col_var"], before["col_var"])


def test_a_parameter_of_two_optimizers_is_forgotten_by_both() -> None:
    model = network()
    adam, sgd = torch.optim.Adam(model.parameters()), torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    other = torch.optim.Adam(model.parameters())
    for optimizer in (adam, sgd, other):
        step(model, optimizer)
    bound = remedies.ReDo().on(model, [adam, sgd, other])
    names = {"exp_avg", "exp_avg_sq", "momentum_buffer", "exp_avg (3)", "exp_avg_sq (3)"}
    assert set(bound.network.moments(model[0].weight)) == names
    remedies.replace(bound.network, {"0": torch.tensor([2])}, 0)
    assert not any(moment[2].any() for moment in bound.network.moments(model[0].weight).values())


def test_what_an_optimizer_remembers_of_other_models_is_kept() -> None:
    model, other = network(), network()
    adam = torch.optim.Adam([*model.parameters(), *other.parameters()])
    for one in (model, other):
        step(one, adam)
    remedies.OptimizerReset().on(model, adam).task()
    assert set(adam.state) == set(other.parameters())


def test_memory_is_that_of_now() -> None:
    model, optimizer = trained("Adam")
    memory = JointMemory(Trainers(model, [optimizer]))
    key = (id(optimizer), model[0].weight)
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert memory[key] is optimizer.state[model[0].weight]
    kept = dict(memory)
    memory.clear()
    assert (len(memory), len(optimizer.state)) == (0, 0)
    memory.update(kept)
    assert len(optimizer.state) == 2


@pytest.mark.parametrize("name", ["Adam", "Adamax", "RMSprop", "Adagrad"])
def test_second_moments_become_the_mean_of_their_tensor_on_request(name: str) -> None:
    squares = {"Adam": ("exp_avg_sq", "max_exp_avg_sq"), "Adamax": ("exp_inf",)}.get(name, ("square_avg", "sum"))
    model, optimizer = trained(name)
    weight = model[0].weight
    before = copy.deepcopy(optimizer.state[weight])
    remedies.replace(remedies.ReDo().on(model, optimizer).network, {"0": torch.tensor([2])}, 0, second="mean")
    for key, value in optimizer.state[weight].items():
        if isinstance(value, Tensor) and value.shape == weight.shape:
            expected = float(before[key].sum()) / 12 if key in squares else 0.0
            assert value[2].tolist() == pytest.approx([expected] * 3, rel=1e-14), key


def first_steps(second: str) -> Tensor:
    """Return the sizes of 20 steps of a replaced unit under a constant gradient, in units of the learning rate."""
    weight = nn.Parameter(torch.zeros(2, 1, dtype=torch.float64))
    optimizer = torch.optim.Adam([weight], lr=1.0)
    places = []
    for step in range(10_020):
        if step == 10_000:
            for key, moment in Moments(optimizer)(weight).items():
                commit([forgotten(key, moment, 0, torch.tensor([1]), second)])
        places.append(weight.detach()[1, 0].item())
        weight.grad = torch.ones_like(weight)
        optimizer.step()
    return torch.tensor(places)[-20:].diff().abs()


def test_a_replaced_unit_starts_too_fast_unless_its_second_moments_are_typical() -> None:
    t = torch.arange(1, 20, dtype=torch.float64)
    expected = (1 - 0.9**t) / (1 - 0.999**t).sqrt()
    torch.testing.assert_close(first_steps("zero").double(), expected, rtol=1e-3, atol=0)
    assert (int(expected.argmax()) + 1, round(float(expected.max()), 1)) == (12, 6.6)
    assert first_steps("mean").max() < 1.05
