"""Metrics of the whole network against dense Hessians and explicit Jacobians."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.torch_experiments.diagnostics.samples import small
from torch_experiments import diagnose
from torch_experiments.diagnostics import METRICS
from torch_experiments.diagnostics.batches import Batch
from torch_experiments.diagnostics.probe import Probe
from torch_experiments.metrics import spectra


def dense_hessian(model, x, y):
    names = [name for name, _ in model.named_parameters()]
    sizes = [p.numel() for p in model.parameters()]
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])

    def loss(flat):
        parts = flat.split(sizes)
        given = {n: part.view_as(p) for n, part, p in zip(names, parts, model.parameters(), strict=True)}
        return F.cross_entropy(torch.func.functional_call(model, given, x), y)

    return torch.func.jacrev(torch.func.jacrev(loss))(flat)


def test_sharpness_and_rank_of_the_hessian_are_those_of_the_dense_one():
    model, x, y = small()
    eigenvalues = torch.linalg.eigvalsh(dense_hessian(model, x, y))
    probe = Probe(model, Batch(x, y), F.cross_entropy, steps=43, directions=60)
    assert METRICS["sharpness"].function(probe) == pytest.approx(float(eigenvalues[-1]), rel=1e-8)
    q = (eigenvalues.abs() / eigenvalues.abs().sum()).numpy()
    expected = math.exp(-sum(v * math.log(v) for v in q if v > 0))
    assert METRICS["hessian_shannon_rank"].function(probe) == pytest.approx(expected, rel=0.1)
    assert expected < 0.7 * len(q)
    assert METRICS["sharpness"].function(probe) > 1.05 * float(eigenvalues[-2])


def test_a_linear_function_has_no_curvature():
    model, x = nn.Linear(3, 1), torch.ones(4, 3)
    probe = Probe(model, Batch(x, x[:, :1]), lambda output, _: output.mean())
    assert METRICS["sharpness"].function(probe) == METRICS["hessian_shannon_rank"].function(probe) == 0


class Idle(nn.Module):
    """A network beside parameters that its loss does not read, reads linearly, or is not to train."""

    def __init__(self, net, unread=0, linear=0, fixed=0):
        super().__init__()
        self.net, self.unread = net, nn.Parameter(torch.ones(unread, 7)) if unread else None
        self.linear = nn.Parameter(torch.ones(linear)) if linear else None
        self.fixed = nn.Parameter(torch.ones(fixed), requires_grad=False) if fixed else None

    def forward(self, x):
        return self.net(x)

    def added(self):
        return 0.0 if self.linear is None else self.linear.sum()


@pytest.mark.parametrize("idle", [{"unread": 3}, {"unread": 300}, {"linear": 50}, {"fixed": 90}])
def test_parameters_without_curvature_change_nothing_of_the_hessian(idle):
    net, x, y = small()
    wanted = ["hessian_shannon_rank", "sharpness"]
    model = Idle(net, **idle).double()
    alone = diagnose(net, x, y, metrics=wanted)[""]
    found = diagnose(model, x, y, metrics=wanted, loss=lambda z, y: F.cross_entropy(z, y) + model.added())[""]
    assert found["hessian_shannon_rank"] == pytest.approx(alone["hessian_shannon_rank"], rel=1e-9)
    assert found["sharpness"] == pytest.approx(alone["sharpness"], rel=1e-9)


def test_gradient_and_kernel_metrics_are_those_of_explicit_jacobians():
    model, x, y = small()
    found = diagnose(model, x, y, metrics="full")[""]
    rows = []
    for i in range(12):
        model.zero_grad()
        F.cross_entropy(model(x[i : i + 1]), y[i : i + 1]).backward()
        rows.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    G = torch.stack(rows)
    assert found["gradient_diversity"] == pytest.approx(float(G.square().sum() / G.sum(dim=0).square().sum()))
    unit = G / G.norm(dim=1, keepdim=True)
    pairs = (unit @ unit.T)[~torch.eye(12, dtype=torch.bool)]
    assert found["gradient_cosine"] == pytest.approx(float(pairs.mean()))
    J = torch.cat([torch.cat([r.flatten(1) for r in one], dim=1) for one in jacobians(model, x)]).detach()
    assert found["ntk_rank"] == np.linalg.matrix_rank(J.numpy(), tol=1e-6)
    sigma = torch.linalg.svdvals(J)
    assert found["ntk_shannon_rank"] == pytest.approx(spectra.shannon_rank(sigma), rel=1e-9)


def jacobians(model, x):
    for k in range(len(x)):
        given = dict(model.named_parameters())
        full = torch.func.jacrev(lambda p, k=k: torch.func.functional_call(model, p, x[k : k + 1])[0])(given)
        yield list(full.values())


def test_kernel_of_copied_samples_has_the_rank_of_one_of_them():
    model, x, y = small()
    found = diagnose(model, x[:1].expand(12, -1), y * 0, metrics=["ntk_rank", "gradient_diversity"])
    assert found[""]["ntk_rank"] == 3
    assert found[""]["gradient_diversity"] == pytest.approx(1 / 12)


class Policy(nn.Module):
    """Four actions; logits are larger for larger inputs."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(3, 4)

    def forward(self, x):
        return torch.distributions.Categorical(logits=self.body(x)).probs


def test_the_share_of_saturated_softmaxes_is_that_of_their_gaps():
    torch.manual_seed(0)
    model, x = Policy(), torch.randn(40, 3)
    x[:30] *= 1e4
    found = diagnose(model, x, metrics=["saturated_softmax_fraction"])
    assert 0.7 <= found[""]["saturated_softmax_fraction"] <= 0.75
    plain = diagnose(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), x, metrics=["saturated_softmax_fraction"])
    assert "saturated_softmax_fraction" not in plain.get("", {})
