"""The loss of a network on data that it is not trained on."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from torch_experiments.diagnostics.batches import Batch, opened, precision
from torch_experiments.diagnostics.losses import Loss, default_loss
from torch_experiments.diagnostics.measurement import undisturbed
from torch_experiments.support.precision import in_float32
from torch_experiments.support.processes import total
from torch_experiments.units.entry import Callee, calling, unwrapped
from torch_experiments.units.inputs import call as called
from torch_experiments.units.inputs import same_device

CHUNK = 256  # samples of one forward pass


def mean_loss(model: nn.Module, batch: Any, loss: Loss | None = None, call: Callee = None) -> float:
    """Return the mean loss over all samples of all processes, in eval mode; the model is left as it was.

    Args:
        model: any module.
        batch: ``(inputs, targets)``, a mapping whose output carries a ``loss``, or a stream of these.
        loss: ``loss(output, targets)``, the mean over samples; `losses.default_loss` if None.
        call: what is called in the place of the forward, as in `certify`.

    Raises:
        ValueError: for a batch without samples, or without what a loss needs.

    >>> mean_loss(nn.Identity(), (torch.tensor([[1.0], [3.0]]), torch.zeros(2, 1)))
    5.0
    """
    model = unwrapped(model)
    added, samples = 0.0, 0.0
    with calling(model, call), undisturbed(model), torch.no_grad(), in_float32():
        for given in opened(batch, None, model):
            same_device(model, given.inputs)
            for start in range(0, len(given), CHUNK):
                part = given.take(slice(start, start + CHUNK)).to(precision(model))
                added += len(part) * _loss(model, part, loss or default_loss)
                samples += len(part)
    added, samples = total([added, samples])
    if not samples:
        raise ValueError("validation: holds no sample; give (inputs, targets), or a stream of these")
    return added / samples


def _loss(model: nn.Module, part: Batch, loss: Loss) -> float:
    found = loss(called(model, part.inputs), part.targets)
    if found is None:
        raise ValueError("validation: has no targets and its output no loss; give (inputs, targets)")
    return float(found)
