"""Networks with copies and with dead units, every optimizer of torch, and verdicts held against real steps."""

import inspect
import math

import torch
from torch import nn
from torch.nn.functional import mse_loss

from claims.evidence import witness
from torch_experiments.certificates.optimizer.verdicts import optimizer_verdict
from torch_experiments.cloning.chains import chain_layout, expand, profiles
from torch_experiments.cloning.exact import residuals
from torch_experiments.lab.models import mlp
from torch_experiments.lab.optimizer_table import MANIFOLDS
from torch_experiments.lab.rules import SETTINGS
from torch_experiments.support.loading import shipped

KEPT, LEFT = 3e-12, 1e-3


optim = torch.optim


SHIPPED = {kind.__name__: kind for kind in shipped()}


WITH_DECAY = [name for name, kind in SHIPPED.items() if "weight_decay" in inspect.signature(kind).parameters]


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


def start(manifold="identical clones", factor=3, norm="none", activation=None, **options):
    """Return a clone with two hidden layers and where its copies lie."""
    kind = MANIFOLDS[manifold]
    base = mlp(
        5, 3, width=4, depth=2, norm=norm, activation=activation or kind.activation, dtype=torch.float64, **options
    )
    axes = profiles(base, factor, scales=kind.scales, generator=rng())
    return expand(base, axes, spread=kind.spread, generator=rng()), chain_layout(base, axes)


def built(name, model, **changes):
    """Return an optimizer with the settings of the table, without decay unless asked for."""
    settings = dict(SETTINGS.get(name, {}))
    if name in WITH_DECAY:
        settings["weight_decay"] = 0.0
    parameters = [p for p in model.parameters() if p.ndim == 2 or name != "Muon"]
    return SHIPPED[name](parameters, **settings | changes)


def train(model, optimizer, steps, seed=1):
    """Take steps on fresh random data; gradients are sparse for SparseAdam."""
    generator = rng(seed)
    for _ in range(steps):
        x = torch.randn(16, 5, generator=generator, dtype=torch.float64)
        y = torch.sin(x[:, :3] + 2 * x[:, -3:])

        def closure(x=x, y=y):
            model.zero_grad()
            loss = mse_loss(model(x), y)
            loss.backward()
            for p in model.parameters() if isinstance(optimizer, optim.SparseAdam) else ():
                p.grad = p.grad.to_sparse()
            return loss.item()

        if isinstance(optimizer, optim.LBFGS):
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()


def measured(model, place, optimizer, steps=30):
    """Return the largest violation of the equations, and the largest distance from the coset, after training."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train(model, optimizer, steps)
    found = residuals(model, place, before)
    return max(max(r.rows, r.columns) for r in found), max(r.coset for r in found)


def agrees(verdict, residual, left=LEFT):
    """Check a verdict against a residual, and return it for the evidence; nothing is asked of ``"unknown"``."""
    assert verdict != "kept" or residual <= KEPT
    assert verdict != "left" or residual >= left or math.isnan(residual)
    return residual if verdict == "kept" else 0.0


def check(model, place, optimizer, left=LEFT, **options):
    """Check the verdict on clones against training, and return it."""
    found = optimizer_verdict(model, optimizer, place, **options)
    equations, coset = measured(model, place, optimizer)
    witness(residual=max(agrees(found.clones, equations, left), agrees(found.coset, coset, left)))
    return found.clones, found.coset


SIZE = (6, 5)


class Dead:
    """A Linear layer of which two units are dead, trained on random gradients that are zero on them."""

    def __init__(self, seed=0, value=-0.5):
        self.model = nn.Linear(5, 6, bias=False, dtype=torch.float64)
        self.weight = self.model.weight
        self.weight.data = draw(*SIZE, seed=seed)
        self.dead = torch.zeros(SIZE, dtype=torch.bool)
        self.dead[:2] = True
        self.weight.data[self.dead] = value * draw(*SIZE, seed=seed + 1).abs()[self.dead]

    def masks(self):
        return {"weight": self.dead}

    def train(self, optimizer, steps, seed=0):
        """Return the paths of the dead weights, shape [steps + 1, dead]."""
        path, generator = [self.weight.detach()[self.dead].clone()], rng(seed)
        for _ in range(steps):
            grad = torch.randn(SIZE, generator=generator, dtype=torch.float64).masked_fill(self.dead, 0)
            self.weight.grad = grad.to_sparse() if isinstance(optimizer, optim.SparseAdam) else grad
            optimizer.step(lambda: 0.0) if isinstance(optimizer, optim.LBFGS) else optimizer.step()
            path.append(self.weight.detach()[self.dead].clone())
        return torch.stack(path)


def alive_first(name, settings, steps=3, seed=5):
    """Return dead units that had gradients in their last steps of life, so that buffers are not zero."""
    case = Dead()
    optimizer = SHIPPED[name](case.model.parameters(), **settings)
    generator = rng(seed)
    for _ in range(steps):
        case.weight.grad = torch.randn(SIZE, generator=generator, dtype=torch.float64)
        optimizer.step()
    optimizer.zero_grad()
    return case, optimizer
