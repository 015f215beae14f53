"""Two parameters on one storage are found, counted once, and refused by `clone`; parts of one buffer are not."""

import pytest
import torch
from torch import nn

from torch_experiments import TraceError, certify, clone
from torch_experiments.cloning import expand, profiles
from torch_experiments.support.storages import shared_storages, sharing, told


class Tied(nn.Module):
    """A network whose output layer is its embedding."""

    def __init__(self):
        super().__init__()
        self.table, self.inner, self.back = nn.Embedding(10, 4), nn.Linear(4, 8), nn.Linear(8, 4)
        self.norm, self.head = nn.LayerNorm(4), nn.Linear(4, 10, bias=False)
        self.head.weight = self.table.weight

    def forward(self, x):
        return self.head(self.norm(self.back(torch.relu(self.inner(self.table(x))))))


def networks():
    """Return a tied network, and one that `load_state_dict(assign=True)` has untied."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tied, loaded = Tied(), Tied()
    state = {name: value.clone() for name, value in tied.state_dict().items()}
    loaded.load_state_dict(state | {"head.weight": state["table.weight"]}, assign=True)
    return tied, loaded


X, Y = torch.arange(30).reshape(6, 5) % 10, torch.arange(30).reshape(6, 5) % 7


def test_a_tie_that_loading_undid_is_found():
    tied, loaded = networks()
    assert shared_storages(tied) == {}
    assert shared_storages(loaded) == {"head.weight": {"table.weight": 40}}
    assert sharing(shared_storages(loaded)) == {"head.weight", "table.weight"}
    loaded.head.weight = loaded.table.weight
    assert shared_storages(loaded) == {}, "mended as the message says"


def test_a_certificate_counts_it_once_and_says_so():
    tied, loaded = networks()
    one, two = (certify(m, X, torch.optim.Adam(m.parameters()), targets=Y) for m in (tied, loaded))
    assert one.parameters == two.parameters == sum(p.numel() for p in tied.parameters())
    assert two.dimension == one.dimension
    assert not [note for note in one.notes if "storage" in note]
    (note,) = (note for note in two.notes if "storage" in note)
    assert note.startswith("'table.weight' and 'head.weight' are two parameters on one storage")


def test_what_holds_one_of_them_is_no_promise():
    """Copies in memory of their own are kept; of those in the shared one the other parameter decides."""
    _, loaded = networks()
    with torch.no_grad():
        loaded.inner.weight[3], loaded.inner.bias[3] = 0.0, -1.0  # a dead unit, in memory of its own
        loaded.inner.weight[5], loaded.inner.bias[5] = loaded.inner.weight[4], loaded.inner.bias[4]
        loaded.back.weight[:, 5] = loaded.back.weight[:, 4]
    found = certify(loaded, X, torch.optim.SGD(loaded.parameters(), lr=0.1), targets=Y)
    assert found.optimizer.clones == "kept", "the copies lie elsewhere"
    copied = Tied()
    with torch.no_grad():
        copied.table.weight[:, 1] = copied.table.weight[:, 0]
        copied.table.weight[:, 3] = copied.table.weight[:, 2]
        for p in (copied.inner.weight, copied.back.weight.T):
            p[:, 1], p[:, 3] = p[:, 0], p[:, 2]
        copied.back.bias[1], copied.back.bias[3] = copied.back.bias[0], copied.back.bias[2]
    optimizer = torch.optim.SGD(copied.parameters(), lr=0.1)
    assert certify(copied, X, optimizer, targets=Y).optimizer.clones == "kept"
    copied.load_state_dict(copied.state_dict() | {"head.weight": copied.table.weight.detach()}, assign=True)
    optimizer = torch.optim.SGD(copied.parameters(), lr=0.1)
    found = certify(copied, X, optimizer, targets=Y)
    assert found.optimizer.clones == "unknown"
    assert "lies on the storage of another parameter" in found.optimizer.reasons[0].sentence


def test_clone_refuses_it_and_names_the_tie():
    tied, loaded = networks()
    assert clone(tied, example_inputs=X).head.weight.shape == (10, 8)
    with pytest.raises(TraceError, match=r"'table.weight' and 'head.weight' are two parameters on one storage"):
        clone(loaded, example_inputs=X)


def test_a_chain_is_refused_too():
    chain = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    chain[2].weight = nn.Parameter(chain[0].weight.detach())
    with pytest.raises(TraceError, match=r"'0.weight' and '2.weight' are two parameters on one storage"):
        expand(chain, profiles(chain, 2))


def of(*tensors):
    model = nn.Module()
    for k, tensor in enumerate(tensors):
        model.register_parameter(f"p{k}", nn.Parameter(tensor))
    return model


def test_parts_of_one_buffer_share_what_they_overlap():
    buffer = torch.arange(12.0)
    assert shared_storages(of(buffer[:6], buffer[6:])) == {}
    assert shared_storages(of(buffer[:6], buffer[4:9], buffer[8:])) == {"p1": {"p0": 2}, "p2": {"p1": 1}}
    even, odd = buffer[::2], buffer[1::2]
    assert shared_storages(of(even, odd)) == {}, "ranges overlap, elements do not"
    assert shared_storages(of(even, buffer[:4])) == {"p1": {"p0": 2}}
    table = buffer.reshape(3, 4)
    assert shared_storages(of(table, table.T)) == {"p1": {"p0": 12}}
    assert shared_storages(of(table[:, :2], table[:, 2:])) == {}


def test_parameters_without_memory_are_left_out():
    one = nn.Linear(2, 2, device="meta")
    assert shared_storages(nn.ModuleList([one, nn.Linear(2, 2, device="meta")])) == {}
    assert shared_storages(of(torch.zeros(0), torch.zeros(0))) == {}
    assert shared_storages(of(torch.zeros(2, 2).to_sparse())) == {}
    assert told({}) == ""
