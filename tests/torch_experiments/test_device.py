"""Training, remedies and tools on a CUDA device that a CPU plays (`tests.torch_experiments.device`)."""

import contextlib
import dataclasses

import pytest
import torch
from torch import nn

from tests.torch_experiments.device import emulated
from tests.torch_experiments.small import SMALL
from torch_experiments import remedies
from torch_experiments.certificates.audit import audit
from torch_experiments.certificates.certificate import certify
from torch_experiments.cloning.exact import clone, layout
from torch_experiments.cloning.verification import verify
from torch_experiments.diagnostics import PlasticityMonitor, diagnose
from torch_experiments.lab import models
from torch_experiments.lab.experiments import e04_remedies
from torch_experiments.lab.images import pixels
from torch_experiments.lab.training import Run
from torch_experiments.remedies.recovery import Recovery

DATA = pixels.load("digits")
SHAPES = {
    "mlp": (("width", 16), ("depth", 2)),
    "cnn": (("width", 4), ("depth", 1), ("hidden", 8)),
    "resnet18": (("width", 2),),
    "vit": (("patch", 4), ("width", 8), ("depth", 1), ("heads", 2)),
}
SHORT = dataclasses.replace(SMALL, steps=3)
SETTINGS = {
    "a stack": {},
    "changed images": {"padding": 1, "flip": True, "jitter": 0.1},
    "dropout": {"dropout": 0.1},
    "another protocol": {"protocol": "published", "head": "fresh", "optimizer": "sgd"},
    "permuted": {"stream": "permuted", "stream_settings": ()},
}


def trained(device, config, seeds=(0,)):
    """Run to the end and return the rows; in the second step nothing may wait or be copied from the host."""
    run = Run(config, seeds, DATA)
    with run.precisely():
        run.advance()
        if device is not None:
            device.forget()
        run.advance()
        asked = None if device is None else (dict(device.waits), device.copies)
        while not run.done:
            run.advance()
    return run.rows, asked


