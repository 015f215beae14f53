"""SplitMix64 against published values, and the moments of what is made of it."""

import numpy as np

from simulate import randomness


def test_the_words_are_those_of_the_reference_implementation():
    """The first outputs for the state 0, as quoted with the original Java and C code."""
    state = np.zeros(1, dtype=np.uint64)
    assert [int(randomness.word(state)) for _ in range(2)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]


def test_uniform_and_normal_have_their_moments():
    state, n = randomness.seeded(0), 20_000
    u = np.array([randomness.uniform(state) for _ in range(n)])
    z = np.array([randomness.normal(state) for _ in range(n)])
    assert 0 <= u.min() < u.max() < 1
    for sample, mean, variance, fourth in ((u, 0.5, 1 / 12, 1 / 80), (z, 0.0, 1.0, 3.0)):
        assert abs(sample.mean() - mean) < 5 * np.sqrt(variance / n)
        assert abs(np.mean((sample - mean) ** 2) - variance) < 5 * np.sqrt((fourth - variance**2) / n)


def test_nearby_seeds_are_unrelated():
    draws = np.array([[randomness.uniform(state) for _ in range(500)] for state in map(randomness.seeded, (0, 1))])
    assert abs(np.corrcoef(draws)[0, 1]) < 5 / np.sqrt(500)
