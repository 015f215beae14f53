"""A network in wrappers, called by another method, with inputs of any kind, is judged as the plain one is."""

import copy
import dataclasses
from collections import namedtuple

import numpy
import pytest
import torch
from torch import distributed, nn

from torch_experiments import TraceError, certify, clone, diagnose
from torch_experiments.certificates.audit import audit
from torch_experiments.certificates.display import copies
from torch_experiments.cloning import layout, verify
from torch_experiments.units.entry import calling, prepared, released
from torch_experiments.units.inputs import call, sample_count


def planted():
    """Return a network whose unit 2 is dead, and 3 a copy of 1."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    with torch.no_grad():
        for tensor in (model[0].weight, model[0].bias, model[2].weight.T):
            tensor[3] = tensor[1]
        model[0].bias[2] = -100.0
    return model


def judged(model, x, **options):
    """Return copies and dead units that certificate and diagnosis find."""
    found = certify(model, x, parts=("frozen",), **options)
    (dead,) = {m["dead_fraction"] for m in diagnose(model, x, **options).values() if "dead_fraction" in m}
    pairs = [pair for v in copies(found.blocks).values() for pair in v["copies"]]
    return pairs, {unit.unit for unit in found.frozen.units}, dead


RIGHT = ([[1, 3]], {2}, 0.125)


@pytest.fixture
def alone(tmp_path):
    """A group of one process."""
    distributed.init_process_group(
        "gloo", rank=0, world_size=1, store=distributed.FileStore(str(tmp_path / "store"), 1)
    )
    yield
    distributed.destroy_process_group()


WRAPPERS = {
    "distributed": nn.parallel.DistributedDataParallel,
    "parallel": nn.DataParallel,
    "compiled": lambda model: torch.compile(model, backend="eager"),
    "both": lambda model: nn.parallel.DistributedDataParallel(torch.compile(model, backend="eager")),
    "a distributed part": lambda model: nn.Sequential(nn.parallel.DistributedDataParallel(model)),
}


@pytest.mark.parametrize("kind", WRAPPERS)
def test_wrappers_are_looked_into(alone, kind):
    x = torch.randn(16, 4)
    wrapped = WRAPPERS[kind](planted())
    assert judged(wrapped, x) == RIGHT
    wide = clone(wrapped, 2, example_inputs=x)
    assert verify(wide, wrapped, layout(wrapped, 2, example_inputs=x), x).kept


class Marked(nn.Module):
    """Profiler's labels, assertions on the device, checkpoints: they compute nothing."""

    def __init__(self, how):
        super().__init__()
        self.body, self.how = planted(), how

    def forward(self, x):
        if self.how == "assertion":
            torch._assert_async((x.abs() < 100).all())
        if self.how == "checkpoint":
            return torch.utils.checkpoint.checkpoint(self.body, x, use_reentrant=False)
        if self.how == "functional call":
            return torch.func.functional_call(self.body, dict(self.body.named_parameters()), (x,))
        with torch.profiler.record_function("body"):
            return self.body(x)


@pytest.mark.parametrize("how", ["label", "assertion", "checkpoint", "functional call"])
def test_what_computes_nothing_changes_nothing(how):
    model, x = Marked(how), torch.randn(16, 4)
    assert judged(model, x) == RIGHT
    assert not any("training mode" in note for note in certify(model, x, parts=("frozen",)).notes)
    assert clone(model, 2, example_inputs=x).body[0].out_features == 16


class Agent(nn.Module):
    """Two methods and no forward."""

    def __init__(self):
        super().__init__()
        self.body = planted()

    def act(self, x):
        return self.body(x).tanh()

    def loss(self, x, y):
        return (self(x) - y).square().mean()


class Learner(Agent):
    def forward(self, x):
        return self.body(x)


@pytest.mark.parametrize("how", ["act", "bound", lambda model, x: model.body(x).sin()])
def test_other_methods_are_called(how):
    model, x = Agent(), torch.randn(16, 4)
    how = model.act if how == "bound" else how
    found = certify(model, x, parts=("frozen",), call=how)
    assert copies(found.blocks)["body.0"]["copies"] == [[1, 3]]
    assert {unit.unit for unit in found.frozen.units if unit.layer == "body.1"} == {2}
    assert diagnose(model, x, call=how)["body.1"]["dead_fraction"] == 0.125
    wide = clone(model, 2, example_inputs=x, call=how)
    assert verify(
        wide, model, layout(model, 2, example_inputs=x, call=how), x, call=how if how != model.act else "act"
    ).kept
    assert "forward" not in vars(model)
    assert "forward" not in vars(wide)
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    assert audit(model, x, optimizer, steps=3, call=how).held


