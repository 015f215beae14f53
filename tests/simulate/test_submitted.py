"""What JL25 says of bit flipping as submitted: the switch, the size, dropout (claims E5 to E7)."""

import math

import numpy as np
import pytest

from claims.evidence import witness
from simulate.bit_flipping import Config, Result, run
from simulate.learners import Learner
from simulate.streams import Stream

SEEDS = range(20)
RANK = "recent_roy_vetterli_rank"
BINS = 15


def ran(learner: str | Learner, hidden: int, steps: int, bins: int = 6) -> Result:
    return run(Config(learner, hidden, steps, SEEDS, steps // bins, Stream("flip-one")))


def sure(difference: np.ndarray) -> bool:
    """Tell whether a difference, one a seed, is above zero by more than three standard errors."""
    return float(difference.mean()) > 3 * float(difference.std(ddof=1)) / math.sqrt(len(difference))


# ------------------------------------------------------------------------------------------------------------ E5

LONG, HALF = 300_000, 150_000
BEFORE = slice(BINS // 2 - 2, BINS // 2)  # the last two bins before the switch


@pytest.fixture(scope="module")
def plain() -> Result:
    return ran("sgd", 5, LONG, BINS)


@pytest.fixture(scope="module")
def switched() -> Result:
    return ran(Learner(resets="cbp", start=HALF), 5, LONG, BINS)


def reversal(found: Result) -> tuple[np.ndarray, np.ndarray]:
    """Return by how much the error fell and the rank rose from before the switch to the end, one a seed."""
    loss, rank = found.loss, found.metrics[RANK]
    return loss[:, BEFORE].mean(1) - found.end(), found.end(RANK) - rank[:, BEFORE].mean(1)


@pytest.mark.claim("E5", "simulation")
def test_continual_backprop_from_half_of_the_samples_on_reverses_error_and_rank(plain, switched):
    done = HALF // (LONG // BINS)
    assert np.array_equal(plain.loss[:, :done], switched.loss[:, :done])
    assert all(map(sure, reversal(switched)))
    assert sure(plain.end() - switched.end())
    assert (switched.end(RANK) > plain.end(RANK)).all()
    witness(instances=len(SEEDS))


@pytest.mark.control("E5")
def test_without_the_switch_neither_is_reversed(plain):
    assert not any(map(sure, reversal(plain)))


# ------------------------------------------------------------------------------------------------------------ E6

SHORT = 60_000


@pytest.fixture(scope="module")
def advantages() -> dict[int, np.ndarray]:
    """Return by width how much smaller the error is with continual backprop than plain, one a seed."""
    return {hidden: ran("sgd", hidden, SHORT).end() - ran("cbp", hidden, SHORT).end() for hidden in (5, 10, 100)}


@pytest.mark.claim("E6", "counterexample")
def test_with_100_units_the_advantage_is_smaller_than_with_five(advantages):
    assert sure(advantages[5] - advantages[100])
    assert sure(advantages[10] - advantages[100])
    witness(instances=len(SEEDS))


@pytest.mark.control("E6")
def test_with_five_and_ten_units_there_is_an_advantage_to_lose(advantages):
    assert sure(advantages[5])
    assert sure(advantages[10])


# ------------------------------------------------------------------------------------------------------------ E7

RATES = (0.05, 0.2, 0.5)


@pytest.fixture(scope="module")
def without() -> np.ndarray:
    return ran("sgd", 20, 90_000).end()


@pytest.fixture(scope="module")
def with_dropout() -> dict[float, np.ndarray]:
    return {rate: ran(Learner(dropout=rate), 20, 90_000).end() for rate in RATES}


@pytest.mark.claim("E7", "simulation")
def test_dropout_helps_at_no_rate_and_does_harm_at_the_largest(without, with_dropout):
    for ends in with_dropout.values():
        assert not sure(without - ends)
        witness(instances=len(SEEDS))
    assert sure(with_dropout[0.5] - without)


@pytest.mark.control("E7")
def test_continual_backprop_does_help(without):
    assert sure(without - ran("cbp", 20, 90_000).end())
