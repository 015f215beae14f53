"""The audit: real steps of the real optimizer on a copy, and what became of every sentence of the certificate.

A certificate is a prediction. The audit copies network, optimizer (with its state and hooks) and schedulers, trains
the copy on the batch, and looks after each step whether frozen entries still get no gradient and keep their values,
whether copies are still copies, whether units are dead within their radius, and when 1 % is passed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from torch_experiments.certificates.certificate import Certificate, Part, certify, checked
from torch_experiments.certificates.oracle import left_alone
from torch_experiments.certificates.rounding import Rehearsal, Rounding
from torch_experiments.certificates.training_copy import TrainingCopy, descended
from torch_experiments.certificates.watches import Finding, Watches
from torch_experiments.support.strict import strict
from torch_experiments.units.entry import Callee, calling, prepared, prepared_targets, unwrapped
from torch_experiments.units.inputs import Inputs


@dataclass(frozen=True)
class Audit:
    """The findings of an audit.

    Attributes:
        findings: one a sentence.
        steps: that were taken.
        loss: what was descended.
        before, after: the loss.
        rounding: what the arithmetic of this machine did meanwhile; None if no step was taken.
        notes: what could not be looked at, and why.
        seconds: that it took.
    """

    findings: tuple[Finding, ...]
    steps: int
    loss: str
    before: float
    after: float
    rounding: Rounding | None = None
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
        """Return the findings, one a line, and what the arithmetic of this machine did."""
        head = f"{self.steps} real steps on {self.loss}: {self.before:.4g} → {self.after:.4g}"
        machine = [] if self.rounding is None else [f"on this machine: {self.rounding}"]
        return "\n".join([head, *map(str, self.findings), *machine, *(f"note: {note}" for note in self.notes)])


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
    call: Callee = None,
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
        call: what is called in the place of the forward, as in `certify`.

    Raises:
        ValueError: for steps below 1, or a network that cannot be copied.
        TraceError, TypeError: as `certify`.

    >>> import torch; from torch import nn
    >>> _ = torch.manual_seed(0); net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    >>> audit(net, torch.randn(8, 3), torch.optim.SGD(net.parameters(), 0.1), steps=3).held
    True
    """
    if steps < 1:
        raise ValueError(f"steps: got {steps}; an audit takes one step or more")
    optimizer = checked(optimizer)
    start = time.perf_counter()
    model = unwrapped(model)
    with calling(model, call):
        inputs, targets = prepared(model, inputs), prepared_targets(targets)
    if certificate is None:
        parts: tuple[Part, ...] = ("frozen", "optimizer", "stability")
        certificate = certify(model, inputs, optimizer, targets=targets, loss=loss, parts=parts, call=call)
    copied = any(profile.copied for profile in certificate.blocks.groups.values())
    layout = certificate.blocks.layout() if copied else None
    c = certificate
    with calling(model, call):
        of_output, words = descended(model, inputs, targets, loss)
        run = TrainingCopy(model, optimizer, schedulers, inputs, of_output)
        rehearsal = Rehearsal(run, Watches(run.model, c.frozen, layout, c.optimizer, c.stability))
        before = run.value()
        with left_alone(model):  # dropout of the copy draws from the same generators
            taken = rehearsal.take(steps)
        seen = rehearsal.seen() if taken else None
    ended = () if taken == steps else (f"training diverged in step {taken + 1}, so it ended there",)
    seconds = time.perf_counter() - start
    found = () if seen is None else seen.findings
    return Audit(found, taken, words, before, run.value(), seen, (*run.notes, *ended), seconds)
