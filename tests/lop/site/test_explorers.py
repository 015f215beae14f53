"""The scripts of the explorers compute what Python computes, to 1e-6: run by node, without a browser."""

import json
import shutil
import subprocess

import pytest
import torch
from torch import nn

from lop.site import data, places
from tests.lop.site import explorers
from tests.lop.site.explorers import CLOSE, GIVEN, RHO
from torch_experiments import certify

KERNELS = [
    ("relu", 1.0, 0.0),
    ("gelu", 2.0, 0.5),
    ("tanh", 3.0, -1.0),
    ("sign", 3.0, 0.7),
    ("relu2", 1.5, -2.0),
    ("sin", 3.0, 0.3),
    ("leaky_relu", 0.1, 3.0),
    ("hard_swish", 1.0, 0.0),
    ("step", 0.1, -0.7),  # flat but for a distant kink, from here on
    ("relu2", 0.5, -2.9),
    ("relu2", 0.5, -3.0),
    ("relu", 0.5, -3.0),
    ("relu", 0.3, -1.8),
    ("relu", 0.3, -3.0),
]
FROZEN = [("tanh", 2.0, 0.5, 0.1), ("relu", 1.5, 1.0, 0.2), ("sigmoid", 3.0, -2.0, 0.3), ("elu", 1.0, 0.0, 0.05)]
STARTS = [("cloned", "tanh"), ("frozen", "relu"), ("fresh", "tanh")]


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """Run an expression after the scripts and the data of the explorers; return its value."""
    if shutil.which("node") is None:
        pytest.skip("node runs the scripts of the explorers, and is not installed")
    folder = tmp_path_factory.mktemp("scripts")
    chosen = {name: data.pieces(data.named()[name]) for name in {n for n, *_ in [*KERNELS, *FROZEN]}}
    given = {"activations": chosen, "network": GIVEN}
    scripts = [(places.HERE / "static" / f"{name}.js").read_text() for name in ("lop", "kernel", "network", "runs")]
    filled = [f"lop.data[{json.dumps(key)}]={json.dumps(value)};" for key, value in given.items()]

    def run(expression):
        file = folder / "run.js"
        file.write_text(
            "\n".join([scripts[0], *filled, *scripts[1:], f"console.log(JSON.stringify({expression}))"])
        )
        done = subprocess.run(["node", file], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_kernels_are_those_of_python(node):
    each = (
        "(([name, a, b]) => { const found = lop.kernel.of(lop.data.activations[name], a, b);"
        f" return {{K: {json.dumps(RHO)}.map(found.at), share: found.moments.share,"
        " ...lop.kernel.gain(found, lop.kernel.equicorrelated(8, 0.5))}; })"
    )
    for case, found in zip(KERNELS, node(f"{json.dumps(KERNELS)}.map({each})"), strict=True):
        for key, expected in explorers.kernel(*case).items():
            assert found[key] == pytest.approx(expected, abs=CLOSE), (case, key)


def test_a_kernel_of_another_activation_is_another(node):
    (one,) = node("[lop.kernel.of(lop.data.activations.relu, 1, 0).at(0.3)]")
    assert abs(one - explorers.kernel("gelu", 1.0, 0.0)["K"][RHO.index(0.3)]) > 100 * CLOSE


def test_frozen_shares_are_those_of_python(node):
    each = "(([name, a, b, d]) => lop.kernel.frozen(lop.kernel.modulated(lop.data.activations[name], a, b), d))"
    found = node(f"{json.dumps(FROZEN)}.map({each})")
    assert found == pytest.approx([explorers.frozen(*case) for case in FROZEN], abs=CLOSE)


@pytest.mark.parametrize("rule", explorers.RULES)
def test_training_is_that_of_python(node, rule):
    cases = [{"kind": kind, "rule": rule, "activation": phi, "steps": 100} for kind, phi in STARTS]
    found = node(f"{json.dumps(cases)}.map((c) => lop.network.run(lop.data.network, c))")
    for case, one in zip(cases, found, strict=True):
        expected = explorers.trained(**case)
        assert one["w"] == pytest.approx(expected["w"], abs=CLOSE)
        assert one["loss"] == pytest.approx(expected["loss"], abs=CLOSE)


@pytest.mark.parametrize("rule", explorers.RULES)
def test_a_quotient_learns_what_its_clone_learns(node, rule):
    twice = (
        "(() => { const d = lop.data.network, rate = lop.network.rates[RULE];"
        " const make = (w) => ({ w, rule: RULE, rate, noise: 0, activation: 'tanh', state: null });"
        " const one = make(lop.network.start('cloned', d)),"
        " base = make(structuredClone(d.base));"
        " for (let k = 0; k < 100; k++) { lop.network.step(one, d); lop.network.quotientStep(base, d); }"
        " return [one, base].map((run) => lop.network.loss(run.w, d, 'tanh').loss); })()"
    )
    clone, base = node(twice.replace("RULE", json.dumps(rule)))
    assert base == pytest.approx(clone, abs=1e-9)
    if rule in ("SGD", "momentum"):
        assert base == pytest.approx(explorers.of_quotient(rule, "tanh", 100), abs=CLOSE)


def test_copies_stay_to_the_bit_and_part_under_noise_and_from_a_small_distance(node):
    start = "{kind: 'cloned', rule: 'SGD', activation: 'tanh', steps: 200"
    runs = [f"{start}}}", f"{start}, noise: 0.01}}", f"{start}, apart: 1e-8}}"]
    kept, noisy, apart = node(f"[{','.join(runs)}].map((c) => lop.network.run(lop.data.network, c).apart)")
    assert kept == 0
    assert noisy > 0.01
    assert apart > 1e-7


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_curvature_across_the_clones_is_that_of_python(node, activation):
    of = f"lop.network.start('cloned', lop.data.network), lop.data.network, '{activation}'"
    found = node(f"lop.network.eigenvalues(lop.network.normalHessian({of}))")
    assert found == pytest.approx(explorers.curvatures(activation), abs=CLOSE)
    assert found[0] < 0


def as_module(inner, outer, activation):
    hidden, out = nn.Linear(2, len(inner)), nn.Linear(len(inner), 1)
    model = nn.Sequential(hidden, {"tanh": nn.Tanh, "relu": nn.ReLU}[activation](), out).double()
    with torch.no_grad():
        hidden.weight.copy_(torch.tensor(inner[:, :2]))
        hidden.bias.copy_(torch.tensor(inner[:, 2]))
        out.weight.copy_(torch.tensor(outer[None, :-1]))
        out.bias.copy_(torch.tensor(outer[-1:]))
    return model


@pytest.mark.parametrize(("kind", "activation"), STARTS)
def test_the_certificate_is_that_of_python(node, kind, activation):
    of = f"lop.network.start('{kind}', lop.data.network), lop.data.network, '{activation}'"
    found = node(f"lop.network.certificate({of})")
    certificate = certify(as_module(*explorers.weights(kind), activation), torch.tensor(GIVEN["x"]).T.double())
    assert (found["parameters"], found["dimension"]) == (certificate.parameters, certificate.dimension)
    assert len(found["frozen"]) == len(certificate.frozen.units)


def test_means_of_runs_are_over_the_tasks_that_all_have(node):
    assert node("lop.runs.mean({0: [1, 2, 3], 1: [3, 4]})") == [2, 3]


@pytest.mark.parametrize(("low", "high"), [(0.57, 1.32), (756.0, 829.0), (0.3, 40.0), (1e-17, 1e3), (1e-8, 1.1e-8)])
def test_an_axis_of_logarithms_has_ticks_within_its_ends(node, low, high):
    ticks = node(f"lop.ticks({low}, {high}, true)")
    assert len(ticks) > 1
    assert low * (1 - 1e-9) <= ticks[0] < ticks[-1] <= high * (1 + 1e-9)
