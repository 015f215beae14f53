import contextlib
import dataclasses
import warnings

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tests.torch_experiments.small import SMALL
from tests.torch_experiments.tf32 import TF32, rounded
from torch_experiments.certificates.certificate import certify
from torch_experiments.cloning import exact
from torch_experiments.cloning.exact import clone, layout
from torch_experiments.cloning.modulewise import deviations
from torch_experiments.cloning.verification import verify
from torch_experiments.diagnostics import PlasticityMonitor, diagnose
from torch_experiments.lab import models
from torch_experiments.lab.images import pixels
from torch_experiments.lab.training import Run
from torch_experiments.metrics import layers
from torch_experiments.support import precision
from torch_experiments.support.precision import as_given, in_float32, reduced, training_precision
from torch_experiments.units import TraceError

backends = torch.backends
READ = (
    "fp32_precision",
    "cuda.matmul.fp32_precision",
    "cuda.matmul.allow_tf32",
    "cudnn.fp32_precision",
    "cudnn.conv.fp32_precision",
    "cudnn.rnn.fp32_precision",
    "cudnn.allow_tf32",
    "mkldnn.fp32_precision",
    "mkldnn.matmul.fp32_precision",
    "mkldnn.conv.fp32_precision",
    "mkldnn.rnn.fp32_precision",
)
ACTS = {  # what users do, by the older switches and the newer ones
    "nothing": lambda: None,
    "products high": lambda: torch.set_float32_matmul_precision("high"),
    "products medium": lambda: torch.set_float32_matmul_precision("medium"),
    "cublas": lambda: setattr(backends.cuda.matmul, "allow_tf32", True),
    "cudnn off": lambda: setattr(backends.cudnn, "allow_tf32", False),
    "cudnn on": lambda: setattr(backends.cudnn, "allow_tf32", True),
    "convolutions exact": lambda: setattr(backends.cudnn.conv, "fp32_precision", "ieee"),
    "products tf32": lambda: setattr(backends.cuda.matmul, "fp32_precision", "tf32"),
    "all of cudnn": lambda: setattr(backends.cudnn, "fp32_precision", "tf32"),
    "all tf32": lambda: setattr(backends, "fp32_precision", "tf32"),
    "all exact": lambda: setattr(backends, "fp32_precision", "ieee"),
    "oneDNN": lambda: setattr(backends.mkldnn.conv, "fp32_precision", "bf16"),
}
SHAPES = {
    "cnn": {"width": 8, "depth": 2, "hidden": 32},
    "resnet18": {"width": 4},
    "vit": {"patch": 8, "width": 8, "depth": 1, "heads": 2},
    "mlp": {"width": 32, "depth": 2},
}
CONVOLVING = {"cnn", "resnet18"}


def switches():
    """Return all switches, and which of them cannot be read, as torch says where older and newer ones disagree."""
    found = {"products": _read(torch.get_float32_matmul_precision)}
    for name in READ:
        *path, last = name.split(".")
        where = backends
        for part in path:
            where = getattr(where, part)
        found[name] = _read(lambda where=where, last=last: getattr(where, last))
    return found


def _read(get):
    try:
        return get()
    except RuntimeError:
        return "raises"


@pytest.fixture
def reset():
    """Return what puts the switches back to what torch starts with, which happens at the end too."""
    before = switches()
    yield put_back
    put_back()
    assert switches() == before


def put_back():
    backends.fp32_precision = backends.cudnn.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    backends.cudnn.allow_tf32 = True
    for place, _ in precision.PLACES:
        place.fp32_precision = "tf32" if place in (backends.cudnn.conv, backends.cudnn.rnn) else "none"


@pytest.mark.parametrize("first", ACTS)
def test_every_switch_is_as_it_was_after_a_block(reset, first):
    for second in ACTS:
        reset()
        ACTS[first](), ACTS[second]()
        look_at_blocks()


def look_at_blocks():
    before = switches()
    agree = "raises" not in before.values()
    with in_float32():
        inside = switches()
        assert not reduced()
        assert not agree or "raises" not in inside.values()
        with in_float32():
            assert switches() == inside
        with as_given():
            assert switches() == before
            with in_float32():
                assert not reduced()
        assert switches() == inside
    assert switches() == before
    with training_precision(tf32=True):
        inside = switches()
        assert inside["cuda.matmul.fp32_precision"] == inside["cudnn.conv.fp32_precision"] == "tf32"
        assert not agree or "raises" not in inside.values()
        with in_float32():
            assert not reduced()
        assert switches() == inside
    assert switches() == before
    with training_precision(tf32=False):
        assert switches()["cuda.matmul.fp32_precision"] == switches()["cudnn.conv.fp32_precision"] == "ieee"
    assert switches() == before


