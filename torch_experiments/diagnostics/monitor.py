"""`PlasticityMonitor`: `diagnose` at intervals while a network trains, within a budget of time, with alarms."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from torch import Tensor, nn

from simulate.files import replacing
from torch_experiments.diagnostics.alarms import DEFAULT_ALARMS, Alarm, Overfitting, Raised, Watchman
from torch_experiments.diagnostics.measurement import NotFiniteError, diagnose
from torch_experiments.diagnostics.result import Diagnosis
from torch_experiments.diagnostics.validation import mean_loss
from torch_experiments.support.processes import agreed, leads, total
from torch_experiments.support.steps import after_steps

Row = dict[str, Any]


class PlasticityAlarm(UserWarning):
    """A network is losing what it needs to go on learning."""


class PlasticityMonitor:
    """Measures a network every few steps of its training.

    >>> import torch
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    >>> with PlasticityMonitor(model, torch.ones(4, 2), every=2, budget=None) as monitor:
    ...     for loss in [0.3, 0.2, 0.1, 0.0]:
    ...         _ = monitor.step(loss)  # after optimizer.step()
    >>> sorted({row["step"] for row in monitor.rows})
    [0, 2, 4]

    The first measurement is taken on entering, so that alarms have something to compare with. Any later one is
    left out, and noted in ``skipped``, when the time spent on measurements would exceed ``budget`` times the time
    since entering. The network, its gradients, its buffers and all random states are left as they are.

    Args:
        model: any module.
        batch: as for `diagnose`; fixed, and better balanced over the classes. A stream has to be one that can be
            read again, such as a list or a DataLoader. A function without arguments is asked for the batch of every
            measurement: what an agent has seen last, say.
        targets: as for `diagnose`.
        validation: data that the network is not trained on: ``(inputs, targets)``, a mapping whose output carries a
            loss, or a stream of these that can be read again. Its mean loss is measured too, as
            ``validation_loss``, and held against the training loss: the mean of the losses given to ``step`` since
            the last measurement, or that of ``batch`` where none was given.
        every: number of steps between measurements.
        budget: share of the time since entering that measurements may take, in (0, 1]; None for no limit.
        alarms: what to watch for; see `alarms.DEFAULT_ALARMS`.
        log: path of a parquet file that is replaced as a whole after every measurement, None for none.
        writer: gets every measurement: a run of Weights & Biases, the module ``trackio``, or anything else with
            ``log({name: value}, step=step)``; or a TensorBoard ``SummaryWriter``, or anything with
            ``add_scalar(name, value, step)``. Names are ``metric/layer``.
        on_alarm: called with every `Raised`; if None, a `PlasticityAlarm` warning is given.
        options: of `diagnose`.

    Attributes:
        steps: number of steps so far.
        alarms: those that went off so far, the oldest first: what `Recovery` reads.
        skipped: steps at which a measurement was due and was left out, with the reason.

    Raises:
        ValueError: for ``every`` below 1, or a budget outside of (0, 1].
        TypeError: for a writer that cannot be written to.
    """

    def __init__(
        self,
        model: nn.Module,
        batch: Any,
        targets: Any = None,
        *,
        validation: Any = None,
        every: int = 100,
        budget: float | None = 0.02,
        alarms: Sequence[Alarm | Overfitting] = DEFAULT_ALARMS,
        log: str | Path | None = None,
        writer: Any = None,
        on_alarm: Callable[[Raised], object] | None = None,
        **options: Any,
    ) -> None:
        if every < 1:
            raise ValueError(f"every: got {every}; it has to be at least 1")
        if writer is not None and not (hasattr(writer, "add_scalar") or hasattr(writer, "log")):
            raise TypeError(f"writer: got {type(writer).__name__}, which has neither add_scalar nor log")
        if budget is not None and not 0 < budget <= 1:
            raise ValueError(f"budget: got {budget}; it is a share of the time, above 0 and at most 1, or None")
        self.model, self.batch, self.targets, self.options = model, batch, targets, options
        self.every, self.budget, self.log, self.writer = every, budget, log, writer
        self.validation = validation
        self.on_alarm = on_alarm or _warn
        self.watchman = Watchman(tuple(alarms))
        self.steps = 0
        self.alarms: list[Raised] = []
        self.skipped: list[tuple[int, str]] = []
        self.rows: list[Row] = []
        self.spent = self.last = self.before = 0.0
        self.lost: tuple[float | Tensor, int] = (0.0, 0)  # sum and number of the losses since the last measurement
        self.started: float | None = None

    def __enter__(self) -> Self:
        """Start the clock, and take the first measurement."""
        self.started = time.perf_counter()
        try:
            if not self.rows:
                self.measure()
        except BaseException:
            self.started = None
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the clock."""
        self.before, self.started = self.elapsed, None

    @contextmanager
    def follow(self, *optimizers: Any) -> Iterator[Self]:
        """Run for a block in which somebody else's loop trains: each step of the optimizers is a step.

        Works for any loop that takes steps of a ``torch.optim.Optimizer``: a plain one, stable-baselines3
        (``agent.policy.optimizer``), Avalanche (``strategy.optimizer``). Batches that only accumulate gradients,
        and steps that a ``GradScaler`` skips, are none. Trainers that make their optimizer themselves have
        `as_trainer_callback` and `as_lightning_callback`.

        Args:
            optimizers: whose steps count, those of each; wrappers of Accelerate and Lightning are looked into.

        Raises:
            TypeError: for what takes no hooks on its steps.
            RuntimeError: if the monitor is running already.

        >>> import torch
        >>> model = nn.Linear(2, 1)
        >>> sgd = torch.optim.SGD(model.parameters())
        >>> with PlasticityMonitor(model, torch.ones(4, 2), every=2, budget=None).follow(sgd) as monitor:
        ...     for _ in range(4):
        ...         sgd.step()  # somewhere inside of trainer.fit()
        >>> sorted({row["step"] for row in monitor.rows})
        [0, 2, 4]
        """
        if self.started is not None:
            raise RuntimeError("follow: the monitor is running already; leave its with block first")
        before = self.steps
        with self, after_steps(optimizers, self.step):
            yield self
        if self.steps == before:
            warnings.warn(
                "optimizer: none of its steps was seen, so nothing was measured after the start; give the one that "
                "takes the steps (a trainer may have made another)",
                stacklevel=3,
            )

    @property
    def elapsed(self) -> float:
        """Seconds between entering and leaving, so far, those before a checkpoint included."""
        return self.before + (time.perf_counter() - self.started if self.started is not None else 0.0)

    def step(self, loss: float | Tensor | None = None) -> Diagnosis | None:
        """Count a training step, and measure if it is time; ``loss`` is noted with the measurement.

        Raises:
            RuntimeError: outside of a ``with`` block.
        """
        if self.started is None:
            raise RuntimeError("step: the monitor is not running; use it in a with block")
        self.steps += 1
        self._note(loss)
        if self.steps % self.every:
            return None
        reason = self._too_dear()
        if not agreed(not reason):
            self.skipped.append((self.steps, reason or "the first process has no time left"))
            return None
        return self.measure(loss)

    def measure(self, loss: float | Tensor | None = None) -> Diagnosis | None:
        """Measure now, whatever it costs, and return the diagnosis.

        Values that are not finite are an alarm of the metric ``"finite"``, and None is returned: training is not
        stopped by its monitor.
        """
        start = time.perf_counter()
        try:
            batch = self.batch() if callable(self.batch) else self.batch
            found = diagnose(self.model, batch, self.targets, **self.options)
            if self.validation is not None:
                unseen = mean_loss(self.model, self.validation, self.options.get("loss"), self.options.get("call"))
                found.setdefault("", {})["validation_loss"] = unseen
        except NotFiniteError as error:
            self._raise([Raised(self.steps, "", "finite", 1.0, 0.0, 1.0, f"step {self.steps}: {error}")])
            return None
        self.rows += [{"step": self.steps} | row for row in found.rows()]
        if loss is not None:
            number = float(loss.detach() if isinstance(loss, Tensor) else loss)
            self.rows.append({"step": self.steps, "layer": "", "metric": "training_loss", "value": number})
        losses = self._losses(found)
        self._publish(found)
        self.last = time.perf_counter() - start
        self.spent += self.last
        self._raise(self.watchman.look(self.steps, found, losses))
        return found

    def table(self) -> Any:
        """Return all measurements as a ``pyarrow.Table`` with the columns step, layer, metric and value."""
        import pyarrow as pa

        columns = [("step", pa.int64()), ("layer", pa.string()), ("metric", pa.string()), ("value", pa.float64())]
        return pa.Table.from_pylist(self.rows, schema=pa.schema(columns))

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint has to hold, in plain Python values."""
        state = {name: getattr(self, name) for name in ("steps", "spent", "last")} | {"elapsed": self.elapsed}
        lists = {"rows": [dict(row) for row in self.rows], "skipped": [list(pair) for pair in self.skipped]}
        lost = {"lost": [float(self.lost[0]), self.lost[1]], "alarms": [list(alarm) for alarm in self.alarms]}
        return state | lists | lost | self.watchman.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state_dict()``, before or after entering."""
        self.steps, self.spent, self.last = (state[name] for name in ("steps", "spent", "last"))
        self.before = state["elapsed"]
        self.started = None if self.started is None else time.perf_counter()
        self.rows = [dict(row) for row in state["rows"]]
        self.skipped = [(step, why) for step, why in state["skipped"]]
        self.alarms = [Raised(*alarm) for alarm in state["alarms"]]
        self.lost = tuple(state.get("lost", (0.0, 0)))
        self.watchman.load_state_dict(state)

    def _note(self, loss: float | Tensor | None) -> None:
        """Add a loss to those since the last measurement, without waiting for the device that computes it."""
        if loss is not None and self.validation is not None:
            added, count = self.lost
            self.lost = added + (loss.detach() if isinstance(loss, Tensor) else loss), count + 1

    def _losses(self, found: Diagnosis) -> tuple[float, float] | None:
        """Return the training loss since the last measurement and the validation loss, where both are known."""
        if self.validation is None:
            return None
        added, count = total([float(self.lost[0]), self.lost[1]])
        self.lost = (0.0, 0)
        training = added / count if count else found[""].get("loss")
        return None if training is None else (training, found[""]["validation_loss"])

    def _too_dear(self) -> str:
        """Return why there is no time for a measurement like the last one, empty if there is."""
        share = (self.spent + self.last) / max(self.elapsed, 1e-9)  # clocks may not have moved yet
        if self.budget is None or share <= self.budget:
            return ""
        return f"measurements would take {share:.1%} of the time; the budget is {self.budget:.1%}"

    def _publish(self, found: Diagnosis) -> None:
        if self.log is not None and leads():
            _write(Path(self.log), self.table())
        if self.writer is not None and leads():
            values = {"/".join(filter(None, (row["metric"], row["layer"]))): row["value"] for row in found.rows()}
            if hasattr(self.writer, "add_scalar"):
                for name, value in values.items():
                    self.writer.add_scalar(name, value, self.steps)
            else:
                self.writer.log(values, step=self.steps)

    def _raise(self, new: list[Raised]) -> None:
        self.alarms += new
        for alarm in new:
            self.on_alarm(alarm)


def _warn(alarm: Raised) -> None:
    warnings.warn(alarm.message, PlasticityAlarm, stacklevel=2)


def _write(path: Path, table: Any) -> None:
    import pyarrow.parquet as pq

    with replacing(path) as partial:
        pq.write_table(table, partial)
