"""The function-preserving escape from cloned and dead units (E2): the loss stays, the gradients change.

Clones have equal activations ``h``, so their out-weights matter only through the sum over the clones. A
perturbation ``E`` with ``Σ_u E[v, u] s_u = 0`` over each block of clones (scales ``s``, one unless told), for every
target ``v``, leaves every pre-activation as it is, on every input, through any norm, convolution, flatten or head:
activations are not touched at all. But the clones' errors ``δ(u) = Σ_v δ(v) f'(z(v)) w(u→v)`` now differ, and so do
the gradients of their in-weights from the next step on.

A dead unit sends zero, so its out-weights may be set to zero and its in-weights be drawn again. On the inputs on
which the unit was seen dead the function is kept exactly; on others it changes by what the unit would have said
there, so judge on a batch that is large enough, or rely on a certificate that holds for all inputs. Its out-weights
get gradients at once, its in-weights as soon as those have left zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from theory.tolerances import BLOCKS, of_dtype
from torch_experiments.cloning.layouts import Layout, Profile
from torch_experiments.cloning.partition import Blocks, coarsest_blocks
from torch_experiments.metrics.activity import dead
from torch_experiments.remedies.base import SPLIT, Remedy, State, Touched
from torch_experiments.remedies.moments import KEPT_SECOND_MOMENTS, SecondMoments
from torch_experiments.remedies.network import Network
from torch_experiments.remedies.replacement import replacements
from torch_experiments.remedies.settings import FLAG, POSITIVE, OneOf, Range, setting
from torch_experiments.remedies.steepest import steepest_splits
from torch_experiments.remedies.surgery import Edit, Slice, commit
from torch_experiments.support.generators import generator
from torch_experiments.units.entry import calling
from torch_experiments.units.hidden import HiddenLayer, observe
from torch_experiments.units.trace import trace


@dataclass(frozen=True)
class Escape(Remedy):
    """Split the out-weights of clones and draw the in-weights of dead units again, keeping the function (E2).

    At the start of a task and whenever asked. Clones are the blocks of the coarsest equitable partition of the
    weights (`cloning.coarsest_blocks`); the perturbation of a weight has entries of ``size`` times its rms before
    its block sums are removed. Weights with another use besides this linear map (tied ones, embeddings) are left.
    Dead units are those that are zero on the whole probe batch in eval mode. Units that a norm couples are not
    drawn again, since their neighbours would feel it. The optimizer forgets drawn units (`moments`) and keeps the
    moments of split weights. Weights that are not trained are not split, and dead units with a part that is not
    trained are left, with one warning.

    Attributes:
        size: of the perturbation, relative to the rms of the weight.
        tolerance: of the partition; 1e-9 in float64 and 1e-4 else if None.
        scaled: whether scaled and signed copies are clones too (C8).
        clones, dead: what to look for.
        direction: of the split; ``"random"`` moves out-weights and keeps the function, ``"steepest"`` moves in- and
            out-weights of each set of clones along the lowest eigenvector of its normal Hessian (C10), as far as a
            random split would in all: that keeps the function to first order and lowers the ``loss`` that the
            remedy is bound with, for about 14 Hessian-vector products a set.
        second_moments: of drawn units; their tensor's mean, or ``"zero"``.

    Source: theory E2; for dead units compare Sokar et al. (2023), arXiv 2302.12902.

    >>> from torch import nn
    >>> from torch_experiments.cloning import clone
    >>> wide = clone(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)).double())
    >>> Escape(dead=False).on(wide, torch.optim.SGD(wide.parameters())).apply()
    {'2.weight': [0, 1, 2, 3]}
    """

    size: float = setting(0.5, POSITIVE)
    tolerance: float | None = setting(None, Range(0, optional=True))
    scaled: bool = setting(True, FLAG)
    clones: bool = setting(True, FLAG)
    dead: bool = setting(True, FLAG)
    direction: Literal["random", "steepest"] = setting("random", OneOf(("random", "steepest")))
    second_moments: SecondMoments = setting("mean", KEPT_SECOND_MOMENTS)

    def at_task(self, network: Network, state: State, task: int) -> None:
        """Escape."""
        self.apply(network, state, task)

    def apply(self, network: Network, state: State, place: int) -> Touched:
        """Escape; all weights are changed, or none."""
        touched: dict[str, list[int]] = {}
        edits: list[Edit] = []
        if self.clones:
            where = self._partition(network)
            found = dict(splits(network, where, self.size, place))
            if found and self.direction == "steepest":
                steep = dict(steepest_splits(network, where, _norm(found.values()), place))
                edits += steep.values()
                touched |= {name: [] for name in steep}
            else:
                edits += found.values()
                touched |= {name: edit.at.tolist() for name, edit in found.items()}
        if self.dead and (dying := self._dead(network)):
            edits += replacements(network, dying, place, self.second_moments)
            touched |= {name: units.tolist() for name, units in dying.items()}
        commit(edits)
        return touched

    def _dead(self, network: Network) -> Mapping[str, Tensor]:
        found = dead_units(network)
        free = (
            {layer.name for layer in network.trained_layers(self) if not self._elsewhere(network, layer)}
            if found
            else ()
        )
        return {name: units for name, units in found.items() if name in free}

    def _elsewhere(self, network: Network, layer: HiddenLayer) -> bool:
        """Return whether what no example reads, such as another head, may read the units and would hear them."""
        own = {layer.units, *(len(edge.unit) for edge in layer.group.outgoing)}
        graph = network.survey.graph
        return any(axis.size in own for name in network.survey.unread for axis in graph.parameters[name].axes)

    def _partition(self, network: Network) -> Blocks:
        own = of_dtype(BLOCKS, next(network.model.parameters()).dtype)
        tolerance = own if self.tolerance is None else self.tolerance
        with calling(network.model, network.call):
            graph = trace(network.model, network.inputs, one_path=True)
            return coarsest_blocks(
                network.model, network.inputs, tolerance=tolerance, scaled=self.scaled, graph=graph
            )


def split(network: Network, where: Blocks | Layout, size: float = 0.5, place: int = 0) -> Touched:
    """Split the out-weights of the clones that a partition or the layout of a clone names; see `Escape`.

    Returns:
        The indices of the columns that were touched, by weight.

    >>> from torch import nn
    >>> from torch_experiments.cloning import clone, layout
    >>> base = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> wide = clone(base)
    >>> split(Escape().on(wide, torch.optim.SGD(wide.parameters())).network, layout(base))
    {'2.weight': [0, 1, 2, 3]}
    """
    found = dict(splits(network, where, size, place))
    commit(list(found.values()))
    return {name: edit.at.tolist() for name, edit in found.items()}


def splits(network: Network, where: Blocks | Layout, size: float, place: int) -> Iterator[tuple[str, Slice]]:
    """Yield the new columns of every trained weight that reads clones."""
    parameters = dict(network.model.named_parameters())
    trained = network.trained()
    places = (where.layout() if isinstance(where, Blocks) else where).placements
    for k, (name, dim) in enumerate(network.survey.columns.items()):
        if name not in places or not (profile := places[name].profiles[dim]).copied:
            continue
        if name not in trained:
            network.notices.say(name, f"remedy: Escape leaves the clones that {name!r} reads, as it is not trained")
            continue
        copied = (profile.block.bincount()[profile.block] > 1).nonzero().flatten()
        W = parameters[name].detach()
        E = _zero_sums(W, dim, profile, size, generator(network.seed, SPLIT, place, k))
        wide = (W.double() + E).index_select(dim, copied.to(W.device))
        yield name, Slice(parameters[name], dim, copied, wide.to(W))


def _norm(edits: Iterable[Slice]) -> float:
    """Return how far all edits together move the weights."""
    moved = (e.value.double() - e.tensor.detach().index_select(e.dim, e.at.to(e.tensor.device)) for e in edits)
    return math.sqrt(sum(float(part.square().sum()) for part in moved))


def dead_units(network: Network) -> Mapping[str, Tensor]:
    """Return the indices of the units that are zero on the whole probe batch, by layer; coupled layers left out."""
    free = [layer for layer in network.survey.layers if not layer.coupled]
    with calling(network.model, network.call):
        peaks, _ = observe(network.model, free, network.batch, lambda _, h: h.abs().amax(dim=0))
    found = {name: dead(network.agree(peak)).nonzero().flatten() for name, peak in peaks.items()}
    return {name: units for name, units in found.items() if len(units)}


def _zero_sums(W: Tensor, dim: int, profile: Profile, size: float, source: torch.Generator) -> Tensor:
    """Return noise with ``Σ_u E[v, u] s_u = 0`` over every block; a weight of zeros counts as ``1/√inputs``."""
    rms = float(W.double().square().mean().sqrt()) or 1 / math.sqrt(W.shape[dim])
    E = size * rms * torch.randn(W.shape, generator=source, dtype=torch.float64).to(W.device)
    return E - profile.project(E, dim)
