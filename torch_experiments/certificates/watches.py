"""What becomes of the sentences of a certificate while a copy of the network takes real steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from theory.firmness import Firmness
from theory.tolerances import APART, of_dtype
from torch_experiments.certificates.frozen.analysis import Frozen
from torch_experiments.certificates.optimizer.verdicts import OptimizerVerdict
from torch_experiments.certificates.stability import GOAL, Stability
from torch_experiments.cloning.layouts import Layout, residuals_in

AT_ONCE = 2  # steps in which copies that were exact cannot have parted by rounding: the first that use the state


@dataclass(frozen=True)
class Finding:
    """What became of one sentence.

    Attributes:
        about: ``"gradient"``, ``"frozen"``, ``"sign"``, ``"clones"``, ``"coset"``, ``"radius"`` or ``"time"``.
        sentence: of the certificate, in words.
        promised: ``"kept"``, ``"left"`` or ``"unknown"``.
        held: whether the steps agree with it; None where nothing was promised, or a ``"left"`` was not seen yet.
        steps: after how many steps it was first not so; the number of steps taken if it always was.
        size: the largest deviation: of weights and gradients relative to the largest of their tensor, of copies
            relative to the layer.
    """

    about: str
    sentence: str
    promised: str
    held: bool | None
    steps: int
    size: float

    def __str__(self) -> str:
        """Return the finding as a line: what became of it, what was promised, after how many steps, how far off."""
        word = {True: "held", False: "DID NOT HOLD", None: "seen"}[self.held]
        steps = f"{self.steps:,} step{'' if self.steps == 1 else 's'}"
        about = f"promised: {self.promised}; {steps}, off by at most {self.size:.2g}"
        return f"{word:12s} {self.about}: {self.sentence} ({about})"


@dataclass
class Watch:
    """Deviations of one sentence over the steps: the largest, and the first step at which it was too large.

    Of what is ``exact`` any deviation contradicts the sentence. Rounding passes any bound in the end: it grows, a
    sample between the kinks of two copies that differ by a bit gives one of them alone a gradient, and a rule that
    divides by its size makes a whole step of a gradient that is rounding. What breaks a sentence about exact
    arithmetic does so by the first order of a step, so the first steps tell; later ones show how it fares here.
    """

    allowed: float
    exact: bool = False
    size: float = 0.0
    crossed: bool = False
    first: int | None = None
    goal: int | None = None
    sizes: list[float] = field(default_factory=list)

    def see(self, step: int, size: float) -> None:
        """Note the deviation after a step."""
        self.size = max(self.size, size) if size == size else float("nan")
        self.sizes.append(size)
        if not size <= self.allowed and not self.crossed:
            self.crossed = True
            self.first = step if self.exact or step <= AT_ONCE else None
        if self.goal is None and not size <= GOAL:
            self.goal = step


class Watches:
    """The sentences of a certificate, and how they fare on a copy of the network."""

    def __init__(
        self,
        model: nn.Module,
        frozen: Frozen | None,
        layout: Layout | None,
        verdict: OptimizerVerdict | None,
        stability: Stability | None = None,
    ) -> None:
        self.model, self.layout, self.verdict, self.stability = model, layout, verdict, stability
        self.start = {name: p.detach().clone() for name, p in model.named_parameters()}
        self.waiting = {n: p.grad.detach().clone() for n, p in model.named_parameters() if p.grad is not None}
        self.masks = {} if frozen is None else {n: m for n, m in frozen.entries.items() if bool(m.any())}
        signed = {} if frozen is None else frozen.entries_of(Firmness.SIGN)
        self.signed = {n: m for n, m in signed.items() if bool(m.any())}
        coarsest = max(dtypes(model), key=_coarseness)
        copies = {about: Watch(of_dtype(APART, coarsest)) for about in ("clones", "coset")}
        self.watch = {about: Watch(0.0, exact=True) for about in ("gradient", "frozen", "sign")} | copies

    @cached_property
    def before(self) -> float:
        """Return the violation at the start, which is rounding; looked at only where there is one later."""
        return 0.0 if self.layout is None else gaps(self.start, self.layout)[0]

    def look(self, step: int) -> None:
        """Measure the deviations after a step."""
        self.look_at_entries(step)
        self.look_at_copies(step)

    def look_at_entries(self, step: int) -> None:
        """Measure the deviations of frozen entries after a step."""
        known, start = dict(self.model.named_parameters()), self.start
        moved = {n: m & ~self.signed.get(n, torch.zeros_like(m)) for n, m in self.masks.items()}
        sizes = {
            "gradient": (_at(self._own_gradient(n, known[n], step), m) for n, m in self.masks.items()),
            "frozen": (_moved(known[n], start[n], m) for n, m in moved.items()),
            "sign": (_past(known[n], start[n], m) for n, m in self.signed.items()),
        }
        for about, found in sizes.items():
            self.watch[about].see(step, max(found, default=0.0))

    def look_at_copies(self, step: int, *, equal: bool = False) -> None:
        """Measure those of copies, some passes over all weights in float64; none where they are bit-``equal``."""
        if self.layout is not None:
            known = dict(self.model.named_parameters())
            found = (0.0, 0.0) if equal else gaps(known, self.layout, self.start)
            for about, size in zip(("clones", "coset"), found, strict=True):
                if not size <= self.watch[about].allowed:
                    self.watch[about].allowed = max(self.watch[about].allowed, 10 * self.before)
                self.watch[about].see(step, size)

    def _own_gradient(self, name: str, parameter: Tensor, step: int) -> Tensor | None:
        """Return the gradient of this step's pass, without what waited before the first."""
        gradient = parameter.grad
        if step > 1 or name not in self.waiting or gradient is None:
            return gradient
        return gradient - self.waiting[name]

    def findings(self, steps: int) -> Iterator[Finding]:
        """Yield what became of every sentence."""
        verdict, watch = self.verdict, self.watch
        entries = sum(int(m.sum()) for m in self.masks.values())
        if self.masks:
            first = watch["gradient"].sizes[0] <= 0
            said = f"{entries:,} frozen entries get no gradient on this batch"
            yield Finding("gradient", said, "kept", first, 1, watch["gradient"].sizes[0])
        if verdict is not None and self.masks:
            said = f"{entries:,} frozen entries keep their values, those frozen by sign their sign"
            worst = max(watch["frozen"].size, watch["sign"].size)
            when = min(w.first for w in (watch["frozen"], watch["sign"]) if w.first) if worst > 0 else steps
            yield Finding("frozen", said, verdict.frozen, _agrees(verdict.frozen, worst <= 0), when, worst)
            if verdict.frozen == "kept":
                seen = watch["gradient"]
                said = "frozen entries go on getting no gradient"
                yield Finding("gradient", said, "kept", seen.first is None, seen.first or steps, seen.size)
        if verdict is not None and self.layout is not None:
            for about, promised in (("clones", verdict.clones), ("coset", verdict.coset)):
                seen = watch[about]
                said = "copies stay copies" if about == "clones" else "the weights stay on the coset of today"
                held = _agrees(promised, seen.first is None)
                if held and promised == "kept" and not seen.size <= seen.allowed:
                    held = None  # as far apart as a contradiction, but later: it may be rounding
                yield Finding(about, said, promised, held, seen.first or steps, seen.size)
        held_to = self.stability
        if held_to is not None and held_to.steps is not None and self.layout is not None:
            goal = watch["clones"].goal
            said = f"at today's curvature rounding parts copies by {GOAL:.0%} after some {held_to.steps:.0f} steps"
            yield Finding("time", said, "unknown", None, goal or steps, watch["clones"].size)


