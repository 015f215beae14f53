"""A `PlasticityMonitor` as a callback of trainers that make their optimizer themselves.

A step is one of the optimizer everywhere: what is counted are its own hooks (`support.steps`), and not batches.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from torch_experiments.diagnostics.monitor import PlasticityMonitor
from torch_experiments.support.steps import after_steps


def as_trainer_callback(monitor: PlasticityMonitor) -> Any:
    """Return a ``transformers.TrainerCallback`` that measures after every optimizer step, not after batches.

    Raises:
        ImportError: without transformers.

    >>> Trainer(model, args, callbacks=[as_trainer_callback(monitor)])  # doctest: +SKIP
    """
    from transformers import TrainerCallback

    class Callback(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any) -> None:
            self.running = ExitStack()
            self.running.enter_context(monitor.follow(optimizer))

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.running.close()

    return Callback()


def as_lightning_callback(monitor: PlasticityMonitor) -> Any:
    """Return a ``lightning.pytorch.Callback`` that measures after batches, and is saved with the checkpoint.

    A step is one of any of the optimizers, in automatic and manual optimization, whatever batches are accumulated.
    Its loss is the mean over the batches since the step before, as ``training_step`` returned them; manual
    optimization need not return one.

    Raises:
        ImportError: without lightning.

    >>> Trainer(callbacks=[as_lightning_callback(monitor)]).fit(module)  # doctest: +SKIP
    """
    from lightning.pytorch import Callback as Base

    class Callback(Base):
        def on_train_start(self, trainer: Any, module: Any) -> None:
            self.counted = _Counted(trainer.optimizers)
            monitor.__enter__()

        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *_: Any) -> None:
            steps, loss = self.counted.after(trainer, module, outputs)
            for _step in range(steps):
                monitor.step(loss)

        def on_train_end(self, trainer: Any, module: Any) -> None:
            self.counted.check()
            self._stop()

        def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
            if monitor.started is not None:
                self._stop()

        def _stop(self) -> None:
            self.counted.running.close()
            monitor.__exit__()

        def state_dict(self) -> dict[str, Any]:
            return monitor.state_dict()

        def load_state_dict(self, state: dict[str, Any]) -> None:
            monitor.load_state_dict(state)

    return Callback()


class _Counted:
    """Steps of the optimizers of a Lightning trainer, and the losses of the batches that each is made of."""

    def __init__(self, optimizers: Any) -> None:
        self.steps = self.told = self.batches = 0
        self.losses: list[Any] = []
        self.running = ExitStack()
        self.running.enter_context(after_steps(optimizers, self._count))

    def _count(self) -> None:
        self.steps += 1

    def after(self, trainer: Any, module: Any, outputs: Any) -> tuple[int, Any]:
        """Return how many steps a batch has ended, and their loss, None if it is not known."""
        self.batches += 1
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if loss is not None:
            automatic = getattr(module, "automatic_optimization", True)  # Lightning has divided the loss then
            self.losses.append(loss * (trainer.accumulate_grad_batches if automatic else 1))
        steps, self.told = self.steps - self.told, self.steps
        if not steps:
            return 0, None
        mean = sum(self.losses) / len(self.losses) if self.losses else None
        self.losses = []
        return steps, mean

    def check(self) -> None:
        """Warn where no optimizer took a step."""
        if self.batches and not self.steps:
            warnings.warn(
                f"{self.batches} batches and no step of an optimizer of the trainer, so nothing was measured: "
                "return the optimizers that train from configure_optimizers",
                stacklevel=2,
            )
