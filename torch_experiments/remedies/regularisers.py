"""Remedies that edit gradients before the optimizer's step: regularisers and noise.

A penalty ``λ R(w)`` enters as its gradient, so it passes through the optimizer like the loss (coupled); the loss
that a line search of L-BFGS compares is that of the data alone. Parameters that are not trained are left. In the
examples the loss has no gradient, so what a step of SGD does is the remedy's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor, nn

from torch_experiments.metrics import layers
from torch_experiments.metrics.spectra import log_renyi2_rank
from torch_experiments.remedies.base import NOISE, OFFSET, WEIGHTED, Remedy, State
from torch_experiments.remedies.network import Network
from torch_experiments.remedies.settings import ANY, COUNT, NONNEGATIVE, SHARE, OneOf, setting
from torch_experiments.remedies.surgery import Entries, commit
from torch_experiments.support.generators import generator
from torch_experiments.support.noise import Convention, GradientNoise
from torch_experiments.units.entry import calling

CONVENTIONS = OneOf(get_args(Convention))


@dataclass(frozen=True)
class L2(Remedy):
    """Coupled L2 regularisation, ``g ← g + λ w``: the gradient of ``λ ‖w‖² / 2`` passes through the optimizer.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> bound = L2(0.5).on(model, torch.optim.SGD(model.parameters()))
    >>> model.weight.grad = torch.zeros(1, 1)
    >>> bound.before_step()
    >>> torch.equal(model.weight.grad, 0.5 * model.weight)
    True
    """

    strength: float = setting(1e-4, NONNEGATIVE)

    def before_step(self, network: Network, state: State, step: int) -> None:
        """Add ``λ w``."""
        for _, w, g in _trained(network):
            g.add_(w, alpha=self.strength)


@dataclass(frozen=True)
class L2Init(Remedy):
    """Regenerative regularisation, ``g ← g + λ (w − w₀)`` with the initial weights ``w₀``.

    Source: Kumar, Marklund & Van Roy (2023), arXiv 2308.11958; their loss is ``λ' ‖w − w₀‖²``, so ``λ = 2 λ'``.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> bound = L2Init(0.5).on(model, torch.optim.SGD(model.parameters()))
    >>> model.weight.data += 1
    >>> model.weight.grad = torch.zeros(1, 1)
    >>> bound.before_step()
    >>> round(model.weight.grad.item(), 6)
    0.5
    """

    strength: float = setting(1e-4, NONNEGATIVE)

    def begin(self, network: Network) -> State:
        """Keep the initial weights."""
        return {name: w.detach().clone() for name, w in network.model.named_parameters()}

    def before_step(self, network: Network, state: State, step: int) -> None:
        """Add ``λ (w − w₀)``."""
        for name, w, g in _trained(network):
            g.add_(w - state[name], alpha=self.strength)


@dataclass(frozen=True)
class Syre(Remedy):
    """Weight decay towards a random point, ``g ← g + λ d ⊙ (w − θ₀)``, fixed for the whole run.

    ``θ₀ ~ N(0, (σ rms(w₀))²)`` tensor by tensor breaks all reflection symmetries, of which clones and dead units
    are fixed points, almost surely; ``d ~ 1 + ε U(−1, 1)`` (``spread`` ε) those that are continuous. The paper
    trains ``f(w' + θ₀)`` with the decay ``λ w'``: the same in ``w = w' + θ₀``. The start is left as it is.

    Source: Ziyin, Xu & Chuang (2025), arXiv 2408.15495.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> bound = Syre(sigma=0, spread=0, strength=0.5).on(model, torch.optim.SGD(model.parameters()))
    >>> model.weight.grad = torch.zeros(1, 1)
    >>> bound.before_step()  # without randomness, L2
    >>> torch.equal(model.weight.grad, 0.5 * model.weight)
    True
    """

    strength: float = setting(1e-4, NONNEGATIVE)
    sigma: float = setting(0.1, NONNEGATIVE)
    spread: float = setting(0.01, NONNEGATIVE)

    def begin(self, network: Network) -> State:
        """Draw ``θ₀`` and ``d``."""
        state: State = {}
        for k, (name, w) in enumerate(network.model.named_parameters()):
            source = generator(network.seed, OFFSET, k)
            draw = torch.randn(w.shape, generator=source, dtype=torch.float64).to(w)
            state[f"{name}.offset"] = self.sigma * w.detach().square().mean().sqrt() * draw
            tilt = 2 * torch.rand(w.shape, generator=source, dtype=torch.float64).to(w) - 1
            state[f"{name}.rate"] = 1 + self.spread * tilt
        return state

    def before_step(self, network: Network, state: State, step: int) -> None:
        """Add ``λ d ⊙ (w − θ₀)``."""
        for name, w, g in _trained(network):
            g.add_(state[f"{name}.rate"] * (w - state[f"{name}.offset"]), alpha=self.strength)


@dataclass(frozen=True)
class Spectral(Remedy):
    """Spectral regularisation: the gradient of ``λ Σ_W (σ₁(W)ᵏ − 1)² + λ Σ_b ‖b‖²ᵏ``.

    For a weight, flattened to ``[outputs, …]``, with top singular vectors ``u``, ``v`` this is
    ``2 λ k (σ₁ᵏ − 1) σ₁ᵏ⁻¹ u vᵀ``, found by ``iterations`` of the power method a step, from where it was at the
    last step; for a bias ``2 λ k ‖b‖²ᵏ⁻² b``. Scales of norms are left alone (the paper pulls them to one).

    Source: Lewandowski et al. (2025), arXiv 2406.06811; their ``k`` is 2.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.constant_(model.weight, 2.0)
    >>> bound = Spectral(1.0, power=1).on(model, torch.optim.SGD(model.parameters()))
    >>> model.weight.grad = torch.zeros(1, 1)
    >>> bound.before_step()
    >>> model.weight.grad.item()  # of (σ − 1)²
    2.0
    """

    strength: float = setting(1e-4, NONNEGATIVE)
    power: int = setting(2, COUNT)
    iterations: int = setting(1, COUNT)

    def begin(self, network: Network) -> State:
        """Return the top right singular vectors."""
        return {name: torch.linalg.svd(_matrix(w))[2][0].contiguous() for name, w in _weights(network)}

    def before_step(self, network: Network, state: State, step: int) -> None:
        """Add the gradient; singular vectors are remembered once all is computed."""
        k, vectors, trained = self.power, dict(state), {name for name, *_ in _trained(network)}
        for name, w in _weights(network):
            if name in trained and w.grad is not None:
                u, sigma, vectors[name] = _power_method(_matrix(w), vectors[name], self.iterations)
                size = 2 * self.strength * k * (sigma**k - 1) * sigma ** (k - 1)
                w.grad.add_((size * torch.outer(u, vectors[name])).view_as(w))
        for name, b in _biases(network):
            if name in trained and b.grad is not None:
                b.grad.add_(b.detach() * (2 * self.strength * k * b.detach().square().sum() ** (k - 1)))
        commit([Entries(state, vectors)])


@dataclass(frozen=True)
class Parseval(Remedy):
    """Parseval regularisation: the gradient of ``λ ‖W Wᵀ − s I‖_F²``, ``4 λ (W Wᵀ − s I) W``.

    Of a weight with more rows than columns ``Wᵀ W`` is taken, which can be a multiple of the identity; a kernel is
    flattened to ``[outputs, …]``. The head, the last weight, is left alone, as in the paper.

    Source: Chung, Cherif, Meger & Precup (2024), arXiv 2412.07224.

    >>> model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1))
    >>> _ = nn.init.constant_(model[0].weight, 1.0)
    >>> bound = Parseval(1.0, scale=2.0).on(model, torch.optim.SGD(model.parameters()))
    >>> model[0].weight.grad = torch.zeros(1, 1)
    >>> bound.before_step()
    >>> model[0].weight.grad.item()  # of (w² − 2)²
    -4.0
    """

    strength: float = setting(1e-4, NONNEGATIVE)
    scale: float = setting(2.0, NONNEGATIVE)

    def before_step(self, network: Network, state: State, step: int) -> None:
        """Add the gradient."""
        trained = {name for name, *_ in _trained(network)}
        for name, w in _weights(network)[:-1]:
            if name in trained and w.grad is not None:
                W = _matrix(w)
                M = W if W.shape[0] <= W.shape[1] else W.T
                force = (M @ M.T - self.scale * torch.eye(len(M), dtype=M.dtype, device=M.device)) @ M
                w.grad.add_((force if M is W else force.T).reshape(w.shape), alpha=4 * self.strength)


@dataclass(frozen=True)
class RankBonus(Remedy):
    """Hold the rank up: the gradient of ``−λ Σ_l ln er₂(H_l)``, over the observed layers (`layers.observed`).

    ``er₂(H) = ‖H‖_F⁴ / ‖Hᵀ H‖_F²`` is `spectra.renyi2_rank` of the activations ``H [samples, units]``, mean
    included, on the first ``images`` of the probe. Dead units get no gradient from it.

    An intervention on the rank alone, to ask what follows from it (ours; compare the penalty of Kumar et al. 2021,
    arXiv 2010.14498).

    >>> model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Tanh(), nn.Linear(2, 1))
    >>> _ = model[0].weight.data.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.1]]))
    >>> bound = RankBonus(1.0).on(model, torch.optim.SGD(model.parameters()), example_inputs=torch.eye(2))
    >>> model[0].weight.grad = torch.zeros(2, 2)
    >>> bound.before_step()
    >>> bool(model[0].weight.grad[1, 1] < 0)  # the weaker unit grows
    True
    """

    strength: float = setting(0.1, ANY)
    images: int = setting(100, COUNT)

    def before_step(self, network: Network, state: State, step: int) -> None:
        """Add the gradient; whoever trains in several processes gets the mean over them."""
        if not isinstance(x := network.batch, Tensor):
            raise TypeError(f"inputs: RankBonus needs one tensor, got {type(x).__name__}; give probe= one")
        places = [(w, w.grad) for w in network.trained().values() if w.grad is not None]
        if not places:
            return
        with torch.enable_grad(), calling(network.model, network.call):
            observed = layers.activations(network.model, x[: self.images])
            bonus = torch.stack([log_renyi2_rank(h) for h in observed]).sum()
            found = torch.autograd.grad(bonus, [w for w, _ in places], allow_unused=True)
        for (_, gradient), rise in zip(places, found, strict=True):
            if rise is not None:
                gradient.sub_(network.agree(rise), alpha=self.strength)


@dataclass(frozen=True)
class Noise(Remedy):
    """Gaussian noise on the gradients (`torch_experiments.support.noise.GradientNoise`), JL25's noisy SGD.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> bound = Noise(0.0).on(model, torch.optim.SGD(model.parameters()))
    >>> model.weight.grad = torch.ones(1, 1)
    >>> bound.before_step()
    >>> model.weight.grad.item()
    1.0
    """

    sigma: float = setting(0.01, NONNEGATIVE)
    decay: float = setting(1.0, SHARE)
    convention: Convention = setting("normwise", CONVENTIONS)

    def before_step(self, network: Network, state: State, step: int) -> None:
        """Add the noise of this step; each of several optimizers that step one by one has its own."""
        part = network.trainers.part if network.trainers is not None else 0
        trained = network.trained()
        device = next((w.device for w in trained.values() if w.is_cuda), "cpu")  # drawn where it is added
        source = generator(network.seed, NOISE, step, *([part] if part else ()), device=device)
        noise = GradientNoise(self.sigma, self.decay, self.convention, source)
        noise.steps = step
        noise.perturb(trained.values())


def _trained(network: Network) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield the name, values and gradient of every parameter that is trained and has a gradient."""
    for name, w in network.trained().items():
        if w.grad is not None:
            yield name, w.detach(), w.grad


def _weights(network: Network) -> list[tuple[str, nn.Parameter]]:
    """Return the weights of Linear and convolutional modules, in order."""
    return _named(network, "weight")


def _biases(network: Network) -> list[tuple[str, nn.Parameter]]:
    return _named(network, "bias")


def _named(network: Network, leaf: str) -> list[tuple[str, nn.Parameter]]:
    parameters = dict(network.model.named_parameters())
    owners = [name for name, module in network.model.named_modules() if isinstance(module, WEIGHTED)]
    names = [f"{name}.{leaf}" if name else leaf for name in owners]
    return [(name, parameters[name]) for name in names if name in parameters]


def _matrix(w: Tensor) -> Tensor:
    return w.detach().flatten(1)


def _power_method(W: Tensor, v: Tensor, iterations: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``u``, ``σ`` and ``v`` after some steps of the power method on ``Wᵀ W``."""
    for _ in range(iterations):
        v = nn.functional.normalize(W.T @ (W @ v), dim=0)
    image = W @ v
    sigma = image.norm()
    return image / sigma.clamp_min(torch.finfo(W.dtype).tiny), sigma, v
