"""Remedies against loss of plasticity, by name: what is done to a network's weights besides its training.

A remedy is a frozen dataclass of settings that is bound to one network; `REMEDIES` lists them. It may act on
gradients before each step, on weights after each step, and at the start of every task but the first. All
randomness comes from the network's seed and the step, and what else has to survive an interruption is in
``state``. Layer norm, batch norm, dropout and other activations are architecture: arguments of
`torch_experiments.models`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from torch_experiments.models import ACTIVATIONS, BasicBlock, TransformerBlock, choose
from torch_experiments.noise import Convention, GradientNoise
from torch_experiments.stacking import Network
from torch_experiments.streams import generator

State = dict[str, Tensor]
Weighted = nn.Linear | nn.Conv2d
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)
PASSED = (*NORMS, nn.Dropout, nn.MaxPool2d, nn.Flatten, *ACTIVATIONS.values())
NOISE, PERTURBATION, REPLACEMENT, RESTART = range(4)


@dataclass(frozen=True)
class Remedy:
    """Nothing: the plain training that the others are compared with."""

    @property
    def edits_gradients(self) -> bool:
        """Return whether ``before_step`` does something."""
        return type(self).before_step is not Remedy.before_step

    @property
    def watches(self) -> bool:
        """Return whether the training passes of the network itself are observed, so that it cannot be stacked."""
        return False

    def begin(self, network: Network) -> State:
        """Return the state at the start of a run."""
        return {}

    def attach(self, network: Network, state: State) -> None:
        """Watch ``network`` from now on, at the start of a run or after it was resumed."""

    def at_task(self, network: Network, state: State, task: int) -> None:
        """Act before task 1, 2, …"""

    def before_step(self, network: Network, state: State, step: int) -> None:
        """Change the gradients of step 0, 1, …"""

    def after_step(self, network: Network, state: State, step: int) -> None:
        """Act after the optimizer's step 0, 1, …"""


@dataclass(frozen=True)
class L2(Remedy):
    """Coupled L2 regularisation, ``g ← g + λ w``: the gradient of ``λ ‖w‖² / 2`` passes through the optimizer."""

    strength: float = 1e-4

    def before_step(self, network: Network, state: State, step: int) -> None:
        """Add ``λ w``."""
        for w in network.model.parameters():
            if w.grad is not None:
                w.grad.add_(w.detach(), alpha=self.strength)


@dataclass(frozen=True)
class L2Init(Remedy):
    """Regenerative regularisation, ``g ← g + λ (w − w₀)`` with the initial weights ``w₀``.

    Source: Kumar, Marklund & Van Roy (2023), arXiv 2308.11958; their loss is ``λ' ‖w − w₀‖²``, so ``λ = 2 λ'``.
    """

    strength: float = 1e-4

    def begin(self, network: Network) -> State:
        """Keep the initial weights."""
        return {name: w.detach().clone() for name, w in network.model.named_parameters()}

    def before_step(self, network: Network, state: State, step: int) -> None:
        """Add ``λ (w − w₀)``."""
        for name, w in network.model.named_parameters():
            if w.grad is not None:
                w.grad.add_(w.detach() - state[name], alpha=self.strength)


@dataclass(frozen=True)
class ShrinkPerturb(Remedy):
    """At the start of a task ``w ← shrink · w + perturb · w'``, ``w'`` freshly initialised weights.

    Source: Ash & Adams (2020), arXiv 1910.08475, with the noise of their code (a fresh initialisation, scaled).
    """

    shrink: float = 0.4
    perturb: float = 0.1

    def at_task(self, network: Network, state: State, task: int) -> None:
        """Shrink and perturb all parameters."""
        other = network.fresh(_seed(network, PERTURBATION, task))
        with torch.no_grad():
            for w, new in zip(network.model.parameters(), other.parameters(), strict=True):
                w.mul_(self.shrink).add_(new.to(w), alpha=self.perturb)


@dataclass(frozen=True)
class Noise(Remedy):
    """Gaussian noise on the gradients (`torch_experiments.noise.GradientNoise`), JL25's noisy SGD."""

    sigma: float = 0.01
    decay: float = 1.0
    convention: Convention = "normwise"

    def before_step(self, network: Network, state: State, step: int) -> None:
        """Add the noise of this step."""
        source = generator(network.seed, NOISE, step)
        noise = GradientNoise(self.sigma, self.decay, self.convention, source)
        noise.steps = step
        noise.perturb(network.model.parameters())


@dataclass(frozen=True)
class OptimizerReset(Remedy):
    """Forget the optimizer's state at the start of every task (Asadi et al. 2023, arXiv 2306.17833)."""

    def at_task(self, network: Network, state: State, task: int) -> None:
        """Forget."""
        network.reset_optimizer()