def test_switches_that_follow_others_follow_them_again(reset):
    backends.fp32_precision = "tf32"
    with in_float32():
        assert not reduced()
    assert backends.cuda.matmul.fp32_precision == "tf32"
    backends.fp32_precision = "ieee"
    assert backends.cuda.matmul.fp32_precision == "ieee"


def test_switches_are_as_they_were_after_an_error():
    before = switches()
    for block in (in_float32(), training_precision(tf32=True)):
        with pytest.raises(ZeroDivisionError), block:
            raise ZeroDivisionError
        assert switches() == before


def test_no_warning_that_a_switch_is_older():
    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings(action="error"), training_precision(tf32=True), in_float32(), as_given():
            pass
    finally:
        torch.set_warn_always(always)


# ---------------------------------------------------------------------- TF32 on a CPU


def test_rounding_keeps_ten_bits():
    near = 1 + torch.tensor([2.0**-10, 2.0**-11, 2.0**-12, -(2.0**-11), 3 * 2.0**-12])
    assert (rounded(near) - 1).tolist() == [2.0**-10, 2.0**-10, 0.0, -(2.0**-11), 2.0**-10]
    x = torch.randn(1000)
    assert 2**-13 < float(((rounded(x) - x) / x).abs().max()) <= 2**-11


def network(arch, seed):
    norm = "layer" if arch == "vit" else "batch"
    model = models.build(arch, (3, 16, 16), 10, SHAPES[arch], seed=seed, norm=norm)
    return model, torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("arch", "seed"), [*((arch, seed) for arch in sorted(CONVOLVING) for seed in range(3)), ("vit", 0), ("mlp", 0)]
)
def test_a_clone_is_no_false_error_where_the_device_rounds(monkeypatch, arch, seed):
    model, x = network(arch, seed)
    with TF32() as mode, training_precision(tf32=True):
        assert clone(model, 3, example_inputs=x) is not None
        assert mode.count == 0
        monkeypatch.setattr(exact, "in_float32", contextlib.nullcontext)
        if arch in CONVOLVING:  # of the others, whose few layers round little, only that they would round
            with pytest.raises(TraceError, match="computes something else"):
                clone(model, 3, example_inputs=x)
        else:
            with contextlib.suppress(TraceError):
                clone(model, 3, example_inputs=x)
        assert mode.count > 0


def test_convolutions_round_where_nothing_was_said_of_products(monkeypatch):
    model, x = network("cnn", 0)
    with TF32() as mode:
        clone(model, 3, example_inputs=x)
        assert mode.count == 0
        monkeypatch.setattr(exact, "in_float32", contextlib.nullcontext)
        with pytest.raises(TraceError, match="computes something else"):
            clone(model, 3, example_inputs=x)


def measurements(model, x, y):
    """Yield what every tool says of a network, as numbers."""
    yield list(diagnose(model, x, y, metrics="full").rows())
    found = certify(model, x, targets=y).to_dict()
    yield {name: value for name, value in found.items() if name != "seconds"}
    twin = clone(model, 2, example_inputs=x)
    place = layout(model, 2, example_inputs=x)
    yield verify(twin, model, place, x)
    yield deviations(twin, place, x, lambda output: cross_entropy(output, y))
    with PlasticityMonitor(model, x, y, validation=(x, y), every=1, budget=None) as monitor:
        monitor.step(0.0)
    yield monitor.rows
    yield [h.tolist() for h in layers.activations(model, x)]
    yield [output.tolist() for output in layers.gather(model, [x])[1]]


def test_what_is_measured_is_the_same_where_training_may_round():
    model, x = network("cnn", 0)
    y = torch.arange(8) % 3
    with TF32():  # under a mode torch takes other kernels
        here = list(measurements(model, x, y))
    with TF32() as mode, training_precision(tf32=True):
        model.eval()(x)
        rounding, mode.count = mode.count, 0
        there = list(measurements(model.train(), x, y))
    assert rounding > 0
    assert mode.count == 0
    assert str(there) == str(here)


def test_steps_that_a_certificate_takes_are_those_of_the_training():
    base = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    model, x = clone(base, 2), torch.randn(8, 3)
    sgd = torch.optim.SGD(model.parameters(), 0.1)
    with TF32() as mode, training_precision(tf32=True):
        certify(model, x, targets=torch.arange(8) % 2)
        assert mode.count == 0
        certify(model, x, sgd, targets=torch.arange(8) % 2)
        assert mode.count > 0


@pytest.mark.parametrize("given", ["float32", "tf32"])
def test_a_run_rounds_in_training_alone_and_where_asked(given):
    run = Run(dataclasses.replace(SMALL, precision=given, trapped=True), [0], pixels.load("digits"))
    with TF32() as mode, run.precisely():
        run.advance()  # measures first
        before, mode.count = mode.count, 0
        run._rows(0, SMALL.steps)
        assert mode.count == 0
        run.advance()
    assert (before > 0, mode.count > 0) == (given == "tf32",) * 2
