"""What a remedy sees is what its own network computes in training: copies, pickles and replicas are nobody's."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim.swa_utils import AveragedModel

from torch_experiments import clone, remedies
from torch_experiments.remedies import Bound

X = torch.randn(9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)).double()


def bound_to(model: nn.Module) -> Bound:
    return remedies.ReDo(every=1, threshold=0.5).on(model, torch.optim.SGD(model.parameters(), lr=0.1))


def pickled(model: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    found: nn.Module = torch.load(buffer, weights_only=False)
    return found


COPIES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "deepcopy": copy.deepcopy,
    "average": AveragedModel,
    "clone": lambda model: clone(model, example_inputs=X),
    "torch.save": pickled,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "redrawn": lambda model: remedies.redrawn(model, 1),
}


@pytest.mark.parametrize("kind", COPIES)
def test_copies_are_nobodys_and_compute_the_same(kind: str) -> None:
    model = network()
    bound = bound_to(model)
    other = COPIES[kind](model).train()
    other(3 * X)
    assert not any(name.endswith(".size") for name in bound.state)
    model(X)
    seen = {name: value.clone() for name, value in bound.state.items()}
    other(5 * X)
    COPIES[kind](other).train()(5 * X)
    assert set(seen) == {"0.size", "2.size"}
    assert all(torch.equal(bound.state[name], value) for name, value in seen.items())
    if kind != "redrawn":
        torch.testing.assert_close(other(X), model(X), rtol=1e-12, atol=1e-12)


def test_a_pickled_model_needs_nothing_of_this_package() -> None:
    model = network()
    bound_to(model)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert b"torch_experiments" not in pickle.dumps(model, protocol)


def test_a_copy_can_be_bound_by_itself() -> None:
    model = network()
    bound = bound_to(model)
    other = copy.deepcopy(model)
    own = bound_to(other)
    other(X)
    assert bound.state == {}
    assert set(own.state) == {"0.size", "2.size"}


def test_a_shallow_copy_of_the_network_shares_its_layers_but_one_of_a_layer_is_a_copy() -> None:
    model = network()
    bound = bound_to(model)
    copy.copy(model[2])(torch.ones(1, 6, dtype=torch.float64))
    assert bound.state == {}
    copy.copy(model)(X)
    assert set(bound.state) == {"0.size", "2.size"}


def test_a_pass_with_other_weights_does_not_count() -> None:
    model = network()
    bound = bound_to(model)
    target = {name: p.detach() * 2 for name, p in model.named_parameters()}
    functional_call(model, target, (X,))
    assert bound.state == {}
    functional_call(model, dict(model.named_parameters()), (X,))
    assert set(bound.state) == {"0.size", "2.size"}


def test_a_copy_with_an_inert_hook_compiles_whole() -> None:
    model = network()
    bound_to(model)
    for other in (copy.deepcopy(model), pickled(model)):
        compiled = torch.compile(other, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(X), model(X), rtol=1e-12, atol=1e-12)


def replica_of(module: nn.Module) -> nn.Module:
    """Return what `DataParallel` makes of a module for a pass: its hooks, and tensors for weights."""
    other = copy.copy(module)
    vars(other).update({"_parameters": {}, "_is_replica": True, "_modules": dict(vars(module)["_modules"])})
    vars(other).update({name: p.detach() for name, p in module.named_parameters(recurse=False)})
    for name, child in module.named_children():
        vars(other)["_modules"][name] = replica_of(child)
    return other


def test_the_replica_on_the_device_of_the_network_counts() -> None:
    model = network()
    bound = bound_to(model)
    assert torch.equal(replica_of(model)(X), model.eval()(X))
    assert set(bound.state) == {"0.size", "2.size"}


def test_rebinding_follows_parameters_that_were_put_in_the_place_of_others() -> None:
    model = network()
    bound = bound_to(model)
    saved = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(saved, assign=True)
    model(X)
    with pytest.raises(RuntimeError, match=r"no training pass of layer '0'.*rebind"):
        bound.rebind(torch.optim.SGD(model.parameters(), lr=0.1)).step()
    model(X)
    bound.step()
    assert bound.steps == 1


def test_steps_without_a_training_pass_are_said_once() -> None:
    model = network()
    bound = bound_to(model)
    model(X)
    bound.step()
    model.eval()(X)
    with pytest.warns(UserWarning, match="ReDo has seen no training pass between two steps"):
        bound.step()
    bound.step()
    assert bound.steps == 3


def test_a_removed_remedy_sees_nothing() -> None:
    model = network()
    bound = bound_to(model)
    bound.remove()
    model(X)
    assert bound.state == {}


def run_in_process(model: nn.Module) -> Tensor:
    """Return the outputs of a model that came as a pickle."""
    found: Tensor = model(X).detach()
    return found


def test_a_bound_model_goes_to_other_processes(in_two_processes: Callable[..., list[Tensor]]) -> None:
    model = network()
    bound_to(model)
    for found in in_two_processes(run_in_process, (model,), (model,)):
        assert torch.equal(found, model(X))