@dataclass(frozen=True)
class Fresh(Remedy):
    """A new network and optimizer for every task: no remedy, but what plasticity is measured against."""

    def at_task(self, network: Network, state: State, task: int) -> None:
        """Start again."""
        other = network.fresh(_seed(network, RESTART, task))
        network.reset_optimizer()
        with torch.no_grad():
            pairs = [*zip(network.model.parameters(), other.parameters(), strict=True)]
            pairs += zip(network.model.buffers(), other.buffers(), strict=True)  # type: ignore[arg-type]
            for old, new in pairs:
                old.copy_(new)


@dataclass(frozen=True)
class Watching(Remedy):
    """What remedies that replace units have in common: the mean ``|h|`` of every unit in the last training pass."""

    @property
    def watches(self) -> bool:
        """Return True."""
        return True

    def attach(self, network: Network, state: State) -> None:
        """Note the mean of ``|h|`` over samples and positions in every training pass, in ``state[name.size]``."""
        for layer in hidden_layers(network.model):
            layer.activation.register_forward_hook(_sizes(state, f"{layer.name}.size"))


@dataclass(frozen=True)
class ReDo(Watching):
    """Recycle dormant units: every ``every`` steps those with ``E|h_u| ≤ τ · mean_v E|h_v|`` (means over the
    batch).

    A recycled unit gets fresh in-weights, zero out-weights and zero moments of the optimizer, so the function
    changes by what the unit still said.

    Source: Sokar et al. (2023), arXiv 2302.12902, algorithm 1.
    """

    every: int = 1000
    threshold: float = 0.025

    def after_step(self, network: Network, state: State, step: int) -> None:
        """Recycle the dormant units after step ``every − 1``, ``2 every − 1``, …"""
        if (step + 1) % self.every:
            return
        for layer in hidden_layers(network.model):
            size = state[f"{layer.name}.size"]
            dormant = size <= self.threshold * size.mean()
            replace(network, layer, dormant.nonzero().flatten(), step)


@dataclass(frozen=True)
class ContinualBackprop(Watching):
    """Continual backpropagation: a small share of mature units of least utility is replaced all the time.

    Contribution utility ``u ← η u + (1 − η) E|h| Σ|w_out|``, compared after bias correction, ``u / (1 − η^age)``.
    At every step ``ρ`` times the number of units older than ``maturity`` is added to an account of the layer; for
    every whole one in it a unit is replaced: fresh in-weights, zero out-weights, utility, age and moments.

    Source: Dohare et al. (2024), Nature 632, algorithm 1; the account makes the rate an expectation.
    """

    rate: float = 1e-4
    maturity: int = 100
    decay: float = 0.99

    def begin(self, network: Network) -> State:
        """Return zero utilities, ages and accounts."""
        state: State = {}
        for layer in hidden_layers(network.model):
            zeros = layer.source.weight.detach().new_zeros(layer.units)
            state |= {f"{layer.name}.utility": zeros, f"{layer.name}.age": zeros.clone()}
            state[f"{layer.name}.account"] = torch.zeros((), dtype=torch.float64)
        return state

    def after_step(self, network: Network, state: State, step: int) -> None:
        """Update the utilities and replace what is due."""
        for layer in hidden_layers(network.model):
            utility, age, account = (state[f"{layer.name}.{n}"] for n in ("utility", "age", "account"))
            age += 1
            utility.mul_(self.decay).add_((1 - self.decay) * state[f"{layer.name}.size"] * out_sums(layer))
            mature = age > self.maturity
            account += self.rate * float(mature.sum())
            if (due := int(account)) and bool(mature.any()):
                account -= due
                corrected = (utility / (1 - self.decay**age)).masked_fill(~mature, torch.inf)
                chosen = corrected.argsort(stable=True)[: min(due, int(mature.sum()))]
                replace(network, layer, chosen, step)
                utility[chosen], age[chosen] = 0, 0


REMEDIES: Mapping[str, type[Remedy]] = {
    "none": Remedy,
    "l2": L2,
    "l2-init": L2Init,
    "shrink-perturb": ShrinkPerturb,
    "noise": Noise,
    "optimizer-reset": OptimizerReset,
    "redo": ReDo,
    "cbp": ContinualBackprop,
    "fresh": Fresh,
}


def make(name: str, **settings: Any) -> Remedy:
    """Return the remedy ``name`` of `REMEDIES`.

    Raises:
        ValueError: for an unknown name or setting.
    """
    kind = choose("remedy", name, REMEDIES)
    try:
        return kind(**settings)
    except TypeError as error:
        raise ValueError(f"remedy_settings: {error} (remedy {name!r})") from error


