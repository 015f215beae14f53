"""Remedies against loss of plasticity, by name: what is done to a network's weights besides its training.

A remedy is a frozen dataclass of settings that is bound to one network; `REMEDIES` lists them. It may act on
gradients before each step, on weights after each step, and at the start of every task but the first. All
randomness comes from the network's seed and the step, and what else has to survive an interruption is in
``state``. Layer norm, batch norm, dropout and other activations are architecture, and no remedies here.

For a model and an optimizer of your own::

    recycle = remedies.ReDo(every=1000).on(model, optimizer, example_inputs=x).attach()
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from torch_experiments.remedies.base import NOISE, Remedy
from torch_experiments.remedies.bound import Bound, bind, redrawn
from torch_experiments.remedies.control import Controlled
from torch_experiments.remedies.escape import Escape, split
from torch_experiments.remedies.recovery import Action, Recovery
from torch_experiments.remedies.regularisers import L2, L2Init, Noise, Parseval, RankBonus, Spectral, Syre
from torch_experiments.remedies.replacement import ContinualBackprop, ReDo, SelfNormalizedReset, replace
from torch_experiments.remedies.weights import Fresh, OptimizerReset, ShrinkPerturb, WeightClipping
from torch_experiments.support.choices import choose

REMEDIES: Mapping[str, type[Remedy]] = {
    "none": Remedy,
    "l2": L2,
    "l2-init": L2Init,
    "shrink-perturb": ShrinkPerturb,
    "noise": Noise,
    "optimizer-reset": OptimizerReset,
    "redo": ReDo,
    "cbp": ContinualBackprop,
    "snr": SelfNormalizedReset,
    "weight-clipping": WeightClipping,
    "spectral": Spectral,
    "parseval": Parseval,
    "syre": Syre,
    "rank": RankBonus,
    "escape": Escape,
    "recovery": Controlled,
    "fresh": Fresh,
}


def make(name: str, **settings: Any) -> Remedy:
    """Return the remedy ``name`` of `REMEDIES`.

    Raises:
        ValueError: for an unknown name, an unknown setting, or a value that a setting cannot have; it lists what
            is allowed.

    >>> make("redo", every=50)
    ReDo(second_moments='zero', every=50, threshold=0.025)
    >>> make("redo", every=0)
    Traceback (most recent call last):
    ValueError: every: got 0; it has to be a whole number in [1, ∞)
    """
    kind = choose("remedy", name, REMEDIES)
    known = [field.name for field in fields(kind) if field.init]
    for setting in settings:
        if setting not in known:
            allowed = f"allowed are {', '.join(map(repr, known))}" if known else "it has none"
            raise ValueError(f"settings of the remedy {name!r}: got {setting!r}; {allowed}")
    return kind(**settings)


__all__ = [
    "L2",
    "NOISE",
    "REMEDIES",
    "Action",
    "Bound",
    "ContinualBackprop",
    "Controlled",
    "Escape",
    "Fresh",
    "L2Init",
    "Noise",
    "OptimizerReset",
    "Parseval",
    "RankBonus",
    "ReDo",
    "Recovery",
    "Remedy",
    "SelfNormalizedReset",
    "ShrinkPerturb",
    "Spectral",
    "Syre",
    "WeightClipping",
    "bind",
    "make",
    "redrawn",
    "replace",
    "split",
]
