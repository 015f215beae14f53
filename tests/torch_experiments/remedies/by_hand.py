"""Networks small enough to compute by hand, and remedies at work on them."""

import torch

from torch_experiments.lab.models import cnn, mlp, resnet18, vit
from torch_experiments.lab.training.ensemble import Separate
from torch_experiments.remedies.network import Network

ONE = torch.ones(1, 1, dtype=torch.float64)


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.0)


def network(model, seed=0, fresh=None, example=None):
    """Return ``model`` with an Adam of rate 0, after one step, so that its moments are not zero."""
    engine = Separate([model], adam)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    engine.optimizer.step()
    fresh = fresh or (lambda source: mlp(1, 1, width=3, depth=1, seed=source, dtype=torch.float64))
    return Network(model, lambda p: engine.moments(0, p), engine.optimizer.state, fresh, seed, example)


def three_units(outgoing=(3.0, 1.0, 0.5)):
    """Return h = relu([1, 2, 3] x) and y = outgoing · h."""
    model = mlp(1, 1, width=3, depth=1, dtype=torch.float64)
    with torch.no_grad():
        model.linear1.weight.copy_(torch.tensor([[1.0], [2.0], [3.0]]))
        model.linear1.bias.zero_()
        model.head.weight.copy_(torch.tensor([outgoing]))
    return model


def begun(remedy, net):
    state = remedy.begin(net)
    remedy.attach(net, state)
    return state


def passed(remedy, net, state, step, x=ONE):
    net.model.train()(x)
    remedy.after_step(net, state, step)


def gradients(remedy, net, step=0, state=None):
    state = remedy.begin(net) if state is None else state
    for p in net.model.parameters():
        p.grad = torch.ones_like(p)
    remedy.before_step(net, state, step)
    return [p.grad for p in net.model.parameters()]


ARCHS = {
    "mlp": lambda norm, seed: mlp(192, 5, width=6, depth=2, norm=norm, seed=seed, dtype=torch.float64),
    "cnn": lambda norm, seed: cnn(8, 5, width=4, depth=2, hidden=6, norm=norm, seed=seed, dtype=torch.float64),
    "resnet18": lambda norm, seed: resnet18(5, width=4, stages=(1, 1), norm=norm, seed=seed, dtype=torch.float64),
    "vit": lambda norm, seed: vit(
        8, 5, patch=4, width=8, depth=1, heads=2, norm=norm, seed=seed, dtype=torch.float64
    ),
}
