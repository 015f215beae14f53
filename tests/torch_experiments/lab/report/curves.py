"""Records whose metrics go straight from start to end."""

import numpy as np
import pyarrow as pa

from torch_experiments.lab.campaign import items
from torch_experiments.lab.report.series import ACCURACY, DEAD, DUPLICATE, LATER, RANK, SATURATED

KEPT = {ACCURACY: (0.8, 0.8), DEAD: (0.1, 0.1), DUPLICATE: (0.1, 0.1), LATER: (0.1, 0.1), RANK: (50.0, 50.0)}
KEPT[SATURATED] = (0.1, 0.1)
LOST = {ACCURACY: (0.8, 0.3), DEAD: (0.1, 0.6), DUPLICATE: (0.0, 0.9), LATER: (0.0, 0.9), RANK: (50.0, 5.0)}
LOST[SATURATED] = (0.1, 0.6)


def beside(name, curves, fresh=KEPT):
    """Return curves of cells with those of their fresh networks."""
    item = items.item(name)
    return curves | {control: fresh for cell in curves if (control := item.control(cell))}


def straight(config, metrics):
    rows = [
        {"task": k, "step": step, "layer": layer, "metric": metric, "value": float(value) if step else np.pi}
        for metric, (first, last) in metrics.items()
        for k, value in enumerate(np.linspace(first, last, config.tasks))
        for step in (0, config.steps)
        for layer in (0, 1)
    ]
    return pa.Table.from_pylist(rows)