def test_a_method_may_call_the_forward():
    model, batch = Learner(), (torch.randn(16, 4), torch.randn(16, 2))
    assert copies(certify(model, batch, parts=(), call="loss").blocks)["body.0"]["copies"] == [[1, 3]]


def test_a_copy_made_meanwhile_calls_itself():
    model = Agent()
    with calling(model, "act"):
        twin = copy.deepcopy(model)
        torch.nn.init.zeros_(twin.body[2].weight)
        assert not torch.equal(call(twin, torch.ones(2, 4)), call(model, torch.ones(2, 4)))
    assert "forward" not in vars(released(twin))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (None, TraceError, r"Agent has no forward; name what is to be called, as in call='act'; it has act, loss"),
        ("step", ValueError, r"call: Agent has no method 'step'; it has act, loss"),
        (3, TypeError, r"call: got int; give the name of a method"),
    ],
)
def test_what_cannot_be_called_is_named(given, error, message):
    for ask in (certify, diagnose, lambda m, x, call: clone(m, example_inputs=x, call=call)):
        with pytest.raises(error, match=message):
            ask(Agent(), torch.randn(16, 4), call=given)


@dataclasses.dataclass
class Observation:
    pixels: torch.Tensor
    scale: float = 1.0


Named = namedtuple("Named", "pixels scale")


class Observed(nn.Module):
    """Takes one object, of which it reads attributes, or a mapping."""

    def __init__(self):
        super().__init__()
        self.body = planted()

    def forward(self, seen):
        return self.body(seen["pixels"] if isinstance(seen, dict) else seen.pixels * seen.scale)


X = torch.randn(16, 4, generator=torch.Generator().manual_seed(1))
ONE = torch.ones(16, 1)
OBJECTS = {
    "a dataclass": Observation(X),
    "a named tuple": Named(X, ONE),
    "a mapping that is one argument": {"pixels": X},
    "a dataclass of arrays": Observation(X.double().numpy()),
}


@pytest.mark.parametrize("kind", OBJECTS)
def test_objects_are_one_argument(kind):
    assert judged(Observed(), OBJECTS[kind]) == RIGHT
    assert clone(Observed(), 2, example_inputs=OBJECTS[kind]).body[0].out_features == 16


NUMBERS = {
    "float64": X.double(),
    "NumPy": X.double().numpy(),
    "NumPy by name": {"input": X.numpy()},
    "float16": X.half(),
}


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_numbers_are_cast_to_the_dtype_of_the_parameters(kind, dtype):
    assert judged(planted().to(dtype), NUMBERS[kind]) == RIGHT
    assert prepared(nn.Linear(4, 2), {"ids": numpy.arange(3)})["ids"].dtype == torch.int64


def test_targets_may_be_arrays():
    found = certify(planted(), X.numpy(), targets=numpy.zeros(16, dtype=numpy.int64), iterations=4)
    assert found.stability is not None


class Adapted(nn.Module):
    """A frozen linear map and a trained one of rank two beside it, as LoRA adds it."""

    def __init__(self, base):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down, self.up = nn.Linear(base.in_features, 2, bias=False), nn.Linear(2, base.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x):
        return self.base(x) + 2.0 * self.up(self.down(x))


def test_adapters_beside_frozen_weights():
    """Copies of the base part ways where an adapter tells them apart, which starts at zero, where it does not."""
    model = planted()
    model[0] = Adapted(model[0])
    assert clone(model, 2, example_inputs=X)[0].base.out_features == 16
    found = certify(model, X, parts=("frozen",))
    assert {unit.unit for unit in found.frozen.units} == {2}
    assert copies(found.blocks)["0.base"]["copies"] == [[1, 3]]
    with torch.no_grad():
        model[0].up.weight.normal_()
        model[0].base.bias[2] = -1e4
    assert not copies(certify(model, X, parts=()).blocks)["0.base"]["copies"]


