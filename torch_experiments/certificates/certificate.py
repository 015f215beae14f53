"""The certificate of a network: on which manifold it is trapped, for which reason, and what would free it.

A certificate speaks of the weights as they are. Frozen units and exact copies hold weights: entries without
gradient, and entries that move together. What is left are the free dimensions; `optimizer` says whether the rule
that trains the network keeps all this, `stability` how soon rounding or noise would carry it away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from torch import Tensor, nn
from torch.optim import Optimizer

from theory.firmness import Firmness
from theory.tolerances import COPIES, LAYER, SUMS, of_dtype
from torch_experiments.certificates.display import copies, html, rendered, text
from torch_experiments.certificates.frozen.analysis import Bound, Frozen, frozen_units, lasting_entries
from torch_experiments.certificates.manifold import places
from torch_experiments.certificates.mode import mode_of
from torch_experiments.certificates.near import Cluster, near_clones
from torch_experiments.certificates.optimizer.verdicts import OptimizerVerdict, optimizer_verdict
from torch_experiments.certificates.oracle import Reach, reach, unread_outputs
from torch_experiments.certificates.rounding import Rounding, contradicted, rounding
from torch_experiments.certificates.stability import Stability, stability
from torch_experiments.certificates.training_copy import descended
from torch_experiments.certificates.unreached import Unreached, unreached
from torch_experiments.cloning.layouts import Layout, Profile
from torch_experiments.cloning.partition import Blocks, coarsest_blocks, named
from torch_experiments.cloning.widen import DOES_NOT_RUN, SAMPLES
from torch_experiments.diagnostics.losses import default_loss
from torch_experiments.support.storages import shared_storages, sharing, told
from torch_experiments.support.strict import strict
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
        reached: how many of these directions a real backward pass reached.
        unreached: the entries that no backward pass reached and no certificate explains, with the likeliest reason.
        passes: which backward passes were run, or why none could be.
        optimizer: whether the rule keeps the network there; of gradient flow if no optimizer was given.
        stability: of the manifold, with the predicted escape; None without a loss, or if nothing is trapped.
        rounding: what a few real steps on a copy showed: what this machine's arithmetic does to the promises, which
            are about exact arithmetic; None without an optimizer.
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
    reached: int
    unreached: tuple[Unreached, ...]
    passes: str
    optimizer: OptimizerVerdict | None
    stability: Stability | None
    rounding: Rounding | None
    notes: tuple[str, ...]
    seconds: float

    @property
    def free_fraction(self) -> float:
        """Share of the parameters that are free and reached: 1 where nothing traps and all is read."""
        return self.reached / max(self.parameters, 1)

    @property
    def unheld_fraction(self) -> float:
        """Share of the parameters that no frozen unit and no copy holds, whether this batch reaches them or not."""
        return self.dimension / max(self.parameters, 1)

    @property
    def trapped(self) -> bool:
        """Whether some weights cannot move, or move only together."""
        return self.dimension < self.parameters

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings, lists and dicts, for JSON; infinity is the string ``"inf"``."""
        found = {
            "model": self.model,
            "parameters": self.parameters,
            "dimension": self.dimension,
            "reached": self.reached,
            "free_fraction": self.free_fraction,
            "unreached": [asdict(part) for part in self.unreached],
            "passes": self.passes,
            "frozen": None if self.frozen is None else self.frozen.to_dict(),
            "copies": copies(self.blocks),
            "near": None if self.near is None else [asdict(cluster) for cluster in self.near],
            "optimizer": None if self.optimizer is None else asdict(self.optimizer),
            "stability": None if self.stability is None else asdict(self.stability),
            "rounding": None if self.rounding is None else asdict(self.rounding),
            "notes": list(self.notes),
            "seconds": self.seconds,
        }
        return {key: strict(value) for key, value in found.items()}

    def to_html(self) -> str:
        """Return the printed certificate as a page of HTML."""
        return html(self)

    def __rich__(self) -> Any:
        """Return what `rich.print` shows."""
        return rendered(self)

    def __str__(self) -> str:
        """Return the certificate as plain text."""
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
    few forward passes of ``inputs``; the stability about ``4 · iterations`` passes forward and back, and is looked
    at only where there are copies or frozen entries and a loss. With an optimizer a copy takes two real steps.

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

    >>> import torch
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))  # with all weights 1 three copies of one
    >>> nn.utils.vector_to_parameters(torch.ones(13), model.parameters())
    >>> found = certify(model, torch.eye(4, 2))
    >>> found.parameters, found.dimension, found.optimizer.clones
    (13, 5, 'kept')
    """
    start = time.perf_counter()
    _check_parts(parts)
    _check_finite(model, inputs)  # first: all comparisons with NaN are false, which would look like evidence
    seen = _Seen.of(model, inputs, tolerance, _of_output(targets, loss))
    frozen = seen.frozen(box) if "frozen" in parts else None
    parameters, dimension = count(model, seen.known, seen.layout, _entries(frozen))
    mean = _loss_of(model, inputs, targets, loss)
    rule = seen.verdict(optimizer, frozen) if "optimizer" in parts else None
    silent = unreached(model, seen.known.graph, seen.reach, _entries(frozen))
    wanted = "stability" in parts and dimension < parameters
    held = None
    if wanted and mean is not None:
        held = seen.stability(mean, optimizer, frozen, iterations)
    tried = None
    if optimizer is not None and rule is not None:
        tried = seen.rounding(optimizer, targets, loss, frozen, rule, held)
        rule = contradicted(rule, tried)
    return Certificate(
        model=type(model).__name__,
        frozen=frozen,
        boxed=box is not None,
        blocks=seen.blocks,
        near=seen.near(near) if "near" in parts else None,
        parameters=parameters,
        dimension=dimension,
        reached=dimension - seen.silent(frozen),
        unreached=silent,
        passes=seen.reach.refused or seen.reach.passes,
        optimizer=rule,
        stability=held,
        rounding=tried,
        notes=tuple(_notes(seen, frozen, silent, parts, without_loss=wanted and mean is None)),
        seconds=time.perf_counter() - start,
    )


@dataclass(frozen=True, eq=False)
class _Seen:
    """A model on a batch, and what several parts of its certificate read.

    Attributes:
        model, inputs: as given.
        few: the first samples, enough for what is the same on all.
        known: the survey of the model.
        blocks, layout: its copies; no layout if there are none.
        slack: how far, relative to a whole layer, sums may be off.
        reach: what real backward passes reached.
    """

    model: nn.Module
    inputs: Inputs
    few: Inputs
    known: Survey
    blocks: Blocks
    layout: Layout | None
    slack: float
    reach: Reach

    @classmethod
    def of(cls, model: nn.Module, inputs: Inputs, tolerance: float | None, loss: Loss | None) -> Self:
        """Survey a model, and find its copies."""
        few, known = _surveyed(model, inputs, unread_outputs(model, inputs, loss))
        each = _tolerance(model) if tolerance is None else tolerance
        blocks = coarsest_blocks(model, few, tolerance=each, scaled=True, graph=known.graph)
        copied = any(profile.copied for profile in blocks.groups.values())
        layout = blocks.layout() if copied else None
        return cls(model, inputs, few, known, blocks, layout, LAYER * each, reach(model, inputs, loss))

    def frozen(self, box: tuple[Bound, Bound] | None) -> Frozen:
        """Return the units without gradient on the whole batch."""
        graph = self.known.graph
        mode = mode_of(self.model, graph, self.few)
        batches = [self.inputs] if mode.whole else _rest(self.inputs, self.few)
        return frozen_units(
            self.model, self.few, graph=graph, batches=batches, gradients=self.reach, mode=mode, box=box
        )

    def verdict(self, optimizer: Optimizer | None, frozen: Frozen | None) -> OptimizerVerdict:
        """Return what the rule keeps."""
        signed = {} if frozen is None else frozen.entries_of(Firmness.SIGN)
        lasts = None
        if frozen is not None:
            lasts = lasting_entries(self.model, self.known.graph, frozen, _moving(self.model, optimizer))
        return optimizer_verdict(
            self.model,
            optimizer,
            self.layout,
            _entries(frozen),
            sign_frozen=signed,
            lasting=lasts,
            gradients=self.reach.gradients,
            custom=self.reach.custom,
            tolerance=self.slack,
        )

    def silent(self, frozen: Frozen | None) -> int:
        """Return in how many of the free directions no backward pass moved the network."""
        if self.reach.refused:
            return 0
        held = _entries(frozen)
        unread = {name: ~mask for name, mask in self.reach.masks.items()}
        both = {name: mask | held[name].to(mask.device) if name in held else mask for name, mask in unread.items()}
        certified = {n: p.codimension for n, p in places(self.model, self.layout, held).items()}
        found = places(self.model, self.layout, both).items()
        own = self.known.graph.used - sharing(shared_storages(self.model))
        counted = {n: p for n, p in found if n in self.reach.masks and n in own}
        return sum(place.codimension - certified.get(name, 0) for name, place in counted.items())

    def stability(
        self, loss: Callable[[], Tensor], optimizer: Optimizer | None, frozen: Frozen | None, iterations: int
    ) -> Stability:
        """Return how firmly the model is held."""
        return stability(
            self.model,
            self.layout,
            loss,
            frozen=_entries(frozen),
            optimizer=optimizer,
            iterations=iterations,
            tolerance=self.slack,
        )

    def rounding(
        self,
        optimizer: Optimizer,
        targets: Tensor | None,
        loss: Loss | None,
        frozen: Frozen | None,
        verdict: OptimizerVerdict,
        stability: Stability | None,
    ) -> Rounding:
        """Return what a few real steps on a copy show."""
        of_output, _ = descended(self.model, self.inputs, targets, loss)
        return rounding(
            self.model,
            self.inputs,
            optimizer,
            of_output,
            frozen=frozen,
            layout=self.layout,
            verdict=verdict,
            stability=stability,
        )

    def near(self, threshold: float) -> tuple[Cluster, ...]:
        """Return the clusters of near-clones that hold more than copies of one unit."""
        names = {axis: name for name, axis in named(self.known.graph, choose(self.known.graph, "heads"))}
        group = {layer.name: self.blocks.groups.get(names[layer.group.axis]) for layer in self.known.layers}
        clusters = near_clones(self.model, self.inputs, threshold=threshold, known=self.known)
        return tuple(cluster for cluster in clusters if _differ(cluster, group[cluster.layer]))


def count(model: nn.Module, known: Survey, layout: Layout | None, frozen: Mapping[str, Tensor]) -> tuple[int, int]:
    """Return how many entries are trained, and in how many directions gradients on the manifold move them.

    The second is the first less one for every normal direction (`manifold.Place`) of parameters with memory of
    their own; entries of two parameters on one storage count once.
    """
    trained = {n: p for n, p in model.named_parameters() if n in known.graph.used and p.requires_grad}
    own = trained.keys() - sharing(shared_storages(model))
    held = sum(place.codimension for name, place in places(model, layout, frozen).items() if name in own)
    twice = sum(max(others.values()) for name, others in shared_storages(model).items() if name in trained)
    total = sum(p.numel() for p in trained.values()) - twice
    return total, total - held


def _surveyed(model: nn.Module, inputs: Inputs, unread: Collection[int]) -> tuple[Inputs, Survey]:
    """Return the first samples and a survey with them; with all where the network has a batch size of its own.

    A trace keeps every tensor, and what it finds does not depend on the number of samples.
    """
    few = first_samples(inputs, SAMPLES)
    try:
        return few, survey(model, few, unread=unread)
    except DOES_NOT_RUN:
        return inputs, survey(model, inputs, unread=unread)


def _rest(inputs: Inputs, few: Inputs) -> list[Inputs]:
    """Return the samples that ``few``, the first of ``inputs``, leaves out."""
    first, every = sample_count(few), sample_count(inputs)
    return [samples_between(inputs, first, every)] if first < every else []


def _entries(frozen: Frozen | None) -> Mapping[str, Tensor]:
    return {} if frozen is None else frozen.entries


def _differ(cluster: Cluster, profile: Profile | None) -> bool:
    return profile is None or len(profile.block[list(cluster.units)].unique()) > 1


def _loss_of(
    model: nn.Module, inputs: Inputs, targets: Tensor | None, loss: Loss | None
) -> Callable[[], Tensor] | None:
    """Return the loss of the model on the batch as a function of its weights; None if there is none."""
    of_output = _of_output(targets, loss)
    return None if of_output is None else lambda: of_output(call(model, inputs))


def _of_output(targets: Tensor | None, loss: Loss | None) -> Loss | None:
    if loss is not None or targets is None:
        return loss

    def mean_loss(output: Any) -> Tensor:
        value = default_loss(output, targets)
        assert value is not None  # targets were given
        return value

    return mean_loss


def _moving(model: nn.Module, optimizer: Optimizer | None) -> set[str]:
    """Return the names of the parameters that train."""
    held = None if optimizer is None else {id(p) for group in optimizer.param_groups for p in group["params"]}
    return {n for n, p in model.named_parameters() if p.requires_grad and (held is None or id(p) in held)}


def _notes(
    seen: _Seen,
    frozen: Frozen | None,
    silent: Collection[Unreached],
    parts: Collection[Part],
    *,
    without_loss: bool,
) -> list[str]:
    model, known = seen.model, seen.known
    found = [f"{part}: not asked for" for part in PARTS if part not in parts]
    tied = told(shared_storages(model))
    if tied:
        found.append(f"{tied}; they count once, and what holds one of them is not counted, as the other moves it")
    unread = [name for name, _ in model.named_parameters() if name not in known.graph.used]
    still = [name for name, p in model.named_parameters() if name in known.graph.used and not p.requires_grad]
    if unread:
        found.append(f"not read on this batch, so not counted: {', '.join(unread)}")
    if still:
        found.append(f"not trained (requires_grad is False), so not counted: {', '.join(still)}")
    if frozen is not None:
        found += _grouped("frozen", {missing.layer: missing.why for missing in frozen.missing})
        found += _unexplained(silent, seen.reach)
    found += _grouped("copies", seen.blocks.unjudged)
    if "near" in parts:
        found += _grouped("near-clones", known.skipped)
    if without_loss:
        found.append("stability: needs a loss; give targets (on the command line, --batch FILE with targets)")
    return found


def _unexplained(parts: Collection[Unreached], seen: Reach) -> Iterator[str]:
    if seen.refused:
        yield f"gradients: no backward pass was run: {seen.refused}"
    if seen.overflow:
        yield f"gradients: NaN or infinity on this batch, so nothing is told of {', '.join(seen.overflow)}"
    for part in parts:
        yield f"no gradient: {part.parameter}: {part.entries:,} of {part.size:,} entries: {part.why}"


def _grouped(part: str, reasons: Mapping[str, str]) -> list[str]:
    """Return one note a reason, with the layers that it is about."""
    layers: dict[str, list[str]] = {}
    for layer, why in reasons.items():
        layers.setdefault(why, []).append(layer)
    return [f"{part}: {', '.join(names)}: {why}" for why, names in layers.items()]


def _tolerance(model: nn.Module) -> float:
    kinds = {p.dtype for p in model.parameters() if p.dtype.is_floating_point}
    return max((of_dtype(COPIES, kind) for kind in kinds), default=SUMS)


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
