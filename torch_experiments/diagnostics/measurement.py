"""`diagnose`: one forward pass over some samples, a backward pass over fewer, and the metrics.

Networks with attention run once more, on up to 16 samples without fused kernels, for the metrics of their heads.

Cost, in training steps of batch 128 on one thread of a CPU: ``"fast"`` is one forward pass over ``samples`` and one
backward pass over ``gradient_samples``, at most 3 steps for an MLP or a small CNN and 1 for networks above 10⁹
operations a sample, of which by default fewer samples are taken. ``"full"`` adds `network_measures`, whose costs
are in its docstrings: some 30 (CNN) to 70 (MLP) steps together. The first call with inputs of a shape also traces
the network with two samples.

In processes of ``torch.distributed`` every one has to call it with its own samples, and all return the metrics of
all of them; those of the levels ``"attention"`` and ``"network"`` are means over the processes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from torch_experiments.cloning.layouts import Profile
from torch_experiments.diagnostics import (  # noqa: F401
    attention_measures,
    network_measures,
    parameter_measures,
    unit_measures,
)
from torch_experiments.diagnostics.attending import attention_of
from torch_experiments.diagnostics.batches import Batch, check_arguments, opened, precision, spread
from torch_experiments.diagnostics.losses import Loss, averaged, default_loss, gradients_of
from torch_experiments.diagnostics.nonlinearities import Applied, watching
from torch_experiments.diagnostics.parameter_measures import by_module
from torch_experiments.diagnostics.probe import Probe
from torch_experiments.diagnostics.registry import Metric, chosen
from torch_experiments.diagnostics.result import About, Diagnosis
from torch_experiments.diagnostics.unit_axes import Anatomy, anatomy, as_rows, guessed
from torch_experiments.metrics.activity import still
from torch_experiments.metrics.statistics import Statistics, gathered
from torch_experiments.support.precision import in_float32
from torch_experiments.support.processes import joined, processes, summed, total
from torch_experiments.units.entry import Callee, calling, unwrapped
from torch_experiments.units.inputs import DOES_NOT_RUN, evaluating, finite, has_samples, not_finite, same_device
from torch_experiments.units.inputs import call as called

SIZES = ((1e7, (512, 512)), (1e9, (512, 32)), (float("inf"), (192, 32)))
"""Floating-point operations a sample, below which so many samples are taken, so many at once."""
DIFFERENTIATED = 64  # samples of the backward pass: half a batch of 128, so half of a training step
WORK = 800_000  # C² × positions of a sample that enter products of units: 20 positions of 200 channels, 3 of 512
ATTENDED = 16  # samples whose attention is looked at: heads are averages over their positions
ROOM = 2**24  # weights of one attention that are looked at at once: 128 MiB in float64
FEWEST = 2  # positions of a sample, so that wide convolutions are seen at more than one place


def diagnose(
    model: nn.Module,
    batch: Any,
    targets: Any = None,
    *,
    loss: Loss | None = None,
    metrics: str | Iterable[str] = "fast",
    layers: Sequence[str] = (),
    profiles: Mapping[str, Profile] | None = None,
    samples: int | None = None,
    gradient_samples: int | None = None,
    positions: int | None = None,
    seed: int = 0,
    call: Callee = None,
) -> Diagnosis:
    """Return the diagnostics of `registry.METRICS` of a network, as a mapping layer → metric → value.

    Layers are all nonlinear activations in the order in which they run, modules and functions (`nonlinearities`
    says what is seen), and the modules named in ``layers``. Units are the feature dimensions of the traced graph:
    channels, neurons, features of tokens; pixels and tokens are positions. The model runs in eval mode and is left
    as it was: modes, buffers, gradients, and all random states. The module's docstring says what it costs.

    Args:
        model: any module; one in `DistributedDataParallel`, `DataParallel` or `torch.compile` is unwrapped.
        batch: a tensor ``[samples, …]``, a mapping of keyword arguments, or a stream of such batches, see
            `batches.opened`. Floating-point inputs are cast to the dtype of the parameters.
        targets: of the batch, or a stream; None for no gradients, unless the output carries a ``loss``.
        loss: ``loss(output, targets)``, the mean over samples; `losses.default_loss` if None.
        metrics: ``"fast"``, ``"full"``, or names of `registry.METRICS`.
        layers: names of further modules whose outputs are measured, such as blocks.
        profiles: by layer, which units are said to be copies, for the scores of cloning.
        samples: number of samples, evenly spread over a batch, or the first ones of a stream. If None, 512 at most,
            192 for networks above 10⁹ operations a sample; all of a stream.
        gradient_samples: those of the backward pass, the first ones; if None, 64 at most.
        positions: of each sample that enter ranks, duplicates and slopes, a random choice that ``seed`` fixes; if
            None, as many as keep ``C² ×`` positions below 800,000 for ``C`` units, at least 2.
        seed: of the choice of positions and of random probes.
        call: what is called in the place of the forward, as in `certify`.

    Raises:
        ValueError: for fewer than two samples, an unknown metric or layer, or a profile of another size.
        NotFiniteError: a ValueError, for nan or inf; the message names the first layer that returned one.
        TypeError: for a batch that is none, or inputs that the model's forward does not take.
        TraceError: for inputs on another device than the model.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    >>> _ = nn.init.constant_(model[0].weight, -1.0), nn.init.zeros_(model[0].bias)
    >>> diagnose(model, torch.ones(4, 2))["1"]["dead_fraction"]
    1.0
    """
    start = time.perf_counter()
    model = unwrapped(model)
    wanted = chosen(metrics)
    _check(samples=(samples, 2), gradient_samples=(gradient_samples, 1), positions=(positions, 1))
    with calling(model, call), undisturbed(model), in_float32():
        first, stream = _first(opened(batch, targets, model), model)
        check_arguments(model, first.inputs)
        known, divides = _anatomy(model, first, layers)
        watch = Measurement(model, known, loss or default_loss, layers, profiles or {}, positions, seed, divides)
        most, chunk = next(sizes for flops, sizes in SIZES if known.flops < flops)
        whole = isinstance(batch, Tensor | Mapping | tuple)
        limit = most if samples is None and whole and divides else samples
        size = gradient_samples or DIFFERENTIATED
        for part in _parts(stream, limit, size, chunk) if divides else stream:
            watch.add(part.to(precision(model)))
        return watch.result(wanted, start)


def _anatomy(model: nn.Module, batch: Batch, layers: Sequence[str]) -> tuple[Anatomy, bool]:
    """Return what is known of a network, and whether it runs on a part of a batch."""
    few = batch.take(spread(len(batch), 2))
    try:
        return anatomy(model, few.inputs, layers), few.inputs is not batch.inputs
    except DOES_NOT_RUN:
        return anatomy(model, batch.inputs, layers), False


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluate a model, leave its modes and random states as they are, and allow gradients in `inference_mode`.

    >>> model = nn.Dropout()
    >>> with undisturbed(model):
    ...     model.training
    False
    """
    devices = sorted({p.device for p in model.parameters() if p.device.type == "cuda"}, key=str)
    with evaluating(model), torch.random.fork_rng(devices=devices), torch.inference_mode(False):
        yield


