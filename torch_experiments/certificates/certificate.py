"""The certificate of a network: on which manifold it is trapped, for which reason, and what would free it.

A certificate speaks of the weights as they are. Frozen units and exact copies hold weights: entries without
gradient, and entries that move together. What is left are the free dimensions; `optimizer` says whether the rule
that trains the network keeps all this, `stability` how soon rounding or noise would carry it away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from theory.certificates import Reason
from torch_experiments.certificates.frozen.analysis import Bound, Frozen, frozen_units
from torch_experiments.certificates.manifold import places
from torch_experiments.certificates.near import Cluster, near_clones
from torch_experiments.certificates.optimizer.verdicts import OptimizerVerdict, optimizer_verdict
from torch_experiments.certificates.stability import Stability, stability
from torch_experiments.cloning.layouts import Layout, Profile
from torch_experiments.cloning.partition import Blocks, coarsest_blocks, named
from torch_experiments.cloning.widen import DOES_NOT_RUN, SAMPLES
from torch_experiments.diagnostics.gradients import default_loss
from torch_experiments.units.groups import choose
from torch_experiments.units.hidden import Survey, survey
from torch_experiments.units.inputs import (
    Inputs,
    call,
    first_samples,
    has_samples,
    not_finite,
    same_device,
    sample_count,
    samples_between,
)

Part = Literal["frozen", "near", "optimizer", "stability"]
PARTS: tuple[Part, ...] = ("frozen", "near", "optimizer", "stability")
TOLERANCE: Mapping[torch.dtype, float] = {
    torch.float64: 1e-9,
    torch.float32: 1e-5,
    torch.bfloat16: 2e-2,
    torch.float16: 2e-3,
}
Loss = Callable[[Any], Tensor]


@dataclass(frozen=True, eq=False)
class Certificate:
    """What a network is trapped on.

    Attributes:
        model: name of its class.
        frozen: units without gradient, each with its reason and radius; None if not asked for.
        blocks: the coarsest partition into copies, scaled and signed ones included.
        boxed: whether units that are dead wherever inputs lie in a box were looked for.
        near: clusters of near-clones on the batch; None if not asked for.
        parameters: entries of the trained parameters that the network reads.
        dimension: of the set on which gradients on the batch keep it: ``parameters`` less one for every entry that
            is frozen or moves with another.
        optimizer: whether the rule keeps the network there; of gradient flow if no optimizer was given.
        stability: of the manifold, with the predicted escape; None without a loss, or if nothing is trapped.
        notes: what was not looked at, or could not be judged, and why.
        seconds: that it took.
    """

    model: str
    frozen: Frozen | None
    boxed: bool
    blocks: Blocks
    near: tuple[Cluster, ...] | None
    parameters: int
    dimension: int
    optimizer: OptimizerVerdict | None
    stability: Stability | None
    notes: tuple[str, ...]
    seconds: float

    @property
    def free_fraction(self) -> float:
        """Share of the parameters that gradients can really move: 1 for a network that nothing traps."""
        return self.dimension / max(self.parameters, 1)

    @property
    def trapped(self) -> bool:
        """Whether some weights cannot move, or move only together."""
        return self.dimension < self.parameters

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings, lists and dicts, for JSON."""
        return {
            "model": self.model,
            "parameters": self.parameters,
            "dimension": self.dimension,
            "free_fraction": self.free_fraction,
            "frozen": None if self.frozen is None else self.frozen.to_dict(),
            "copies": copies(self.blocks),
            "near": None if self.near is None else [asdict(cluster) for cluster in self.near],
            "optimizer": None if self.optimizer is None else asdict(self.optimizer),
            "stability": None if self.stability is None else asdict(self.stability),
            "notes": list(self.notes),
            "seconds": self.seconds,
        }

    def to_html(self) -> str:
        """Return the printed certificate as a page of HTML."""
        from torch_experiments.certificates.report import html

        return html(self)

    def __rich__(self) -> Any:
        """Return what `rich.print` shows."""
        from torch_experiments.certificates.report import rendered

        return rendered(self)

    def __str__(self) -> str:
        """Return the certificate as plain text."""
        from torch_experiments.certificates.report import text

        return text(self)