def _agrees(promised: str, stayed: bool) -> bool | None:
    """Return whether the steps agree with a verdict; a departure that is foretold need not have come yet."""
    if promised == "kept":
        return stayed
    return None if promised == "unknown" or stayed else True


def dtypes(model: nn.Module) -> set[torch.dtype]:
    """Return the floating-point dtypes in which a network computes: of its parameters, and of autocast if it is on.

    >>> with torch.autocast("cpu", torch.bfloat16):
    ...     sorted(map(str, dtypes(nn.Linear(1, 1))))
    ['torch.bfloat16', 'torch.float32']
    """
    own = {p.dtype for p in model.parameters() if p.is_floating_point()}
    places = {p.device.type for p in model.parameters() if p.dtype != torch.float64}  # which autocast leaves alone
    return own | {torch.get_autocast_dtype(place) for place in places if torch.is_autocast_enabled(place)}


def _coarseness(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).eps


def _at(gradient: Tensor | None, mask: Tensor) -> float:
    """Return the largest gradient at masked entries, relative to its tensor's largest; rounding counts as none."""
    if gradient is None:
        return 0.0
    g = (gradient.to_dense() if gradient.is_sparse else gradient).abs().double()
    size = float(g[mask.to(g.device)].max())
    return 0.0 if size <= torch.finfo(gradient.dtype).eps * float(g.max()) else size / float(g.max())


def _moved(p: Tensor, start: Tensor, mask: Tensor) -> float:
    if not bool(mask.any()):
        return 0.0
    scale = float(start.abs().max()) or 1.0
    return float((p.detach() - start)[mask.to(p.device)].abs().double().max()) / scale


def _past(p: Tensor, start: Tensor, mask: Tensor) -> float:
    """Return how far entries passed zero; those that are zero have to stay at or below it."""
    w, before = p.detach()[mask.to(p.device)].double(), start[mask.to(p.device)].double()
    past = torch.where(before > 0, -w, w).clamp_min(0)
    return float(past.max()) / (float(start.abs().max()) or 1.0)


def gaps(
    known: Mapping[str, Tensor], layout: Layout, start: Mapping[str, Tensor] | None = None
) -> tuple[float, float]:
    """Return the largest violation of RE and CE of a layer, and of the coset of ``start``, relative to it.

    >>> from torch_experiments.cloning.exact import clone, layout
    >>> base = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    >>> gaps(dict(clone(base, 2).named_parameters()), layout(base, 2))[0] < 1e-12
    True
    """
    found = residuals_in(known, layout, start)
    rows = max((max(r.rows, r.columns) for r in found), default=0.0)
    return rows, max((r.coset for r in found), default=0.0)
