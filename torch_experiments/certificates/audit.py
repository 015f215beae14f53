"""The audit: real steps of the real optimizer on a copy, and what became of every sentence of the certificate.

A certificate is a prediction. The audit copies network, optimizer (with its state and hooks) and schedulers, trains
the copy on the batch, and looks after each step whether frozen entries still get no gradient and keep their values,
whether copies are still copies, whether units are dead within their radius, and when 1 % is passed.
"""

from __future__ import annotations

import copy
import inspect
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from theory.certificates import Firmness
from torch_experiments.certificates.certificate import Certificate, Part, certify
from torch_experiments.certificates.oracle import left_alone, normal
from torch_experiments.cloning.layouts import Layout, residuals_of
from torch_experiments.diagnostics.losses import default_loss
from torch_experiments.support.strict import strict
from torch_experiments.support.torch_private import MODULE_HOOKS, STEP_HOOKS
from torch_experiments.units.inputs import Inputs, call, flatten

GOAL = 0.01  # the distance at which `stability` calls a manifold left
APART: Mapping[torch.dtype, float] = {  # more than rounding has made of ε in a few dozen steps of small networks
    torch.float64: 1e-7,
    torch.float32: 1e-3,
    torch.bfloat16: 0.1,
    torch.float16: 0.05,
}
SEED = 0


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
        """Return the finding as a line."""
        word = {True: "held", False: "DID NOT HOLD", None: "seen"}[self.held]
        about = f"promised: {self.promised}; {self.steps} steps, {self.size:.2g}"
        return f"{word:12s} {self.about}: {self.sentence} ({about})"


