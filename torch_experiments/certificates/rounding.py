"""What the arithmetic of this machine does to the promises of a certificate: a few real steps on a copy.

In exact arithmetic copies are kept or left, once and for all; that is the business of the optimizer verdict. Floats
are another matter: where two copies are summed in another order they part by a bit, and an unstable manifold lets
that grow. Whether it happens depends on kernels, widths, layouts and dtypes, so it is looked at and not derived: a
copy of the network takes real steps, in the dtype, on the device and in the mode in which the original trains.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim import Optimizer

from torch_experiments.certificates.frozen.analysis import Frozen
from torch_experiments.certificates.optimizer.sentences import Sentence
from torch_experiments.certificates.optimizer.verdicts import OptimizerVerdict
from torch_experiments.certificates.oracle import left_alone
from torch_experiments.certificates.stability import GOAL, Stability
from torch_experiments.certificates.training_copy import TrainingCopy
from torch_experiments.certificates.watches import AT_ONCE, Finding, Watches, dtypes
from torch_experiments.cloning.layouts import Layout, Profile, scaled
from torch_experiments.support.noise import GradientNoise
from torch_experiments.support.torch_private import step_hooks
from torch_experiments.units.inputs import Inputs

STEPS = 2  # the second is the first that uses the state which the first has made
LARGEST = 2**27  # entries of a network that is still copied: with Adam's state 1.5 GiB in float32
TINY = 1e-14  # of a layer: a violation below it is that of the sums in float64 that measure it
SEEN = 8  # distances that a rate of growth is read from, at least: the first few are random sums of rounding


@dataclass(frozen=True)
class Rounding:
    """What a few real steps on a copy showed.

    Attributes:
        steps: that were taken; 0 if none, see ``refused``.
        arithmetic: dtypes, device and threads.
        findings: what became of the sentences of the certificate in these steps.
        copies: whether there are any.
        equal: whether weights that copies share bit for bit do so after the steps; None where no weights do.
        gap: the largest violation of RE and CE after the steps, relative to its layer.
        before: the same at the start, 0 where nothing that is told needs it.
        growth: factor by which the gap grew in a step, measured over the later half; None for fewer than 16 steps.
        soonest, latest: further steps until the gap is 1 %, as long as it grows as it does now: all of it at the
            predicted or measured rate, whichever is larger, and the share of a random direction at the smaller.
            None where nothing grows, or nothing has parted.
        still: entries that have a gradient and did not move; each step was below half of their spacing, or zero.
        reached: entries that have a gradient.
        refused: why no step was taken, else empty.

    >>> Rounding(0, "float32 on cpu", (), False, None, 0.0, 0.0, None, None, None, 0, 0, "a hook").held
    True
    """

    steps: int
    arithmetic: str
    findings: tuple[Finding, ...]
    copies: bool
    equal: bool | None
    gap: float
    before: float
    growth: float | None
    soonest: float | None
    latest: float | None
    still: int
    reached: int
    refused: str = ""

    @property
    def held(self) -> bool:
        """Whether no sentence was contradicted."""
        return all(finding.held is not False for finding in self.findings)

    def __str__(self) -> str:
        """Return what was seen of copies, and of entries that stood still, as sentences."""
        if not self.steps:
            return f"{self.arithmetic}: no step was taken: {self.refused}"
        head = f"{self.arithmetic}, {self.steps} real steps on a copy"
        return f"{head}: {'; '.join(self._said())}"

    def _said(self) -> Iterator[str]:
        if self.copies:
            equal = self.equal and self.gap <= TINY  # weights that they do not share depart alone
            yield "copies are bit-equal" if equal else f"copies are {self.gap:.1e} of their layer apart"
        if self.soonest is not None and self.latest is not None:
            yield f"1 % after some {self.soonest:,.0f} to {self.latest:,.0f} more steps, if it goes on growing so"
        if self.still:
            yield (
                f"{self.still:,} of {self.reached:,} entries with a gradient did not move: a step below half of "
                "the spacing of a number is lost"
            )
        wrong = [finding.sentence for finding in self.findings if finding.held is False]
        yield f"against the promise: {', '.join(wrong)}" if wrong else "no sentence was contradicted"


def rounding(
    model: nn.Module,
    inputs: Inputs,
    optimizer: Optimizer,
    loss: Any,
    *,
    frozen: Frozen | None = None,
    layout: Layout | None = None,
    verdict: OptimizerVerdict | None = None,
    stability: Stability | None = None,
    gradients: Mapping[str, Tensor] | None = None,
    steps: int = STEPS,
) -> Rounding:
    """Take a few real steps on a copy of ``model`` and return what they show.

    Nothing is run, and the reason given, where a copy would not be alone: hooks of the optimizer act at every step
    (`audit` runs them), a network that is spread over processes waits for the others, one beyond ``2²⁷`` entries is
    too dear. Cost: the steps, and a copy of weights and state.

    Args:
        model, inputs, optimizer: as in `certify`.
        loss: of the model's output.
        frozen, layout, verdict, stability: the parts of the certificate that are watched.
        gradients: of ``loss`` at these weights, by parameter, if they are known: the first step may take them.
        steps: to take.

    >>> from torch_experiments.cloning.exact import clone, layout
    >>> base, x = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)).double(), torch.ones(1, 2).double()
    >>> wide, place = clone(base, 2, example_inputs=x), layout(base, 2, example_inputs=x)
    >>> sgd = torch.optim.SGD(wide.parameters(), 0.1)
    >>> rounding(wide, x, sgd, lambda y: y.square().mean(), layout=place).equal
    True
    """
    said = arithmetic(model)
    refused = _refused(model, optimizer)
    if refused:
        return _none(said, refused)
    try:
        run = TrainingCopy(model, optimizer, (), inputs, loss)
    except ValueError as error:
        return _none(said, str(error))
    run.begin_with(gradients or {})
    rehearsal = Rehearsal(run, Watches(run.model, frozen, layout, verdict, stability))
    with left_alone(model):  # dropout of the copy draws from the same generators
        taken = rehearsal.take(steps)
    return rehearsal.seen() if taken else _none(said, "training diverges in the first step")


class Rehearsal:
    """Steps of a copy, and what is looked at after each of them.

    Attributes:
        taken: steps so far that left everything finite.
        equal: whether weights that copies share bit for bit did so when copies were last looked at; None for none.
    """

    def __init__(self, run: TrainingCopy, watches: Watches) -> None:
        self.run, self.watches, self.taken = run, watches, 0
        self.shared = _shared(run.model, watches.layout)
        self.equal = True if self.shared else None
        self.still: dict[str, Tensor] = {}

    def take(self, steps: int) -> int:
        """Take so many steps, fewer where training diverges; return how many were taken in all.

        Of no more than two steps copies are looked at after the last alone: what parts them at once is seen there.
        """
        short = steps <= AT_ONCE
        while steps and self.run.step():
            self.taken, steps = self.taken + 1, steps - 1
            self.watches.look_at_entries(self.taken)
            if not short or not steps:
                self.equal = self._equal()
                self.watches.look_at_copies(self.taken, equal=self._identical)
            self._look_for_still()
        return self.taken

    def _look_for_still(self) -> None:
        """Keep the entries that have stood still in every step so far, of parameters with some of them."""
        before, self.still = self.still, {}
        for name, p, gradient in self._dense():
            if self.taken > 1 and name not in before:
                continue
            here = p == self.watches.start[name]
            if bool(here.any()):
                here &= gradient != 0
                self.still[name] = here & before.get(name, here)

    def seen(self) -> Rounding:
        """Return what the steps showed."""
        watches = self.watches
        sizes = watches.watch["clones"].sizes or [0.0]
        grows = watches.stability is not None and watches.stability.growth is not None
        before = watches.before if sizes[-1] > TINY and (grows or len(sizes) >= 2 * SEEN) else 0.0
        growth = measured_growth(sizes, before)
        soonest, latest = _range(sizes[-1], before, growth, watches.stability, watches.layout)
        return Rounding(
            self.taken,
            arithmetic(self.run.model),
            tuple(watches.findings(self.taken)),
            watches.layout is not None,
            self.equal,
            sizes[-1],
            before,
            growth,
            soonest,
            latest,
            sum(int(mask.sum()) for mask in self.still.values()),
            sum(int((gradient != 0).sum()) for _, _, gradient in self._dense()),
        )

    @property
    def _identical(self) -> bool:
        """Whether all copies had bit-equal weights at the start, and have."""
        return bool(self.equal) and self._all_shared

    @cached_property
    def _all_shared(self) -> bool:
        layout, known = self.watches.layout, dict(self.run.model.named_parameters())
        places = {} if layout is None else layout.placements
        copied = (name for name, p in places.items() if name in known and any(q.copied for q in p.profiles))
        return all(name in self.shared for name in copied) and all(bool(c.all()) for c in self.shared.values())

    def _equal(self) -> bool | None:
        after = _shared(self.run.model, self.watches.layout, self.shared)
        kept = (name in after and bool((cells <= after[name]).all()) for name, cells in self.shared.items())
        return all(kept) if self.shared else None

    def _dense(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Yield what the optimizer moves: name, values and gradient."""
        groups = self.run.optimizer.param_groups
        moved = {id(p) for group in groups if float(group.get("lr", 1)) != 0 for p in group["params"]}
        for name, p in self.run.model.named_parameters():
            if id(p) in moved and p.grad is not None and not p.grad.is_sparse:
                yield name, p.detach(), p.grad


