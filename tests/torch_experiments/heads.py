"""Networks of which an example reads only a part: a head a task, an adapter a task, a copy, noise in training."""

import copy

import torch
from torch import nn
from torch.nn.functional import linear


class Tasks(nn.Module):
    """One body, and a head a task."""

    def __init__(self, norm=False, tasks=3):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16) if norm else nn.Identity(), nn.ReLU())
        self.deep = nn.Linear(16, 10)
        self.heads = nn.ModuleList(nn.Linear(10, 2) for _ in range(tasks))

    def forward(self, x, task=0):
        return self.heads[task](torch.relu(self.deep(self.body(x))))


class Adapted(nn.Module):
    """A stem a task that writes the units of one trunk, and a head a task of its own kind."""

    def __init__(self):
        super().__init__()
        self.stems = nn.ModuleList(nn.Linear(8, 12) for _ in range(2))
        self.heads = nn.ModuleList([nn.Linear(12, 3), nn.Sequential(nn.Linear(12, 7), nn.Tanh(), nn.Linear(7, 3))])

    def forward(self, x, *, task):
        return self.heads[task](torch.tanh(self.stems[task](x)))


class Images(nn.Module):
    """Heads that read flattened channels."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.heads = nn.ModuleDict({"a": nn.Linear(16, 2), "b": nn.Linear(16, 5)})

    def forward(self, x, head):
        images = x.unflatten(1, (2, 2, 2)).repeat_interleave(2, 2).repeat_interleave(2, 3)
        return self.heads[head](self.body(images).flatten(1))


class Target(nn.Module):
    """A network beside a copy of itself, as in Q learning."""

    def __init__(self):
        super().__init__()
        self.online = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))
        self.target = copy.deepcopy(self.online)

    def forward(self, x, late=False):
        return (self.target if late else self.online)(x)


class Noisy(nn.Module):
    """A layer of NoisyNet: noise in training only."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.mu = nn.Parameter(torch.randn(outputs, inputs))
        self.sigma = nn.Parameter(torch.full((outputs, inputs), 0.1))

    def forward(self, x):
        return linear(x, self.mu + self.sigma * torch.randn_like(self.mu) if self.training else self.mu)


NETWORKS = {
    "tasks": (Tasks, lambda x: [(x, 0), (x, 1), (x, 2)], "heads.1.weight, heads.2.weight"),
    "normed tasks": (lambda: Tasks(norm=True), lambda x: [(x,), (x, 1), (x[:3], 2)], "heads.1.weight"),
    "adapted": (Adapted, lambda x: [{"x": x, "task": 0}, {"x": x, "task": 1}], "stems.1.weight"),
    "images": (Images, lambda x: [(x, "a"), {"x": x, "head": "b"}], "heads.b.weight"),
    "target": (Target, lambda x: [(x, False), (x, True)], "target.0.weight, target.0.bias, target.2.weight"),
}


def made(name):
    """Return a network, its examples, and how the names of what the first example leaves unread begin."""
    torch.manual_seed(0)
    make, examples, unread = NETWORKS[name]
    return make().double().eval(), examples(torch.randn(6, 8, dtype=torch.float64)), unread
