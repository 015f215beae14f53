"""The optimizers of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from torch_experiments.support.choices import choose, two_betas, up_to

Name = Literal["adam", "sgd", "adamw", "rmsprop", "muon"]
BETAS = (0.9, 0.999)  # Adam's default
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "adam": ("betas",),
    "sgd": ("momentum",),
    "adamw": ("betas", "weight_decay"),
    "rmsprop": (),
    "muon": ("betas", "weight_decay"),
}  # what each takes besides its rate; momentum, which all configurations have, is read for sgd alone


def check(name: str, momentum: float, betas: Sequence[float], weight_decay: float | None) -> None:
    """Raise a ValueError that names the field where these settings cannot be, or the optimizer does not take one.

    >>> check("rmsprop", 0.9, (0.9, 0.9), None)
    Traceback (most recent call last):
    ValueError: betas: 'rmsprop' does not take it; those that do are 'adam', 'adamw', 'muon'
    """
    options = choose("optimizer", name, OPTIONS)
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum: got {momentum}; it has to be in [0, 1)")
    two_betas(betas)
    if weight_decay is not None:
        up_to(math.inf, weight_decay=weight_decay)
    given = {"betas": tuple(betas) != BETAS, "weight_decay": weight_decay is not None}
    for option, changed in given.items():
        if changed and option not in options:
            takers = ", ".join(repr(other) for other, taken in OPTIONS.items() if option in taken)
            raise ValueError(f"{option}: {name!r} does not take it; those that do are {takers}")


def make(
    name: str,
    parameters: Sequence[Tensor],
    lr: float,
    *,
    momentum: float = 0.9,
    betas: tuple[float, float] = BETAS,
    weight_decay: float | None = None,
) -> Optimizer:
    """Return the optimizer ``name`` for ``parameters``; what is not given is as torch has it.

    >>> type(make("rmsprop", [torch.zeros(2, requires_grad=True)], 0.01)).__name__
    'RMSprop'
    """
    decay: dict[str, Any] = {} if weight_decay is None else {"weight_decay": weight_decay}
    if name == "adam":
        return torch.optim.Adam(parameters, lr=lr, betas=betas, fused=True)
    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=lr, betas=betas, fused=True, **decay)
    if name == "rmsprop":
        return torch.optim.RMSprop(parameters, lr=lr)
    if name == "muon":
        return MuonForMatrices(parameters, lr, betas, decay)
    return torch.optim.SGD(parameters, lr=lr, momentum=momentum, fused=True)


class MuonForMatrices(Optimizer):
    """Muon for matrices and AdamW for all else (biases, norms, kernels of convolutions), with one state.

    Steps of Muon are scaled to the root mean square of AdamW's, so that both take one rate.

    Source: Jordan et al. (2024); the scale is that of Liu et al. (2025), arXiv 2502.16982.

    >>> optimizer = MuonForMatrices([torch.zeros(2, 2), torch.zeros(2)], 0.01, BETAS, {})
    >>> [type(part).__name__ for part in optimizer.parts]
    ['Muon', 'AdamW']
    """

    def __init__(
        self, parameters: Sequence[Tensor], lr: float, betas: tuple[float, float], decay: Mapping[str, Any]
    ) -> None:
        super().__init__(parameters, {"lr": lr})
        matrices, rest = ([p for p in parameters if (p.ndim == 2) == wanted] for wanted in (True, False))
        self.parts: list[Optimizer] = []
        if matrices:
            self.parts.append(torch.optim.Muon(matrices, lr=lr, adjust_lr_fn="match_rms_adamw", **decay))
        if rest:
            self.parts.append(torch.optim.AdamW(rest, lr=lr, betas=betas, fused=True, **decay))
        self._share()

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take one step along the gradients that are there."""
        for part in self.parts:
            part.step()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a state, which is another object from then on."""
        super().load_state_dict(dict(state_dict))
        self._share()

    def _share(self) -> None:
        for part in self.parts:
            part.state = self.state
