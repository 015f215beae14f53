"""Records of agents that were never run, for the tests of what is said of records."""

import numpy as np
import pyarrow as pa

from torch_experiments.lab import records
from torch_experiments.lab.report import agents


def written(folder, configs, cells, seeds=range(5), values_of=lambda cell, task, values: values):
    """Write records of cells whose metrics have these values in all tasks, with noise of up to 2 %; the folder."""
    source = np.random.default_rng(0)
    for cell, values in cells.items():
        config = configs[cell]
        for seed in seeds:
            rows = [
                {
                    "task": k,
                    "step": config.steps,
                    "layer": 0,
                    "metric": metric,
                    "value": value * (1 + 0.02 * source.random()),
                }
                for k in range(config.tasks)
                for metric, value in values_of(cell, k, values).items()
            ]
            record = records.Record(config.identity(seed), pa.Table.from_pylist(rows), {})
            records.save(folder / agents.FOLDER, record)
    return folder
