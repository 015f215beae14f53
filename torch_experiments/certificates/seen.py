"""A network on a batch, surveyed once for all parts of its certificate."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor, nn
from torch.optim import Optimizer

from theory.firmness import Firmness
from theory.tolerances import COPIES, LAYER, SUMS, of_dtype
from torch_experiments.certificates.frozen.analysis import Bound, Frozen, frozen_units, lasting_entries
from torch_experiments.certificates.manifold import places
from torch_experiments.certificates.mode import dropping, mode_of
from torch_experiments.certificates.near import Cluster, near_clones
from torch_experiments.certificates.optimizer.verdicts import OptimizerVerdict, optimizer_verdict
from torch_experiments.certificates.oracle import Reach, draws, reach, unread_outputs
from torch_experiments.certificates.rounding import Rounding, rounding
from torch_experiments.certificates.stability import Stability, stability
from torch_experiments.certificates.stochastic import Minibatches, effective_rate, unit_forecasts
from torch_experiments.certificates.training_copy import descended
from torch_experiments.cloning.layouts import Layout, Profile
from torch_experiments.cloning.partition import Blocks, coarsest_blocks, named
from torch_experiments.cloning.sizes import WRONG_SIZES
from torch_experiments.cloning.widen import SAMPLES
from torch_experiments.support.storages import shared_storages, sharing
from torch_experiments.units.graph import in_words
from torch_experiments.units.groups import choose
from torch_experiments.units.hidden import Survey, survey
from torch_experiments.units.inputs import (
    Inputs,
    first_samples,
    sample_count,
    samples_between,
)
from torch_experiments.units.reads import run_alike

Loss = Callable[[Any], Tensor]


@dataclass(frozen=True, eq=False)
class Seen:
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
            entries(frozen),
            sign_frozen=signed,
            lasting=lasts,
            gradients=self.reach.gradients_of(_copied(self.layout)),
            custom=self.reach.custom,
            decided=in_words(self.known.graph.decided),
            tolerance=self.slack,
        )

    def stopped(self, frozen: Frozen | None) -> bool:
        """Return whether no backward pass leads to any parameter with copies or frozen entries."""
        found = places(self.model, self.layout, entries(frozen))
        held = {name for name, p in found.items() if p.codimension and name in self.reach.masks}
        return held <= self.reach.stopped

    def silent(self, frozen: Frozen | None) -> int:
        """Return in how many of the free directions no backward pass moved the network."""
        if self.reach.refused:
            return 0
        held = entries(frozen)
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
            frozen=entries(frozen),
            optimizer=optimizer,
            iterations=iterations,
            tolerance=self.slack,
        )

    def minibatches(self, loss: Loss | None, optimizer: Optimizer | None, batch: int | None) -> Minibatches | None:
        """Return what this state tells about near-copies under small batches, all of the inputs if None."""
        if self.layout is None or loss is None:
            return None
        names = self.layout.placements
        copied = [p for name, p in self.model.named_parameters() if name in names and p.requires_grad]
        rate = effective_rate(optimizer, copied) if copied else None
        size = sample_count(self.inputs) if batch is None else batch
        if rate is None or not size:
            return None
        units = unit_forecasts(self.model, self.known.layers, self.layout, self.inputs, loss, rate=rate, batch=size)
        return Minibatches(rate, size, units)

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
        goal, _ = descended(self.model, self.inputs, targets, loss)
        # a network that draws takes passes of its own: its second step would meet the draw of the first
        drawn = draws(self.model) or dropping(self.model, self.known.graph)
        same = self.reach.of_loss and not (self.reach.custom or self.reach.overflow or drawn)
        return rounding(
            self.model,
            self.inputs,
            optimizer,
            goal,
            frozen=frozen,
            layout=self.layout,
            verdict=verdict,
            stability=stability,
            gradients=self.reach.gradients if same else None,
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
    """Return the first samples and a survey with them; with all where they do not run, or take another path.

    A trace keeps every tensor, and what it finds does not depend on the number of samples.
    """
    few = first_samples(inputs, SAMPLES)
    try:
        found = survey(model, few, unread=unread)
        chosen = found.graph.read or found.graph.decided
        if not chosen or all(run_alike(model, few, rest) for rest in _rest(inputs, few)):
            return few, found
    except WRONG_SIZES:
        pass
    return inputs, survey(model, inputs, unread=unread)


def _rest(inputs: Inputs, few: Inputs) -> list[Inputs]:
    """Return the samples that ``few``, the first of ``inputs``, leaves out."""
    first, every = sample_count(few), sample_count(inputs)
    return [samples_between(inputs, first, every)] if first < every else []


def _copied(layout: Layout | None) -> list[str]:
    """Return the parameters with copies."""
    placements = {} if layout is None else layout.placements
    return [name for name, placed in placements.items() if any(profile.copied for profile in placed.profiles)]


def entries(frozen: Frozen | None) -> Mapping[str, Tensor]:
    """Return the frozen entries by parameter; none where they were not asked for."""
    return {} if frozen is None else frozen.entries


def _differ(cluster: Cluster, profile: Profile | None) -> bool:
    return profile is None or len(profile.block[list(cluster.units)].unique()) > 1


def _moving(model: nn.Module, optimizer: Optimizer | None) -> set[str]:
    """Return the names of the parameters that train."""
    held = None if optimizer is None else {id(p) for group in optimizer.param_groups for p in group["params"]}
    return {n for n, p in model.named_parameters() if p.requires_grad and (held is None or id(p) in held)}


def _tolerance(model: nn.Module) -> float:
    kinds = {p.dtype for p in model.parameters() if p.dtype.is_floating_point}
    return max((of_dtype(COPIES, kind) for kind in kinds), default=SUMS)
