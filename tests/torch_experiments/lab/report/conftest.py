"""Records that tests make up."""

import pytest

from tests.torch_experiments.lab.report.curves import straight
from torch_experiments.lab import records
from torch_experiments.lab.campaign import items
from torch_experiments.lab.training import run_identity


@pytest.fixture
def made(tmp_path):
    """Return a function that writes records of an item whose metrics go straight from start to end."""

    def write(name, curves, seeds=None):
        item = items.item(name)
        for cell, config in item.runs("").items():
            for seed in (seeds or item.seeds) if cell in curves else ():
                table = straight(config, curves[cell])
                about = run_identity(config, seed, item.fingerprint)
                records.save(tmp_path / name, records.Record(about, table, {"seconds": 3600.0, "threads": 1}))
        return tmp_path

    return write
