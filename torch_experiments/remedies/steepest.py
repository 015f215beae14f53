"""The directions in which clones part fastest: the lowest eigenvectors of their normal Hessians.

Of a set of clones all moves of in- and out-weights count that are normal to the cloned manifold. On them the
Hessian has the blocks ``(a/n) A, b, bᵀ, 0`` (C10). ``A`` alone is the splitting matrix of Liu, Wu & Wang (2019),
arXiv 1910.02366, who move in-weights. A move along the lowest eigenvector lowers the loss at once, to second order.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from torch_experiments.certificates.oracle import left_alone
from torch_experiments.certificates.stability import NormalHessian, normal_places
from torch_experiments.cloning.partition import Blocks, named, scales_of
from torch_experiments.remedies.base import SPLIT
from torch_experiments.remedies.network import Network
from torch_experiments.remedies.surgery import Whole
from torch_experiments.support.generators import generator
from torch_experiments.support.lanczos import ends
from torch_experiments.units.axes import Axis
from torch_experiments.units.groups import choose

ITERATIONS = 12  # of Lanczos' method: the eigenvalues of a ReLU's clones are ±‖b‖ and 0, found in three


def steepest_splits(network: Network, where: Blocks, size: float, place: int) -> Iterator[tuple[str, Whole]]:
    """Yield the new values of every trained parameter of clones; all sets move equally far, ``size`` together.

    Args:
        network: bound with a loss.
        where: the clones.
        size: norm of the whole move.
        place: chooses the signs.

    Raises:
        ValueError: the network was bound without a loss.
    """
    if network.loss is None:
        raise ValueError("direction: 'steepest' needs the loss; bind the remedy with loss=lambda: ...")
    trained = network.trained()
    found = {n: p for n, p in normal_places(network.model, where.layout(), None).items() if n in trained}
    with left_alone(network.model):
        hessian = NormalHessian(found, network.loss)
        moves = [
            _lowest(hessian, mask, generator(network.seed, SPLIT, place, k))
            for k, mask in enumerate(_masks(network, where, list(found)))
            if bool(mask.any())
        ]
    if moves:
        total = torch.stack(moves).sum(dim=0)
        for (name, p), part in zip(found.items(), hessian.whole.split(total * (size / total.norm())), strict=True):
            yield name, Whole(p.parameter, p.parameter.detach() + part)


def _lowest(hessian: NormalHessian, mask: Tensor, source: torch.Generator) -> Tensor:
    """Return the lowest eigenvector of the normal Hessian among moves of the masked weights."""
    start = mask * hessian.random(source)
    return ends(lambda v: mask * hessian.product(mask * v), start / start.norm(), ITERATIONS)[0].vector


def _masks(network: Network, where: Blocks, names: list[str]) -> Iterator[Tensor]:
    """Yield for every block of two units or more which entries of the parameters enter or leave them."""
    graph = network.survey.graph
    for group, axis in named(graph, choose(graph, "heads")):
        if group in where.groups:
            blocks = where.groups[group].block
            for block in (blocks.bincount() > 1).nonzero().flatten():
                parts = [_touching(network, name, axis, blocks == block) for name in names]
                yield torch.cat([part.flatten() for part in parts])


def _touching(network: Network, name: str, axis: Axis, chosen: Tensor) -> Tensor:
    """Return 1 on the entries of a parameter that belong to a chosen unit along some dimension, else 0."""
    parameter = network.model.get_parameter(name)
    touched = torch.zeros(parameter.shape, dtype=torch.bool)
    for dim, own in enumerate(network.survey.graph.parameters[name].axes):
        with_units, without = ({axis: part.double()} for part in (chosen, torch.zeros(len(chosen))))
        along = (scales_of(own, with_units) - scales_of(own, without)) > 0
        touched |= along.view([-1 if k == dim else 1 for k in range(parameter.dim())])
    return touched.to(parameter)