def alike(a, b):
    """Return whether nested numbers agree but for rounding, which modes change, and all else is equal."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(alike(value, b[name]) for name, value in a.items())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(alike, a, b))
    return a == pytest.approx(b, rel=1e-4, abs=1e-7, nan_ok=True) if isinstance(a, float) else a == b


# ---------------------------------------------------------------------- the emulation


def test_tensors_of_both_places_are_refused():
    with emulated():
        model = nn.Linear(3, 2).to("cuda")
        assert model(torch.ones(1, 3, device="cuda")).device == torch.device("cuda", 0)
        with pytest.raises(RuntimeError, match=r"tensors of shapes \[\(1, 3\)\] are on the CPU"):
            model(torch.ones(1, 3))
        with pytest.raises(TypeError, match=r"can't convert cuda:0"):
            model.weight.detach().numpy()
        with pytest.raises(AssertionError, match="a generator of the CPU"):
            torch.randn(2, generator=torch.Generator(), device="cuda")


def test_gradients_state_and_views_are_where_the_parameters_are():
    with emulated():
        model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).to("cuda")
        adam = torch.optim.Adam(model.parameters(), fused=True)
        seen = []
        hidden = model[0](torch.ones(2, 3, device="cuda"))
        hidden.register_hook(lambda error: seen.append(error.device.type))
        model[1:](hidden).sum().backward()
        adam.step()
        assert seen == ["cuda"]
        assert {p.grad.device.type for p in model.parameters()} == {"cuda"}
        assert {t.device.type for state in adam.state.values() for t in state.values()} == {"cuda"}
        assert model[0].weight.data[1:].T.device.type == "cuda"


def test_waits_and_copies_are_counted():
    with emulated() as device:
        x = torch.ones(3).to("cuda")
        assert (device.copies, device.unpinned) == (1, 1)
        assert torch.ones(3).pin_memory().to("cuda", non_blocking=True).is_cuda
        assert (device.copies, device.unpinned) == (2, 1)
        assert not device.waits
        assert (float(x.sum()), x.tolist(), x.cpu().device.type, len(x.nonzero())) == (3.0, [1.0] * 3, "cpu", 3)
        assert bool((x[x > 0] == 1).all())
        assert sum(device.waits.values()) == 6
    assert not torch.cuda.is_available()


# ---------------------------------------------------------------------- training


def test_a_run_has_the_numbers_of_the_cpu():
    config = dataclasses.replace(SHORT, trapped=True)
    with emulated() as device:
        there, asked = trained(device, dataclasses.replace(config, device="cuda"))
    assert asked == ({}, 0)
    assert alike(there, trained(None, config)[0])


def test_the_clock_waits_for_the_device_around_measurements_alone():
    run_there = dataclasses.replace(SHORT, device="cuda", measure_every=2)
    with emulated() as device:
        run = Run(run_there, [0], DATA)
        run.advance()
        assert device.synchronised == 2  # a measurement before the first step
        run.advance()
        assert device.synchronised == 4  # and one after the second
        run._steps(3)
        assert device.synchronised == 5  # those of a measurement of speed, once at their end


def test_what_a_task_needs_is_copied_from_pinned_memory():
    with emulated() as device:
        run = Run(dataclasses.replace(SHORT, device="cuda"), [0], DATA)
        device.forget()
        run._begin(1)
        run.feed.probe(0, "train")
        run.feed.batch(SHORT.steps)
        assert (device.copies, device.unpinned) == (5, 0)


@pytest.mark.parametrize(("arch", "norm"), [("cnn", "layer"), ("resnet18", "batch"), ("vit", "layer")])
def test_networks_train_without_waiting(arch, norm):
    config = dataclasses.replace(SHORT, device="cuda", arch=arch, arch_settings=SHAPES[arch], norm=norm)
    with emulated() as device:
        assert trained(device, config)[1] == ({}, 0)


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_train_without_waiting(name):
    config = dataclasses.replace(SHORT, device="cuda", **SETTINGS[name])
    with emulated() as device:
        assert trained(device, config, (0, 1) if name == "a stack" else (0,))[1] == ({}, 0)


WAITS = {"snr": {"aten._local_scalar_dense": 1}}  # whether any unit is due: only the device knows


@pytest.mark.parametrize("name", remedies.REMEDIES)
def test_remedies_act_without_waiting(name):
    given = {"remedy": name, "remedy_settings": e04_remedies.SETTINGS.get(name, ())}
    with emulated() as device:
        asked = trained(device, dataclasses.replace(SHORT, device="cuda", **given))[1]
    assert asked == (WAITS.get(name, {}), 0)


def test_units_are_replaced_on_the_device():
    dead = (("rate", 0.5), ("maturity", 1))
    config = dataclasses.replace(SHORT, steps=6, remedy="cbp", remedy_settings=dead)
    with emulated() as device:
        there, _ = trained(device, dataclasses.replace(config, device="cuda"))
    assert alike(there, trained(None, config)[0])


# ---------------------------------------------------------------------- tools


def said(model, x, y):
    """Yield what the tools say of a network."""
    adam = torch.optim.Adam(model.parameters(), 1e-3)
    found = certify(model, x, adam, targets=y, box=(-5.0, 5.0))
    yield found.parameters, found.dimension, found.reached, found.frozen.to_dict(), found.optimizer.clones
    checked = audit(model, x, adam, targets=y, steps=2, certificate=found)
    yield [(finding.sentence, finding.held) for finding in checked.findings]
    twin = clone(model, 2, mode="equitable", example_inputs=x, generator=torch.Generator().manual_seed(0))
    yield verify(twin, model, layout(model, 2, example_inputs=x), x).kept
    yield list(diagnose(model, x, y, metrics="full").rows())
    with PlasticityMonitor(model, x, y, validation=(x, y), every=1, budget=None) as monitor:
        monitor.step(0.0)
    yield monitor.rows


def test_tools_say_what_they_say_on_the_cpu():
    model = models.build("vit", (1, 8, 8), 4, dict(SHAPES["vit"]), seed=0, norm="layer")
    x, y = torch.randn(8, 1, 8, 8), torch.arange(8) % 4
    here = list(said(model, x, y))
    with emulated():
        there = list(said(model.to("cuda"), x.to("cuda"), y.to("cuda")))
    for a, b in zip(here, there, strict=True):
        assert alike(a, b)


def test_recovery_acts_on_the_device():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    with emulated(), contextlib.ExitStack() as stack:
        model.to("cuda")
        model[0].bias.data.fill_(-99.0)
        x, y = torch.randn(8, 3, device="cuda"), torch.arange(8, device="cuda") % 2
        sgd = torch.optim.SGD(model.parameters(), 0.1)
        bound = remedies.make("redo").on(model, sgd, example_inputs=x)
        monitor = stack.enter_context(PlasticityMonitor(model, x, y, every=1, budget=None, on_alarm=lambda _: None))
        assert Recovery(monitor, bound) is not None
        model(x)
        assert len(bound.apply()["0"]) == 4
        assert bool((model[0].bias > -99).all())