class NotFiniteError(ValueError):
    """A layer returned nan or inf; the message names it."""


@dataclass
class Measurement:
    """Statistics of all layers, gathered chunk by chunk; the first chunk is the one with gradients."""

    model: nn.Module
    anatomy: Anatomy
    loss: Loss
    layers: Sequence[str]
    profiles: Mapping[str, Profile]
    positions: int | None
    seed: int
    divides: bool = True
    found: dict[str, Statistics] = field(default_factory=dict)
    values: dict[str, Tensor] = field(default_factory=dict)
    errors: dict[str, Tensor] = field(default_factory=dict)
    gradients: dict[str, Tensor] | None = None
    first: Batch | None = None
    now: Batch | None = None
    lost: float = 0.0
    samples: int = 0
    notes: dict[str, None] = field(default_factory=dict)

    def add(self, batch: Batch) -> None:
        """Add the samples of a chunk; the first one is also differentiated."""
        backward, self.first, self.now = self.first is None, self.first or batch, batch
        with torch.set_grad_enabled(backward):
            with watching(self.model, self.layers, self.see):
                output = called(self.model, batch.inputs)
            self.finite("", output)
            loss = self.loss(output, batch.targets) if backward else None
            if loss is not None and loss.requires_grad:
                self.lost = float(loss.detach())
                self.gradients = gradients_of(self.model, loss)
        self.samples += len(batch)

    def see(self, seen: Applied) -> None:
        """Add the values of one activation.

        What is computed of them is none of what an activation checkpoint counts on its way back.
        """
        try:
            with torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x):
                self._add(seen)
        except RuntimeError as error:
            if "functorch" not in str(error):
                raise
            self.notes[f"layer {seen.name!r}: it runs within a transform of torch.func, so it is not measured"] = (
                None
            )

    def _add(self, seen: Applied) -> None:
        dimensions = self.anatomy.dimensions.get(seen.name)
        if dimensions is None or len(dimensions) != seen.h.ndim:
            dimensions = guessed(seen.h.shape)
            note = f"layer {seen.name!r}: units are those of a rule of thumb. {self.anatomy.trouble}"
            self.notes[note.strip()] = None
        rows = as_rows(seen.h.detach(), dimensions)
        index = self.index(rows)
        kept = _kept(rows, index).clone()  # the network may go on to overwrite its output
        z = None if seen.z is None else _kept(as_rows(seen.z.detach(), dimensions), index)
        new = gathered(rows, kept, z, seen.apply, self._profile(seen.name, rows.shape[2]))
        if not bool(new.sums["magnitude"].isfinite().all()):
            self.finite(seen.name, seen.h)
        self.found[seen.name] = self.found[seen.name] + new if seen.name in self.found else new
        if seen.h.requires_grad and torch.is_grad_enabled():
            self.values[seen.name] = kept.abs()
            seen.h.register_hook(lambda error: self._keep(seen.name, _kept(as_rows(error, dimensions), index)))

    def index(self, rows: Tensor) -> Tensor | None:
        """Return the positions that are kept, None for all of them."""
        places, units = rows.shape[1:]
        wanted = max(FEWEST, WORK // units**2) if self.positions is None else self.positions
        if places <= wanted:
            return None
        source = torch.Generator().manual_seed(self.seed)
        return torch.randperm(places, generator=source)[:wanted].sort().values.to(rows.device)

    def finite(self, layer: str, output: Any) -> None:
        """Check that an output is finite, and say which layer was the first not to be.

        Raises:
            NotFiniteError: if it is not.
        """
        if finite(output):
            return
        assert self.now is not None
        culprit = not_finite(self.model, self.now.inputs) or layer or "the output"
        raise NotFiniteError(
            f"layer {culprit!r}: its output holds nan or inf; check the inputs and the parameters (a learning rate "
            "that is too large is the usual cause), or go back to an earlier checkpoint"
        )

    def result(self, wanted: Mapping[str, Metric], start: float) -> Diagnosis:
        """Return the metrics of all that was added.

        Raises:
            ValueError: for fewer than two samples in all processes together.
        """
        here = len(self.first) if self.first and self.gradients is not None else 0
        samples, differentiated, lost = total([self.samples, here, self.lost * here])
        if samples < 2:
            raise ValueError(
                f"batch: got {int(samples)} sample; statistics over samples need at least 2, better 500"
            )
        share = here / differentiated if differentiated else 0.0
        statistics = {name: self._reduced(name, s, share) for name, s in self.found.items()}
        found = {name: _measured(wanted, "units", s) for name, s in statistics.items()}
        for module, parameters in by_module(self.model, self._gradients(share)).items():
            found.setdefault(module, {}).update(_measured(wanted, "parameters", parameters))
        for layer, values in self._attention(wanted).items():
            found.setdefault(layer, {}).update(values)
        found[""] |= ({"loss": lost / differentiated} if differentiated else {}) | self._network(wanted)
        self.notes |= dict.fromkeys(_within_kernels(self.model, self.layers))
        kept, whole = ({n: int(s.sums[key]) for n, s in statistics.items()} for key in ("n", "values"))
        about = About(
            int(samples), int(differentiated), kept, whole, tuple(self.notes), time.perf_counter() - start
        )
        return Diagnosis({name: values for name, values in found.items() if values}, about)

    def _profile(self, name: str, units: int) -> Profile | None:
        profile = self.profiles.get(name)
        if profile is not None and len(profile.block) != units:
            raise ValueError(f"profiles: that of {name!r} has {len(profile.block)} units; the layer has {units}")
        return profile

    def _keep(self, name: str, error: Tensor) -> None:
        self.errors[name] = self.errors[name] + error if name in self.errors else error

    def _reduced(self, name: str, s: Statistics, share: float) -> Statistics:
        """Return statistics of all processes, with those of the backward pass."""
        sums = summed(s.sums)
        rows = joined(s.rows) if s.profile and s.rows is not None else s.rows
        if name not in self.errors:
            return replace(s, sums=sums, rows=rows if s.profile or processes() == 1 else None)
        h, error = self.values[name].to(sums["total"]), self.errors[name].to(sums["total"]) * share
        m, mean = summed({"m": torch.full_like(sums["n"], len(h)), "h": h.sum(dim=0)}).values()
        sums |= {"m": m} | summed({"still": still(error, mean / m)})
        rows = rows if s.profile or processes() == 1 else None
        return replace(s, sums=sums, rows=rows, errors=joined(error) if s.profile else None)

    def _gradients(self, share: float) -> dict[str, Tensor] | None:
        return None if self.gradients is None else averaged(self.gradients, share)

    def _attention(self, wanted: Mapping[str, Metric]) -> dict[str, dict[str, float]]:
        """Return the metrics of heads by layer, of the first samples, as many as there is room for."""
        assert self.first is not None
        if not self.anatomy.weights or not any(metric.level == "attention" for metric in wanted.values()):
            return {}
        most = max(FEWEST, min(ATTENDED, int(ROOM / self.anatomy.weights)))
        few = self.first.take(spread(len(self.first), most)) if self.divides else self.first
        heads = attention_of(self.model, few.inputs)
        found = {
            (layer, name): v for layer, h in heads.items() for name, v in _measured(wanted, "attention", h).items()
        }
        means = [value / processes() for value in total(found.values())]
        layers: dict[str, dict[str, float]] = {}
        for (layer, name), mean in zip(found, means, strict=True):
            if math.isfinite(mean):  # a head whose queries all see one key has no entropy
                layers.setdefault(layer, {})[name] = mean
        return layers

    def _network(self, wanted: Mapping[str, Metric]) -> dict[str, float]:
        assert self.first is not None
        asked = any(metric.level == "network" for metric in wanted.values())
        if not asked or not any(p.requires_grad for p in self.model.parameters()):
            return {}
        found = _measured(wanted, "network", Probe(self.model, self.first, self.loss, self.seed))
        totals = total(found.values())
        return {name: value / processes() for name, value in zip(found, totals, strict=True)}


def _within_kernels(model: nn.Module, layers: Sequence[str]) -> Iterator[str]:
    """Yield that the gates of recurrent layers run within one operation, so that they are not seen."""
    for name, module in model.named_modules():
        if isinstance(module, nn.RNNBase) and name not in layers:
            yield (
                f"layer {name!r}: its gates run within one operation and are not measured; layers=[{name!r}] "
                "measures what it returns"
            )


def _check(**numbers: tuple[int | None, int]) -> None:
    for argument, (given, least) in numbers.items():
        if given is not None and given < least:
            raise ValueError(
                f"{argument}: got {given}; it has to be at least {least}, or None for the usual number"
            )


def _first(stream: Iterator[Batch], model: nn.Module) -> tuple[Batch, Iterator[Batch]]:
    """Return the first batch, and the stream with it put back."""
    first = next(stream, None)
    if first is None or not len(first):
        raise ValueError("batch: holds no sample; statistics over samples need at least 2, better 500")
    same_device(model, first.inputs)
    has_samples(first.inputs)
    return first.to(precision(model)), chain([first], stream)


def _parts(stream: Iterable[Batch], limit: int | None, gradient_samples: int, chunk: int) -> Iterator[Batch]:
    """Yield chunks: first the samples of the backward pass, then the others, up to a number of samples."""
    left, size = limit, max(gradient_samples, 1)
    for batch in stream:
        if left == 0:
            return
        batch = batch if left is None or left >= len(batch) else batch.take(spread(len(batch), left))
        left = None if left is None else left - len(batch)
        start = 0
        while start < len(batch):
            yield batch.take(slice(start, start + size))
            start, size = start + size, chunk


def _kept(rows: Tensor, index: Tensor | None) -> Tensor:
    return (rows if index is None else rows[:, index]).flatten(0, 1)


def _measured(wanted: Mapping[str, Metric], level: str, of: Any) -> dict[str, float]:
    found = {name: metric.function(of) for name, metric in wanted.items() if metric.level == level}
    return {name: value for name, value in found.items() if value is not None}
