"""A `PlasticityMonitor` as a callback of other people's training loops."""

from __future__ import annotations

from typing import Any

from torch_experiments.diagnostics.monitor import PlasticityMonitor


def as_trainer_callback(monitor: PlasticityMonitor) -> Any:
    """Return a ``transformers.TrainerCallback`` that measures after every optimizer step.

    Raises:
        ImportError: without transformers.

    >>> Trainer(model, args, callbacks=[as_trainer_callback(monitor)])  # doctest: +SKIP
    """
    from transformers import TrainerCallback

    class Callback(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            monitor.__enter__()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            monitor.step()

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            monitor.__exit__()

    return Callback()


def as_lightning_callback(monitor: PlasticityMonitor) -> Any:
    """Return a ``lightning.pytorch.Callback`` that measures after batches, and is saved with the checkpoint.

    Raises:
        ImportError: without lightning.

    >>> Trainer(callbacks=[as_lightning_callback(monitor)]).fit(module)  # doctest: +SKIP
    """
    from lightning.pytorch import Callback as Base

    class Callback(Base):
        def on_train_start(self, trainer: Any, module: Any) -> None:
            monitor.__enter__()

        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *_: Any) -> None:
            monitor.step(outputs["loss"] if isinstance(outputs, dict) else outputs)

        def on_train_end(self, trainer: Any, module: Any) -> None:
            monitor.__exit__()

        def state_dict(self) -> dict[str, Any]:
            return monitor.state_dict()

        def load_state_dict(self, state: dict[str, Any]) -> None:
            monitor.load_state_dict(state)

    return Callback()