@dataclass(frozen=True)
class Audit:
    """The findings of an audit.

    Attributes:
        findings: one a sentence.
        steps: that were taken.
        loss: what was descended.
        before, after: the loss.
        notes: what could not be looked at, and why.
        seconds: that it took.
    """

    findings: tuple[Finding, ...]
    steps: int
    loss: str
    before: float
    after: float
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def held(self) -> bool:
        """Whether no sentence was contradicted."""
        return all(finding.held is not False for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings, lists and dicts, for JSON; infinity is the string ``"inf"``."""
        found: dict[str, Any] = strict(asdict(self) | {"held": self.held})
        return found

    def __str__(self) -> str:
        """Return the findings, one a line."""
        head = f"{self.steps} real steps on {self.loss}: {self.before:.4g} → {self.after:.4g}"
        return "\n".join([head, *map(str, self.findings), *(f"note: {note}" for note in self.notes)])


@dataclass
class _Watch:
    """Deviations of one sentence over the steps: the largest, and the first step at which it was too large."""

    allowed: float
    size: float = 0.0
    first: int | None = None
    goal: int | None = None
    sizes: list[float] = field(default_factory=list)

    def see(self, step: int, size: float) -> None:
        self.size = max(self.size, size) if size == size else float("nan")
        self.sizes.append(size)
        if self.first is None and not size <= self.allowed:
            self.first = step
        if self.goal is None and not size <= GOAL:
            self.goal = step


def audit(
    model: nn.Module,
    inputs: Inputs,
    optimizer: Optimizer,
    *,
    targets: Tensor | None = None,
    loss: Callable[[Any], Tensor] | None = None,
    steps: int = 60,
    schedulers: Sequence[Any] = (),
    certificate: Certificate | None = None,
) -> Audit:
    """Train a copy of ``model`` by real steps of ``optimizer`` and check every sentence of its certificate.

    Cost: the certificate, and ``steps`` training steps with one look at the weights after each.

    Args:
        model: as it trains; it, its optimizer and the schedulers stay as they are.
        inputs: the batch, as in `certify`.
        optimizer: that trains it, with its state and hooks. One that needs a closure gets one.
        targets: of the samples: class numbers (cross entropy) or numbers (squared error).
        loss: of the output, instead of ``targets``. Without both, the squared distance to random outputs.
        steps: to take.
        schedulers: that step after each optimizer step.
        certificate: to check; `certify` of the same arguments if None.

    Raises:
        ValueError: for steps below 1, or a network that cannot be copied.
        TraceError: as `certify`.

    >>> import torch; from torch import nn
    >>> _ = torch.manual_seed(0); net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    >>> audit(net, torch.randn(8, 3), torch.optim.SGD(net.parameters(), 0.1), steps=3).held
    True
    """
    if steps < 1:
        raise ValueError(f"steps: got {steps}; an audit takes one step or more")
    start = time.perf_counter()
    if certificate is None:
        parts: tuple[Part, ...] = ("frozen", "optimizer", "stability")
        certificate = certify(model, inputs, optimizer, targets=targets, loss=loss, parts=parts)
    of_output, words = _loss(model, inputs, targets, loss)
    run = _Run(model, optimizer, schedulers, inputs, of_output)
    watches = _Watches(certificate, run.model)
    before = run.value()
    with left_alone(model):  # dropout of the copy draws from the same generators
        taken = 0
        while taken < steps and run.step():
            taken += 1
            watches.look(taken)
    notes = (
        run.notes if taken == steps else (*run.notes, f"training diverged in step {taken + 1}, so it ended there")
    )
    findings = tuple(watches.findings(taken)) if taken else ()
    seconds = time.perf_counter() - start
    return Audit(findings, taken, words, before, run.value(), notes, seconds)


class _Run:
    """A copy of the network and of what trains it."""

    def __init__(
        self, model: nn.Module, optimizer: Optimizer, schedulers: Sequence[Any], inputs: Inputs, loss: Any
    ) -> None:
        waiting = [p.grad for p in model.parameters()]
        self.model, self.optimizer, self.schedulers, notes = copied(model, optimizer, schedulers)
        own = {p for group in self.optimizer.param_groups for p in group["params"]}
        if not own & set(self.model.parameters()):
            raise ValueError("optimizer: it holds no parameter of the model; build it from model.parameters()")
        for p, grad in zip(self.model.parameters(), waiting, strict=True):
            p.grad = None if grad is None else grad.clone()
        self.inputs, self.loss = normal(inputs), loss
        self.waits = any(grad is not None and bool(grad.any()) for grad in waiting)
        self.notes = (*notes, *["gradients that waited in .grad are part of the first step"] * self.waits)
        need = inspect.signature(self.optimizer.step).parameters.get("closure")
        self.closes = need is not None and need.default is inspect.Parameter.empty

    def value(self) -> float:
        """Return the loss now."""
        with left_alone(self.model), torch.no_grad():
            return float(self.loss(call(self.model, self.inputs)))

    def step(self) -> bool:
        """Take one step as a training loop would, gradients that wait counted; return whether all stayed finite."""
        if self.closes:
            self.optimizer.step(self._closure)  # type: ignore[arg-type]  # torch's own closures return tensors
        else:
            self._closure()
            self.optimizer.step()
        with warnings.catch_warnings(action="ignore"):  # torch sees that the copied step is not wrapped
            for scheduler in self.schedulers:
                scheduler.step()
        own = [t for p in self.model.parameters() for t in (p, p.grad) if t is not None]
        return all(bool(t.isfinite().all()) for t in own)

    def _closure(self) -> Tensor:
        if not self.waits:
            self.optimizer.zero_grad()
            for p in self.model.parameters():
                p.grad = None
        self.waits = False
        with torch.inference_mode(False), torch.enable_grad():
            value = self.loss(call(self.model, self.inputs))
            value.backward()
        return value.detach()


def copied(
    model: nn.Module, optimizer: Optimizer, schedulers: Sequence[Any] = ()
) -> tuple[nn.Module, Optimizer, list[Any], list[str]]:
    """Return copies of a network, its optimizer and its schedulers that belong together, and what was left out.

    `copy.deepcopy` of an optimizer keeps its state and groups and drops all else (hooks, the parameter list of
    LBFGS), so its attributes are copied one by one. A hook that holds the original network or optimizer in its
    closure would act on the original: it is left out, and named.

    Raises:
        ValueError: for a network that cannot be copied; it says why.
    """
    twin: Optimizer = object.__new__(type(optimizer))
    given = dict(vars(optimizer))
    if getattr(given.get("step"), "_wrapped_by_lr_sched", False):
        del given["step"]  # the scheduler's wrapper steps the original
    originals = {id(model), id(optimizer), *map(id, model.parameters()), *map(id, model.modules())}
    notes: list[str] = []
    for name in STEP_HOOKS:
        given[name] = _free_hooks(given.get(name, {}), originals, notes)
    try:
        made, attributes, plans = copy.deepcopy((model, given, list(schedulers)), {id(optimizer): twin})
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"model: it cannot be copied ({error}); an audit trains a copy, so make tensors that are no leaves "
            "anew in forward, and leave open files and locks out of the model and its hooks"
        ) from error
    vars(twin).update(attributes)
    for module in made.modules():
        for name in MODULE_HOOKS:
            setattr(module, name, _free_hooks(getattr(module, name), originals, notes))
    return made, twin, plans, notes


def _free_hooks(hooks: Mapping[int, Any], originals: set[int], notes: list[str]) -> Any:
    """Return the hooks whose closures hold none of the originals; note the others."""
    kept: OrderedDict[int, Any] = OrderedDict()
    for key, hook in hooks.items():
        if any(id(value) in originals for value in _captured(hook)):
            name = getattr(hook, "__qualname__", hook)
            notes.append(f"the hook {name} holds the network itself, so it did not run")
        else:
            kept[key] = hook
    return kept


def _captured(hook: Any) -> Iterator[Any]:
    for cell in getattr(hook, "__closure__", None) or ():
        with suppress(ValueError):  # a cell that is still empty
            yield cell.cell_contents
    yield from getattr(hook, "__defaults__", None) or ()


class _Watches:
    """The sentences of a certificate, and how they fare on the copy."""

    def __init__(self, certificate: Certificate, model: nn.Module) -> None:
        self.certificate, self.model = certificate, model
        self.start = {name: p.detach().clone() for name, p in model.named_parameters()}
        frozen = certificate.frozen
        self.masks = {} if frozen is None else {n: m for n, m in frozen.entries.items() if bool(m.any())}
        signed = {} if frozen is None else frozen.entries_of(Firmness.SIGN)
        self.signed = {n: m for n, m in signed.items() if bool(m.any())}
        copied = any(profile.copied for profile in certificate.blocks.groups.values())
        self.layout: Layout | None = certificate.blocks.layout() if copied else None
        dtype = max((p.dtype for p in model.parameters() if p.is_floating_point()), key=_coarseness)
        at_start = _gap(model, self.layout, None)[0] if self.layout else 0.0
        apart = APART.get(dtype, 1e-3)
        self.watch = {
            "gradient": _Watch(0.0),
            "frozen": _Watch(0.0),
            "sign": _Watch(0.0),
            "clones": _Watch(max(apart, 10 * at_start)),
            "coset": _Watch(max(apart, 10 * at_start)),
        }

    def look(self, step: int) -> None:
        """Measure all deviations after a step."""
        known, start = dict(self.model.named_parameters()), self.start
        moved = {n: m & ~self.signed.get(n, torch.zeros_like(m)) for n, m in self.masks.items()}
        sizes = {
            "gradient": (_at(known[n].grad, m) for n, m in self.masks.items()),
            "frozen": (_moved(known[n], start[n], m) for n, m in moved.items()),
            "sign": (_past(known[n], start[n], m) for n, m in self.signed.items()),
        }
        for about, found in sizes.items():
            self.watch[about].see(step, max(found, default=0.0))
        if self.layout is not None:
            gap, coset = _gap(self.model, self.layout, self.start)
            self.watch["clones"].see(step, gap)
            self.watch["coset"].see(step, coset)

    def findings(self, steps: int) -> Iterator[Finding]:
        """Yield what became of every sentence."""
        verdict, watch = self.certificate.optimizer, self.watch
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
                yield Finding(about, said, promised, held, seen.first or steps, seen.size)
        held_to = self.certificate.stability
        if held_to is not None and held_to.steps is not None and self.layout is not None:
            goal = watch["clones"].goal
            said = f"rounding takes {held_to.steps:.0f} steps or more to part copies by {GOAL:.0%}"
            early = goal is not None and goal < held_to.steps
            yield Finding("time", said, "kept", not early, goal or steps, watch["clones"].size)


def _agrees(promised: str, stayed: bool) -> bool | None:
    """Return whether the steps agree with a verdict; a departure that is foretold need not have come yet."""
    if promised == "kept":
        return stayed
    return None if promised == "unknown" or stayed else True


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


def _gap(model: nn.Module, layout: Layout | None, start: Mapping[str, Tensor] | None) -> tuple[float, float]:
    """Return the largest violation of RE and CE of a layer, and of its coset, relative."""
    assert layout is not None
    found = residuals_of(model, layout, start) if start is not None else residuals_of(model, layout)
    rows = max((max(r.rows, r.columns) for r in found), default=0.0)
    return rows, max((r.coset for r in found), default=0.0)


def _loss(
    model: nn.Module, inputs: Inputs, targets: Tensor | None, loss: Callable[[Any], Tensor] | None
) -> tuple[Callable[[Any], Tensor], str]:
    if loss is not None:
        return loss, "the loss"
    if targets is not None:
        return (lambda output: _some(default_loss(output, targets))), "the targets"
    with left_alone(model), torch.no_grad():
        shapes = [y for y in flatten(call(model, normal(inputs))) if y.is_floating_point()]
    generator = torch.Generator().manual_seed(SEED)
    goals = [torch.randn(y.shape, generator=generator).to(y) for y in shapes]

    def distance(output: Any) -> Tensor:
        outputs = [y for y in flatten(output) if y.is_floating_point()]
        return torch.stack([(y - goal).square().mean() for y, goal in zip(outputs, goals, strict=True)]).sum()

    return distance, "random outputs"


def _some(value: Tensor | None) -> Tensor:
    assert value is not None  # targets were given
    return value