def certify(
    model: nn.Module,
    inputs: Inputs,
    optimizer: Optimizer | None = None,
    *,
    targets: Tensor | None = None,
    loss: Loss | None = None,
    box: tuple[Bound, Bound] | None = None,
    parts: Collection[Part] = PARTS,
    tolerance: float | None = None,
    near: float = 0.1,
    iterations: int = 30,
) -> Certificate:
    """Return the certificate of ``model``: frozen units, copies, and whether training can leave them.

    The partition reads the weights alone and costs ``O(parameters)`` a round; frozen and near-cloned units cost a
    few forward passes of ``inputs``; the stability about ``4 · iterations`` of them, and is looked at only where
    there are copies or frozen entries and a loss.

    Args:
        model: any module that can be traced; left as it is.
        inputs: a batch: a tensor, a sequence of positional or a mapping of keyword arguments. Statements that are
            ``observed`` are about these samples.
        optimizer: that trains the model, with its state; gradient flow if None.
        targets: of the samples, for the stability: class numbers (cross entropy) or numbers (squared error).
        loss: of the model's output, instead of ``targets``.
        box: lower and upper bound of all inputs, for units that are frozen wherever the inputs lie in it.
        parts: what to look at besides copies.
        tolerance: relative, of sums of copies' weights; by dtype 1e-9 (float64), 1e-5 (float32), 2e-2 (bfloat16).
        near: the distance of activations up to which units are near-clones.
        iterations: of Lanczos' method.

    Raises:
        TraceError: (a ValueError) for a model that cannot be traced; it names the layer and the fix.
        ValueError: for unknown parts, NaN activations, or arguments out of range.

    Source: claims F1 to F2d, C1 to C11, M1, M2.
    """
    start = time.perf_counter()
    _check_parts(parts)
    _check_finite(model, inputs)
    few, known = _surveyed(model, inputs)
    tolerance = _tolerance(model) if tolerance is None else tolerance
    blocks = coarsest_blocks(model, few, tolerance=tolerance, scaled=True, graph=known.graph)
    frozen = None
    if "frozen" in parts:
        frozen = frozen_units(model, few, graph=known.graph, batches=_rest(inputs, few), box=box)
    masks = {} if frozen is None else frozen.entries
    layout = blocks.layout() if any(profile.copied for profile in blocks.groups.values()) else None
    parameters, dimension = count(model, known, layout, masks)
    notes = list(_notes(model, known, frozen, parts))
    verdict = None
    if "optimizer" in parts:
        signed = {} if frozen is None else frozen.entries_of(Reason.SIGN)
        verdict = optimizer_verdict(
            model, optimizer, layout, masks, sign_frozen=signed, tolerance=_slack(tolerance)
        )
    held = None
    if "stability" in parts and dimension < parameters:
        closure = _closure(model, inputs, targets, loss)
        if closure is None:
            notes.append("stability: needs a loss; give targets (on the command line, --batch FILE with targets)")
        else:
            held = stability(
                model,
                layout,
                closure,
                frozen=masks,
                optimizer=optimizer,
                iterations=iterations,
                tolerance=_slack(tolerance),
            )
    clusters = None
    if "near" in parts:
        clusters = _inexact(near_clones(model, inputs, threshold=near, known=known), known, blocks)
    seconds = time.perf_counter() - start
    return Certificate(
        model=type(model).__name__,
        frozen=frozen,
        boxed=box is not None,
        blocks=blocks,
        near=clusters,
        parameters=parameters,
        dimension=dimension,
        optimizer=verdict,
        stability=held,
        notes=tuple(notes),
        seconds=seconds,
    )


def count(model: nn.Module, known: Survey, layout: Layout | None, frozen: Mapping[str, Tensor]) -> tuple[int, int]:
    """Return how many entries are trained, and in how many directions gradients on the manifold move them."""
    trained = {n: p for n, p in model.named_parameters() if n in known.graph.used and p.requires_grad}
    held = sum(place.codimension for name, place in places(model, layout, frozen).items() if name in trained)
    total = sum(p.numel() for p in trained.values())
    return total, total - held


def copies(blocks: Blocks) -> dict[str, dict[str, Any]]:
    """Return by group of units how many there are, how many differ, and the sets of copies with their scales."""
    return {name: _summary(profile) for name, profile in blocks.groups.items()}


