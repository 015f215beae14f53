"""The recovery controller: remedies when an alarm or a certificate asks for them, and a report of what they did."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from rich.table import Table
from torch import Tensor

from torch_experiments.cloning.widen import gap
from torch_experiments.metrics.parameters import norm
from torch_experiments.remedies.bound import Bound
from torch_experiments.remedies.network import Network
from torch_experiments.remedies.surgery import Attribute, commit, transaction
from torch_experiments.support.precision import in_float32
from torch_experiments.units.entry import calling
from torch_experiments.units.inputs import call, evaluating, flatten


class Alarm(Protocol):
    """What a monitor says when a metric of a layer has moved too far, such as `diagnostics.alarms.Raised`."""

    @property
    def kind(self) -> str:
        """Kind of symptom: ``"dead"``, ``"duplicate"``, ``"dormant"``, ``"rank"``, …"""

    @property
    def message(self) -> str:
        """A sentence for the report."""


class Monitor(Protocol):
    """Whatever collects alarms, such as `diagnostics.PlasticityMonitor`."""

    @property
    def alarms(self) -> Sequence[Alarm]:
        """All alarms so far, the oldest first."""


class Certificate(Protocol):
    """Whatever says how much of a network training can still move: of `certify`, or `units.partition.Blocks`."""

    @property
    def unheld_fraction(self) -> float:
        """Share of the parameters that nothing holds."""


@dataclass(frozen=True)
class Action:
    """One remedy that was applied.

    Attributes:
        step: calls of `Recovery.step` before it.
        remedy: its name.
        reason: the alarms or the certificate.
        layers: layers (of drawn units) and weights (of split columns) that were changed.
        units: number of their units; 0 where whole parameters were changed.
        loss_before, loss_after: nan where the remedy was bound without a loss.
        function_change: ``max |f' − f| / max |f|`` over the outputs on the probe batch in eval mode.
        norm_before, norm_after: Euclidean norm of all parameters.

    >>> Action(0, "Escape", "asked for", ("2.weight",), 4, 1.0, 1.0, 0.0, 5.0, 5.0).function_change
    0.0
    """

    step: int
    remedy: str
    reason: str
    layers: tuple[str, ...]
    units: int
    loss_before: float
    loss_after: float
    function_change: float
    norm_before: float
    norm_after: float


class Recovery:
    """Apply remedies when a monitor raises alarms, a certificate finds the network trapped, or someone asks.

    Call ``step()`` after every step of training; it looks at the alarms that are new. Remedies are
    ``remedy.on(model, optimizer, example_inputs=x, loss=...)``; the loss is only for the report.

    Args:
        monitor: has ``alarms``; None if only ``apply`` and ``consult`` are used.
        remedies: for all alarms, or by the alarm's kind, such as ``"dead"``.
        patience: steps for which alarms of a kind are not answered again.

    Attributes:
        actions: what was done.  steps: calls of ``step``.

    Raises:
        TypeError: for a remedy that acts at every step only.
        ValueError: for a negative patience.

    >>> from torch_experiments.remedies import WeightClipping
    >>> model = torch.nn.Linear(4, 1)
    >>> clip = WeightClipping().on(model, torch.optim.SGD(model.parameters()), example_inputs=torch.ones(2, 4))
    >>> recovery = Recovery(None, clip)
    >>> [(action.remedy, action.layers) for action in recovery.apply()]
    [('WeightClipping', ('weight', 'bias'))]
    """

    def __init__(
        self,
        monitor: Monitor | None,
        remedies: Bound | Sequence[Bound] | Mapping[str, Bound | Sequence[Bound]],
        *,
        patience: int = 0,
    ) -> None:
        if patience < 0:
            raise ValueError(f"patience: got {patience}; it has to be 0 or more")
        self.monitor, self.patience = monitor, patience
        self.remedies = _by_kind(remedies)
        for bound in self._all():
            if not bound.remedy.acts_at_once:
                raise TypeError(
                    f"remedies: {type(bound.remedy).__name__} acts at every step, not at once; attach it to the "
                    "optimizer, and give a remedy with apply(), such as Escape"
                )
        self.actions: list[Action] = []
        self.steps = self.seen = 0
        self.answered: dict[str, int] = {}

    def step(self) -> list[Action]:
        """Answer the alarms that are new, and return what was done.

        If one remedy fails, what the others wrote is taken back, and alarms stay new.
        """
        new = [] if self.monitor is None else list(self.monitor.alarms[self.seen :])
        due = [alarm for alarm in new if self._is_due(alarm.kind)]
        wanted: dict[int, tuple[Bound, list[str]]] = {}
        for alarm in due:
            for bound in self._for(alarm.kind):
                wanted.setdefault(id(bound), (bound, []))[1].append(alarm.message)
        answered = self.answered | {alarm.kind: self.steps for alarm in due if self._for(alarm.kind)}
        with transaction():
            done = [self._perform(bound, "; ".join(reasons)) for bound, reasons in wanted.values()]
            counts = {"answered": answered, "seen": self.seen + len(new), "steps": self.steps + 1}
            commit([Attribute(self, name, value) for name, value in counts.items()])
        return done

    def apply(self, reason: str = "asked for") -> list[Action]:
        """Apply all remedies now, each once, or none if one fails."""
        with transaction():
            return [self._perform(bound, reason) for bound in self._all()]

    def consult(self, certificate: Certificate, least: float = 1.0) -> list[Action]:
        """Apply all remedies if the share of free parameters is below ``least``."""
        if certificate.unheld_fraction >= least:
            return []
        return self.apply(f"certificate: {certificate.unheld_fraction:.3g} of the parameters are free")

    def state_dict(self) -> dict[str, Any]:
        """Return what has to survive an interruption, the remedies' states too."""
        actions = [dataclasses.asdict(action) for action in self.actions]
        own = {"steps": self.steps, "seen": self.seen, "answered": dict(self.answered), "actions": actions}
        return own | {"remedies": [bound.state_dict() for bound in self._all()]}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on where ``saved`` was."""
        self.steps, self.seen, self.answered = saved["steps"], saved["seen"], dict(saved["answered"])
        self.actions = [Action(**(a | {"layers": tuple(a["layers"])})) for a in saved["actions"]]
        for bound, state in zip(self._all(), saved["remedies"], strict=True):
            bound.load_state_dict(state)

    def __rich__(self) -> Table:
        """Return the actions as a table."""
        table = Table("step", "remedy", "reason", "units", "loss", "change of f", title="Recovery")
        for a in self.actions:
            loss = f"{a.loss_before:.6g} → {a.loss_after:.6g}"
            units = f"{a.units} in {', '.join(a.layers)}" if a.units else ", ".join(a.layers) or "-"
            table.add_row(str(a.step), a.remedy, a.reason, units, loss, f"{a.function_change:.1e}")
        return table

    def _perform(self, bound: Bound, reason: str) -> Action:
        before = _measured(bound.network)
        touched = bound.apply()
        after = _measured(bound.network)
        units = sum(len(units) for units in touched.values())
        change = gap(before.outputs, after.outputs)
        name = type(bound.remedy).__name__
        losses, norms = (before.loss, after.loss), (before.norm, after.norm)
        action = Action(self.steps, name, reason, tuple(touched), units, *losses, change, *norms)
        commit([Attribute(self, "actions", [*self.actions, action])])
        return action

    def _is_due(self, kind: str) -> bool:
        return kind not in self.answered or self.steps - self.answered[kind] > self.patience

    def _for(self, kind: str) -> Sequence[Bound]:
        return self.remedies.get(kind, self.remedies.get("", ()))

    def _all(self) -> list[Bound]:
        return list({id(bound): bound for bounds in self.remedies.values() for bound in bounds}.values())


@dataclass(frozen=True)
class _Measured:
    outputs: list[Tensor]
    loss: float
    norm: float


def _measured(network: Network) -> _Measured:
    with torch.no_grad(), evaluating(network.model), calling(network.model, network.call), in_float32():
        outputs = [output.clone() for output in flatten(call(network.model, network.batch))]
        loss = float("nan") if network.loss is None else float(network.loss())
    return _Measured(outputs, loss, norm(network.model.parameters()))


def _by_kind(remedies: Any) -> dict[str, Sequence[Bound]]:
    """Return the remedies by the kind of alarms, under the empty name those for all."""
    given = remedies if isinstance(remedies, Mapping) else {"": remedies}
    return {kind: [one] if isinstance(one, Bound) else list(one) for kind, one in given.items()}
