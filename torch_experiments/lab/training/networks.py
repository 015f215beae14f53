"""The networks of a run with their optimizer and the remedy that acts on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from torch_experiments import remedies
from torch_experiments.cloning.exact import clone
from torch_experiments.lab import models
from torch_experiments.lab.training import optimizers, parallel
from torch_experiments.lab.training.configuration import Config
from torch_experiments.lab.training.feed import Feed
from torch_experiments.remedies.network import Memory, Network
from torch_experiments.support.generators import generator
from torch_experiments.support.processes import processes
from torch_experiments.units.inputs import evaluating

DROPOUT, INITIAL, HEAD = 12, 13, 15  # places of random numbers; `feed` has the others


def build(config: Config, shape: tuple[int, int, int], outputs: int, seed: int) -> nn.Module:
    """Return the network of ``config`` for images of ``shape``.

    With ``clones`` in its ``arch_settings`` every hidden unit is there that many times from the start, which makes
    the network so many times as wide and leaves its function as it is.

    Raises:
        ValueError: for a setting that the architecture does not have.

    >>> narrow, wide = (Config(arch_settings=(("width", 4), ("depth", 1), ("clones", n))) for n in (1, 2))
    >>> [build(config, (1, 8, 8), 10, seed=0).head.in_features for config in (narrow, wide)]
    [4, 8]
    """
    given = {name: getattr(config, name) for name in ("norm", "affine", "activation", "dropout", "dtype")}
    source = int(generator(seed, INITIAL).initial_seed()) >> 1
    own = dict(config.arch_settings)
    clones = own.pop("clones", 1)
    model = models.build(config.arch, shape, outputs, own, seed=source, **given)
    return model if clones == 1 else clone(model, clones, example_inputs=torch.zeros(2, *shape, dtype=config.dtype))


def head_of(model: nn.Module) -> nn.Linear:
    """Return the last Linear module.

    >>> head_of(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)))
    Linear(in_features=4, out_features=2, bias=True)
    """
    return [module for module in model.modules() if isinstance(module, nn.Linear)][-1]


class Networks:
    """The networks of all seeds, one optimizer, and a remedy.

    Attributes:
        ensemble: networks and optimizer.
        views: the networks as the remedy sees them.
        states: what the remedy remembers of each.

    Raises:
        ValueError: for a remedy, optimizer, norm or device that does not go with several networks or processes.
    """

    def __init__(self, config: Config, seeds: Sequence[int], feed: Feed) -> None:
        self.config, self.seeds, self.feed = config, tuple(seeds), feed
        self.remedy = remedies.make(config.remedy, **dict(config.remedy_settings))
        if self.remedy.watches and len(seeds) > 1:
            name = config.remedy
            raise ValueError(f"stack: the remedy {name!r} watches single networks; run the seeds one by one")
        if config.optimizer == "muon" and len(seeds) > 1:
            raise ValueError("stack: muon sees one matrix at a time; run the seeds one by one, without --stack")
        if config.compile and processes() > 1:
            raise ValueError("compile: is not for several processes; leave it out, or run without --ddp")
        self.ensemble = parallel.shared_ensemble([self.fresh(seed) for seed in seeds], self._optimizer)
        self.views = [self._view(s) for s in range(len(seeds))]
        self.states = [self.remedy.begin(view) for view in self.views]
        self._for_all(self.remedy.attach)
        self._forward = torch.compile(self.ensemble.forward) if config.compile else self.ensemble.forward

    def fresh(self, seed: int) -> nn.Module:
        """Return a network as it starts from ``seed``, on the device."""
        return build(self.config, self.feed.images.shape, self.feed.outputs, seed).to(self.config.device)

    def outputs(self, x: Tensor, step: int) -> Tensor:
        """Return the outputs ``[S, batch, outputs]`` of the networks in training, at a step."""
        if self.config.dropout:
            torch.manual_seed(generator(self.seeds[0], DROPOUT, step).initial_seed())
        if self.config.precision != "bf16":
            return self._forward(x)
        with torch.autocast(torch.device(self.config.device).type, torch.bfloat16):
            return self._forward(x).float()

    def descend(self, loss: Tensor, step: int) -> None:
        """Take one step of the optimizer along the gradients of ``loss [S]``, with what the remedy does to both."""
        edit = (lambda: self._for_all(self.remedy.before_step, step)) if self.remedy.edits_gradients else None
        self.ensemble.step(loss, edit)
        self._for_all(self.remedy.after_step, step)

    def begin(self, k: int) -> None:
        """Reset the heads for task ``k``; from the second task on, the remedy acts."""
        for view in self.views:
            self._reset_head(view, k)
        if k:
            self._for_all(self.remedy.at_task, k)

    def _reset_head(self, view: Network, k: int) -> None:
        if self.config.head == "keep":
            return
        source = int(generator(view.seed, HEAD, k).initial_seed())
        new = head_of(view.fresh(source)) if self.config.head == "fresh" else None
        with torch.no_grad():
            for name, p in head_of(view.model).named_parameters():
                p.copy_(new.get_parameter(name) if new is not None else torch.zeros_like(p))
                for moment in view.moments(p).values() if self.config.protocol == "corrected" else []:
                    moment.zero_()

    def weights(self) -> dict[str, Tensor]:
        """Return parameters and buffers of all networks by seed and name; they are those of the networks."""
        pairs = zip(self.seeds, self.ensemble.models, strict=True)
        return {f"{seed}.{name}": t for seed, model in pairs for name, t in model.state_dict().items()}

    def state(self) -> dict[str, Any]:
        """Return what optimizer and remedy remember."""
        return {"optimizer": self.ensemble.optimizer.state_dict(), "remedies": self.states}

    def restore(self, weights: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Put weights and state back, in place."""
        with torch.no_grad():
            for name, value in self.weights().items():
                value.copy_(weights[name])
        self.ensemble.optimizer.load_state_dict(state["optimizer"])
        for own, saved in zip(self.states, state["remedies"], strict=True):
            places = {name: own[name].device if name in own else self.config.device for name in saved}
            own.update({name: value.to(places[name]) for name, value in saved.items()})

    def _for_all(self, act: Callable[..., Any], *place: int) -> None:
        for view, state in zip(self.views, self.states, strict=True):
            act(view, state, *place)

    def _view(self, s: int) -> Network:
        return Network(
            self.ensemble.models[s],
            lambda p: self.ensemble.moments(s, p),
            Memory(self.ensemble.optimizer),
            self.fresh,
            self.seeds[s],
            example=self.feed.example,
            probe=lambda: self.feed.probe(s, "train")[0],
            loss=lambda: self._probe_loss(s),
            agree=parallel.averaged,
        )

    def _probe_loss(self, s: int) -> Tensor:
        """Return the loss of network ``s`` on the training images on which it is measured."""
        x, y = self.feed.probe(s, "train")
        active = self.feed.active[s, 0]
        with torch.no_grad(), evaluating(self.ensemble.models[s]) as model:
            return cross_entropy(model(x)[:, active].double(), torch.searchsorted(active, y))

    def _optimizer(self, parameters: list[Tensor]) -> torch.optim.Optimizer:
        every = optimizers.OPTIONS[self.config.optimizer]
        own = {name: getattr(self.config, name) for name in every if hasattr(self.config, name)}  # of text: not all
        return optimizers.make(self.config.optimizer, parameters, self.config.lr, **own)