@pytest.mark.filterwarnings("ignore:torch.ao.quantization", "ignore:torch.quantize_per_tensor")
def test_quantised_layers_are_diagnosed_and_what_trains_beside_them_is_certified():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))
    with torch.no_grad():
        model[2].bias[2] = -100.0
    torch.ao.quantization.quantize_dynamic(model, {"0"}, inplace=True)
    assert diagnose(model, X)["3"]["dead_fraction"] > 0
    found = certify(model, X, parts=("frozen",))
    assert 2 in {unit.unit for unit in found.frozen.units if unit.layer == "3"}
    whole = torch.ao.quantization.quantize_dynamic(planted(), {nn.Linear})
    assert diagnose(whole, X)["1"]["dead_fraction"] == 0.125


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells, self.last = nn.GRU(4, 6), nn.Linear(6, 2)

    def forward(self, sequences):
        return self.last(self.cells(sequences)[1][-1])


def test_packed_sequences_are_one_argument_and_stay_whole():
    torch.manual_seed(0)
    model, x = Packed(), nn.utils.rnn.pack_padded_sequence(torch.randn(5, 6, 4), torch.tensor([5, 5, 4, 3, 1, 1]))
    assert sample_count(x) == 0
    assert not any(v["copies"] for v in copies(certify(model, x, parts=("frozen",)).blocks).values())
    assert clone(model, 2, example_inputs=x).cells.hidden_size == 12
    found = diagnose(model, x)
    assert found.about.samples == 6
    assert "layer 'cells': its gates run within one operation and are not measured" in found.about.notes[0]


class Graphs(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.last = planted()[:2], planted()[2]

    def forward(self, x, edges):
        return self.last(torch.sparse.mm(edges, self.body(x)))


def test_sparse_matrices_are_followed():
    edges = (torch.rand(16, 16, generator=torch.Generator().manual_seed(0)) > 0.8).float().to_sparse()
    found = certify(Graphs(), (X, edges), parts=("frozen",))
    assert copies(found.blocks)["body.0"]["copies"] == [[1, 3]]
    assert {unit.unit for unit in found.frozen.units} == {2}
    assert clone(Graphs(), 2, example_inputs=(X, edges)).last.in_features == 16


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: planted().to("meta"), r"layer '0': its parameters are on the meta device and hold no numbers"),
        (lambda: torch.jit.script(planted()), r"layer '': a module of torch.jit.script shows no operations"),
        (lambda: torch.export.export(planted(), (X,)).module(), r"GraphModule cannot be put in eval mode"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*")
def test_networks_that_show_nothing_are_refused(make, message):
    for ask in (certify, diagnose, lambda m, x: clone(m, example_inputs=x)):
        with pytest.raises(TraceError, match=message):
            ask(make(), X)


def test_shards_are_refused(alone):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = planted()
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    with pytest.raises(TraceError, match="its parameters are sharded over processes"):
        certify(model, X)


def test_nested_tensors_are_refused_by_the_layer():
    class Ragged(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = planted()

        def forward(self, x):
            ragged = torch.nested.nested_tensor([x[0], x[1, :2]], layout=torch.jagged)
            return torch.nested.to_padded_tensor(self.body(ragged), 0.0)

    with pytest.raises(TraceError, match=r"gets a nested tensor, whose axes are not followed; pad its parts"):
        clone(Ragged(), example_inputs=torch.randn(2, 5, 4))


def test_a_layer_that_does_not_run_on_the_inputs_is_named():
    for ask in (certify, diagnose, lambda m, x: clone(m, example_inputs=x)):
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as raised:
            ask(planted(), torch.ones(16, 7))
        assert "Sequential was called with (" in raised.value.__notes__[0]
        assert "layer '0' failed; does it run on them?" in raised.value.__notes__[0]


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.*")
def test_recorded_modules_are_certified_but_not_widened():
    recorded = torch.jit.trace(planted(), (X,))
    assert copies(certify(recorded, X, parts=("frozen",)).blocks)["0"]["copies"] == [[1, 3]]
    with pytest.raises(TraceError, match=r"a module of torch\.jit\.trace has its sizes written down"):
        clone(recorded, example_inputs=X)
