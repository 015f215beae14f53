"""How often and fast clones part (E1), and escape at equal time with and without a change of the function (E2)."""

import numpy as np
import pytest

from claims.evidence import witness
from simulate.clones import Disturbance
from simulate.escape_table import SEEDS, equal_time, push, row, settings


@pytest.mark.claim("E1", "simulation")
def test_more_noise_and_more_dropout_leave_earlier():
    noise = [row("", Disturbance(sigma=s), 0.0, SEEDS, 1500).quartiles[1] for s in (1e-2, 3e-2, 1e-1)]
    drop = [row("", Disturbance(dropout=p), 0.0, SEEDS, 1500).quartiles[1] for p in (0.01, 0.05, 0.2)]
    assert np.isfinite(noise + drop).all()
    assert noise == sorted(noise, reverse=True)
    assert drop == sorted(drop, reverse=True)
    witness(instances=6 * SEEDS)


@pytest.mark.control("E1")
def test_small_batches_alone_do_not_part_clones():
    found = row("", Disturbance(batch=8), 0.0, SEEDS, 1500)
    assert found.share == 0
    assert found.quartiles == (np.inf,) * 3


@pytest.mark.claim("E2", "simulation")
def test_at_equal_escape_time_a_split_changes_the_loss_by_rounding_and_noise_does_not():
    split, noise = equal_time(1e-2, seeds=SEEDS, steps=600)
    assert abs(noise.steps / split.steps - 1) < 0.05
    assert split.rise <= 1e-12 < 1e-6 < noise.rise
    assert split.size < noise.size
    witness(residual=split.rise, instances=SEEDS)


def test_every_row_has_a_name_of_its_own():
    names = [name for name, *_ in settings()]
    assert len(set(names)) == len(names) >= 15
    with pytest.raises(ValueError, match="kind is 'push'"):
        push("push", 0.1)