class Layer(NamedTuple):
    """Hidden units between two weighted modules.

    Attributes:
        name: of the activation module.
        source: its rows (channels) are the units' in-weights.
        activation: its output are the units.
        target: its columns are the out-weights, ``spread`` of them side by side for each unit.
        norms: between source and activation.
    """

    name: str
    source: Weighted
    activation: nn.Module
    target: Weighted
    norms: tuple[nn.Module, ...]

    @property
    def units(self) -> int:
        """Return their number."""
        return len(self.source.weight)

    def outgoing(self) -> Tensor:
        """Return the out-weights as a view ``[outputs, units, …]``."""
        return self.target.weight.detach().flatten(1).unflatten(1, (self.units, -1))


def hidden_layers(model: nn.Module) -> list[Layer]:
    """Return the hidden layers whose units have in-weights and out-weights of their own.

    In a chain these are all; in residual blocks the inner ones, since units that are added to a residual stream
    have no out-weights of their own.

    Raises:
        TypeError: when there is none.
    """
    found = list(_layers(model))
    if not found:
        raise TypeError(f"model: {type(model).__name__} has no hidden units between two Linear or Conv2d modules")
    return found


def out_sums(layer: Layer) -> Tensor:
    """Return ``Σ |w_out|`` of every unit."""
    return layer.outgoing().abs().sum(dim=(0, 2))


def replace(network: Network, layer: Layer, units: Tensor, step: int) -> None:
    """Give ``units`` fresh in-weights, zero out-weights, neutral norms and zero moments of the optimizer, in
    place.
    """
    if not len(units):
        return
    other = network.fresh(_seed(network, REPLACEMENT, step))
    new = dict(other.named_modules())[_name_of(network.model, layer.source)]
    with torch.no_grad():
        for p, q in zip(layer.source.parameters(), new.parameters(), strict=True):
            p[units] = q[units.to(q.device)].to(p)
            for moment in network.moments(p):
                moment[units] = 0
        for norm in layer.norms:
            _neutral(network, norm, units)
        weight: nn.Parameter = layer.target.weight  # type: ignore[assignment]
        for tensor in (weight, *network.moments(weight)):
            tensor.detach().flatten(1).unflatten(1, (layer.units, -1))[:, units] = 0


def _layers(model: nn.Module) -> Iterator[Layer]:
    names = {id(module): name for name, module in model.named_modules()}
    for block in model.modules():
        if isinstance(block, BasicBlock):
            yield _layer(names, block.conv1, block.act1, block.conv2, block.norm1)
        elif isinstance(block, TransformerBlock):
            yield _layer(names, block.linear1, block.act, block.linear2)
    if isinstance(model, nn.Sequential):
        yield from _chain(names, list(model))


def _chain(names: Mapping[int, str], modules: list[nn.Module]) -> Iterator[Layer]:
    source: Weighted | None = None
    between: list[nn.Module] = []
    for module in modules:
        if isinstance(module, nn.Linear | nn.Conv2d):
            activation = next((m for m in between if isinstance(m, tuple(ACTIVATIONS.values()))), None)
            if source is not None and activation is not None:
                yield _layer(names, source, activation, module, *between)
            source, between = module, []
        elif isinstance(module, PASSED):
            between.append(module)
        else:
            source = None


def _layer(
    names: Mapping[int, str], source: Weighted, activation: nn.Module, target: Weighted, *between: nn.Module
) -> Layer:
    norms = tuple(m for m in between if isinstance(m, NORMS))
    return Layer(names[id(activation)], source, activation, target, norms)


def _name_of(model: nn.Module, wanted: nn.Module) -> str:
    return next(name for name, module in model.named_modules() if module is wanted)


def _neutral(network: Network, norm: nn.Module, units: Tensor) -> None:
    """Set scale 1, shift 0, running mean 0 and running variance 1 of these units."""
    for name, value in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
        tensor = getattr(norm, name, None)
        if tensor is not None:
            tensor.data[units] = value
            for moment in network.moments(tensor) if isinstance(tensor, nn.Parameter) else []:
                moment[units] = 0


def _sizes(state: State, key: str) -> Any:
    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if module.training:
            h = output.detach().abs()
            state[key] = (h.movedim(1, -1) if h.ndim == 4 else h).flatten(0, -2).mean(dim=0)

    return note


def _seed(network: Network, purpose: int, step: int) -> int:
    return int(torch.randint(2**31, (), generator=generator(network.seed, purpose, step)))
