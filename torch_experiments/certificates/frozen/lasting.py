"""Which frozen units stay frozen while the rest of the network trains (claims F2, F2a).

A unit that is frozen by sign stays so whatever happens upstream. One that is frozen on a batch, or in a box, has a
pre-activation that training may move: it *lasts* if no entry that trains feeds it, its own in-weights being held
at gradient zero by itself. What feeds a unit is read off the structure of the network, as in `entries`: with random
weights and slopes, the derivative of its pre-activation with respect to an entry is a polynomial that is not zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import torch
from torch import Tensor, nn

from torch_experiments.certificates.frozen.activation_sites import Site
from torch_experiments.certificates.frozen.entries import (
    ChoiceError,
    Flags,
    OverflowedError,
    probe_of,
    zero_entries,
)
from torch_experiments.units.graph import Graph

Masks = Mapping[str, Tensor]


def lasting(
    graph: Graph, model: nn.Module, firm: Flags, rest: Flags, trained: Set[str]
) -> tuple[Masks, dict[Site, Tensor]]:
    """Return the entries that stay without gradient, and of the units in ``rest`` those that last, by site.

    The largest set of units that hold each other: it begins with all and loses, until nothing changes, the sites
    that a trained entry feeds which the set does not hold.

    Args:
        graph: of the trace.
        model: the network.
        firm: units that stay frozen in any case; whether their slope and their value is zero.
        rest: the other frozen units, likewise.
        trained: names of the parameters that move.
    """
    parameters = dict(model.named_parameters())
    none = {name: torch.zeros_like(p, dtype=torch.bool) for name, p in parameters.items()}
    left = dict(rest)
    while True:
        flags = together(firm, left)
        if not flags:
            return none, {}
        try:
            (held,) = zero_entries(graph, parameters, [flags])
            fed = [site for site in left if _is_fed(graph, parameters, flags, site, left[site][0], held, trained)]
        except (ChoiceError, OverflowedError):
            return none, {}
        if not fed:
            return held, {site: slope for site, (slope, _) in left.items()}
        for site in fed:
            del left[site]


def together(one: Flags, other: Flags) -> dict[Site, tuple[Tensor, Tensor]]:
    """Return the union of two sets of units."""
    found = dict(one)
    for site, (slope, zero) in other.items():
        known = found.get(site)
        found[site] = (slope, zero) if known is None else (slope | known[0], zero | known[1])
    return {site: flags for site, flags in found.items() if bool(flags[0].any())}


def _is_fed(
    graph: Graph,
    parameters: Mapping[str, Tensor],
    flags: Flags,
    site: Site,
    units: Tensor,
    held: Masks,
    trained: Set[str],
) -> bool:
    """Return whether the pre-activation of one of the units depends on a trained entry that is not held."""
    replay, leaves, generator = probe_of(graph, parameters, flags, 0)
    z = replay.sites[site.step.number] if site.composite is None else replay.value(site.argument)
    chosen = site.spread(units, z)
    wanted = [name for name in leaves if name in trained]
    if not wanted or not z.requires_grad:
        return False
    weights = torch.randn(z.shape, generator=generator, dtype=z.dtype).to(z.device)
    total = (z * weights * chosen).sum()
    found: Sequence[Tensor | None] = torch.autograd.grad(total, [leaves[n] for n in wanted], allow_unused=True)
    return any(g is not None and bool((g[~held[n]] != 0).any()) for n, g in zip(wanted, found, strict=True))