def arithmetic(model: nn.Module) -> str:
    """Return dtypes, device and threads of a network, in words.

    >>> arithmetic(nn.Linear(1, 1)).startswith("float32 on cpu")
    True
    """
    kinds = sorted(str(dtype).removeprefix("torch.") for dtype in dtypes(model))
    places = sorted({p.device.type for p in model.parameters()})
    threads = torch.get_num_threads()
    many = f", {threads} threads" if places == ["cpu"] and threads > 1 else ""
    return f"{' and '.join(kinds)} on {' and '.join(places)}{many}"


def measured_growth(sizes: Sequence[float], before: float) -> float | None:
    """Return the factor a step by which distances grew over their later half; None where they say nothing.

    >>> measured_growth([1e-8 * 1.1**k for k in range(40)], 0.0).__round__(6)
    1.1
    """
    later = sizes[len(sizes) // 2 :]
    if len(later) < SEEN or not all(math.isfinite(s) and s > 2 * before for s in later) or min(later) <= 0:
        return None
    x = torch.arange(len(later), dtype=torch.float64)
    y = torch.tensor(later, dtype=torch.float64).log()
    x = x - x.mean()
    return math.exp(float((x * y).sum() / (x * x).sum()))


def contradicted(verdict: OptimizerVerdict, found: Rounding) -> OptimizerVerdict:
    """Return the verdict with what the steps of a copy contradict taken back: ``"kept"`` becomes ``"left"``.

    >>> kept = OptimizerVerdict("SGD", "kept", "kept", "kept", ())
    >>> seen = Finding("clones", "copies stay copies", "kept", False, 1, 0.5)
    >>> contradicted(kept, Rounding(2, "", (seen,), True, None, 0.5, 0.0, None, None, None, 0, 0)).clones
    'left'
    """
    wrong = [f for f in found.findings if f.held is False and f.promised == "kept"]
    about = {"clones": "clones", "coset": "coset", "frozen": "frozen", "gradient": "frozen"}
    changes: dict[str, Any] = {about[f.about]: "left" for f in wrong if f.about in about}
    if not changes:
        return verdict
    said = (
        f"{found.steps} real steps on a copy contradict it, by {max(f.size for f in wrong):.2g}; why is not known"
    )
    reasons = [Sentence(name, "left", said, (), ("observed",)) for name in changes]  # type: ignore[arg-type]
    return replace(verdict, **changes, reasons=(*reasons, *verdict.reasons))


def _none(said: str, refused: str) -> Rounding:
    return Rounding(0, said, (), False, None, 0.0, 0.0, None, None, None, 0, 0, refused)


def _refused(model: nn.Module, optimizer: Optimizer) -> str:
    hooks = [h for h in step_hooks(optimizer) if not isinstance(h, GradientNoise)]
    if hooks:
        return "the optimizer has hooks of its own; lop.audit runs them"
    if isinstance(model, DistributedDataParallel | DataParallel):
        return "the network is spread over devices or processes"
    if sum(p.numel() for p in model.parameters()) > LARGEST:
        return f"more than {LARGEST:,} entries; lop.audit takes real steps of any network"
    return ""


def _range(
    gap: float, before: float, growth: float | None, stability: Stability | None, layout: Layout | None
) -> tuple[float | None, float | None]:
    """Return the further steps until the gap is 1 %: at least and at most, as things grow now."""
    predicted = None if stability is None else stability.growth
    rates = [math.log(g) for g in (growth, predicted) if g is not None and g > 1]
    if layout is None or not rates or not before < gap < GOAL:
        return None, None
    share = 1 / math.sqrt(stability.codimension) if stability is not None else 1.0
    return math.log(GOAL / gap) / max(rates), math.log(GOAL / (gap * share)) / min(rates)


def _shared(model: nn.Module, layout: Layout | None, among: Collection[str] | None = None) -> dict[str, Tensor]:
    """Return by parameter the entries that equal, to the bit, the one of the first copies, up to signs.

    Without parameters of which only the first copies do, which equal themselves.
    """
    found: dict[str, Tensor] = {}
    known = {name: p for name, p in model.named_parameters() if among is None or name in among}
    for name, place in ({} if layout is None else layout.placements).items():
        if name not in known or not any(p.copied for p in place.profiles):
            continue
        if not all(bool((p.scale.abs() == 1).all()) for p in place.profiles):
            continue
        first = known[name].detach()
        for dim, profile in enumerate(place.profiles):
            first = _of_first_copies(first, profile, dim)
        cells = first == known[name].detach()
        if int(cells.sum()) > math.prod(profile.blocks for profile in place.profiles):
            found[name] = cells
    return found


def _of_first_copies(x: Tensor, profile: Profile, dim: int) -> Tensor:
    """Return in place of every unit the first of its block along a dimension, with the sign of the unit."""
    if not profile.copied:
        return x
    size = len(profile.block)
    place = torch.full((int(profile.block.max()) + 1,), size)
    place = place.scatter_reduce(0, profile.block.cpu(), torch.arange(size), "amin")[profile.block.cpu()]
    sign = profile.scale.cpu() * profile.scale.cpu()[place]
    return scaled(x.index_select(dim, place.to(x.device)), sign, dim)
