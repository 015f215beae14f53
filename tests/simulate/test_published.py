"""The published numbers of slowly changing regression, run again (claim E4)."""

import math

import numpy as np
import pytest

from claims.evidence import witness
from simulate.bit_flipping import Config, run
from simulate.streams import Stream

SEEDS = range(10)
PUBLISHED = {
    "sgd": (1.34, 0.10),
    "linear": (0.96, 0.05),
    "cbp": (0.58, 0.04),
}  # the linear one without an error there


@pytest.fixture(scope="module")
def ends() -> dict[str, np.ndarray]:
    """Return the squared error over the last tenth of a million steps, one a seed."""
    names = (*PUBLISHED, "escape")
    return {name: run(Config(name, hidden=5, steps=10**6, seeds=SEEDS)).end() for name in names}


def standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) / math.sqrt(len(values))


@pytest.mark.claim("E4", "simulation")
@pytest.mark.parametrize("name", PUBLISHED)
def test_ends_agree_with_the_published_ones(ends, name):
    mean, error = PUBLISHED[name]
    off = abs(float(ends[name].mean()) - mean)
    assert off <= 3 * math.hypot(error, standard_error(ends[name]))
    witness(residual=off, instances=len(SEEDS))


@pytest.mark.claim("E4", "simulation")
def test_plain_learners_end_above_a_linear_one_and_remedies_below(ends):
    assert ends["sgd"].mean() > ends["linear"].mean() + standard_error(ends["sgd"] - ends["linear"])
    for name in ("cbp", "escape"):
        gap = ends["linear"] - ends[name]
        assert gap.mean() > 3 * standard_error(gap)
        witness(instances=len(SEEDS))


@pytest.mark.control("E4")
def test_the_thresholds_of_the_text_do_not_give_the_published_end():
    found = run(Config("sgd", hidden=5, steps=10**6, seeds=SEEDS, stream=Stream(threshold="paper"))).end()
    mean, error = PUBLISHED["sgd"]
    assert found.mean() - mean > 3 * math.hypot(error, standard_error(found))