def _summary(profile: Profile) -> dict[str, Any]:
    count = profile.block.bincount()
    sets = [(profile.block == b).nonzero().flatten() for b in (count > 1).nonzero().flatten().tolist()]
    scales = profile.scale[torch.cat(sets)] if sets else torch.ones(1)
    kind = "identical" if bool((scales == 1).all()) else "signed" if bool((scales.abs() == 1).all()) else "scaled"
    return {
        "units": len(profile.block),
        "different": len(count),
        "kind": kind if sets else "none",
        "copies": [members.tolist() for members in sets],
        "scales": [profile.scale[members].tolist() for members in sets],
    }


def _surveyed(model: nn.Module, inputs: Inputs) -> tuple[Inputs, Survey]:
    """Return the first samples and a survey with them; with all where the network has a batch size of its own."""
    few = first_samples(inputs, SAMPLES)
    try:
        return few, survey(model, few)
    except DOES_NOT_RUN:
        return inputs, survey(model, inputs)


def _rest(inputs: Inputs, few: Inputs) -> list[Inputs]:
    """Return the samples that ``few``, the first of ``inputs``, leaves out."""
    first, every = sample_count(few), sample_count(inputs)
    return [samples_between(inputs, first, every)] if first < every else []


def _inexact(clusters: Collection[Cluster], known: Survey, blocks: Blocks) -> tuple[Cluster, ...]:
    """Return the clusters that hold more than copies of one unit."""
    names = {axis: name for name, axis in named(known.graph, choose(known.graph, "heads"))}
    label = {layer.name: blocks.groups.get(names[layer.group.axis]) for layer in known.layers}
    block = {name: None if profile is None else profile.block for name, profile in label.items()}
    found = []
    for cluster in clusters:
        own = block[cluster.layer]
        if own is None or len(own[list(cluster.units)].unique()) > 1:
            found.append(cluster)
    return tuple(found)


def _closure(
    model: nn.Module, inputs: Inputs, targets: Tensor | None, loss: Loss | None
) -> Callable[[], Tensor] | None:
    if loss is not None:
        return lambda: loss(call(model, inputs))
    if targets is None:
        return None

    def mean_loss() -> Tensor:
        value = default_loss(call(model, inputs), targets)
        assert value is not None  # targets were given
        return value

    return mean_loss


def _notes(model: nn.Module, known: Survey, frozen: Frozen | None, parts: Collection[Part]) -> list[str]:
    found = [f"{part}: not asked for" for part in PARTS if part not in parts]
    unread = [name for name, _ in model.named_parameters() if name not in known.graph.used]
    still = [name for name, p in model.named_parameters() if name in known.graph.used and not p.requires_grad]
    if unread:
        found.append(f"not read on this batch, so not counted: {', '.join(unread)}")
    if still:
        found.append(f"not trained (requires_grad is False), so not counted: {', '.join(still)}")
    if frozen is not None:
        found += _grouped("frozen", {missing.layer: missing.why for missing in frozen.missing})
    if "near" in parts:
        found += _grouped("near-clones", known.skipped)
    return found


def _grouped(part: str, reasons: Mapping[str, str]) -> list[str]:
    """Return one note a reason, with the layers that it is about."""
    layers: dict[str, list[str]] = {}
    for layer, why in reasons.items():
        layers.setdefault(why, []).append(layer)
    return [f"{part}: {', '.join(names)}: {why}" for why, names in layers.items()]


def _tolerance(model: nn.Module) -> float:
    kinds = {p.dtype for p in model.parameters() if p.dtype.is_floating_point}
    return max((TOLERANCE.get(kind, 1e-5) for kind in kinds), default=1e-9)


def _slack(tolerance: float) -> float:
    """Return how far, relative to a whole layer, sums may be off when each is off by ``tolerance`` at most."""
    return 10 * tolerance


def _check_finite(model: nn.Module, inputs: Inputs) -> None:
    same_device(model, inputs)
    has_samples(inputs)
    layer = not_finite(model, inputs)
    if layer:
        raise ValueError(
            f"layer {layer!r}: its output holds NaN or infinity, of which nothing can be certified; check inputs "
            "and parameters (a learning rate that is too large is the usual cause)"
        )


def _check_parts(parts: Collection[Part]) -> None:
    unknown = [part for part in parts if part not in PARTS]
    if isinstance(parts, str) or unknown:
        raise ValueError(f"parts: got {parts!r}; it has to be a collection of {', '.join(PARTS)}")
