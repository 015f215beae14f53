"""Pre-activations driven into saturation, and kept from it by normalisation (claim E3)."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from claims.evidence import witness
from simulate.drift import Config, Weights, initial, onset, output, run, slopes, standardised
from theory.saturation import frozen_fraction

SMALL = Config(tasks=25, seeds=10)
values = st.lists(st.integers(-(10**6), 10**6), min_size=2, max_size=40).filter(lambda z: len(set(z)) > 1)


@pytest.fixture(scope="module")
def courses():
    """Return runs of tanh and ReLU, plain and normalised."""
    rates = {"tanh": 0.1, "relu": 0.02}
    return {
        (name, normalised): run(replace(SMALL, activation=name, normalised=normalised, rate=rate))
        for name, rate in rates.items()
        for normalised in (False, True)
    }


def half_error(config, weights, x, y):
    return ((output(config, weights, x) - y) ** 2).mean(axis=1) / 2


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("activation", ["tanh", "softsign"])
def test_the_gradient_is_the_derivative_along_any_direction(activation, normalised):
    config, rng = Config(activation, normalised, seeds=3, hidden=4), np.random.default_rng(0)
    weights = initial(config, rng)
    x, y = rng.standard_normal((3, 20, 7)), rng.standard_normal((3, 7))
    found, loss = slopes(config, weights, x, y)
    direction = Weights(*(rng.standard_normal(w.shape) for w in weights))
    along = sum((g * v).reshape(3, -1).sum(axis=1) for g, v in zip(found, direction, strict=True))
    moved = [Weights(*(w + t * v for w, v in zip(weights, direction, strict=True))) for t in (1e-5, -1e-5)]
    expected = (half_error(config, moved[0], x, y) - half_error(config, moved[1], x, y)) / 2e-5
    assert along == pytest.approx(expected, rel=1e-6, abs=1e-8)
    assert loss == pytest.approx(half_error(config, weights, x, y))


@pytest.mark.claim("E3", "simulation")
@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("name", ["tanh", "relu"])
def test_gain_and_shift_tell_the_frozen_share(courses, name, normalised):
    """Up to the error of 400 samples, at each of 26 moments of training for each unit."""
    course = courses[name, normalised]
    predicted = course.predicted()
    assert course.frozen.shape == predicted.shape == (26, 10, 10)
    error = np.sqrt(predicted * (1 - predicted) / course.config.probe) + 1 / course.config.probe
    assert (np.abs(course.frozen - predicted) / error).max() <= 6
    bias = abs(float((course.frozen - predicted).mean()))
    assert bias <= 2e-3
    witness(residual=bias, instances=predicted.size)


@pytest.mark.control("E3")
def test_without_the_shift_the_frozen_share_is_another(courses):
    course = courses["tanh", False]
    centred = frozen_fraction("tanh", course.gain, 0.0, course.config.delta)
    assert np.abs(course.frozen - centred).max() > 0.5


@pytest.mark.claim("E3", "simulation")
def test_training_freezes_tanh_units_and_not_normalised_ones(courses):
    plain, normalised = courses["tanh", False].frozen.mean(axis=2), courses["tanh", True].frozen.mean(axis=2)
    assert (plain[-1] > plain[0] + 0.1).all()
    assert plain[-1].mean() > 2 * plain[0].mean()
    assert normalised.max() < 0.1
    witness(instances=2 * plain.shape[1])


@pytest.mark.claim("E3", "simulation")
def test_some_relu_units_are_silent_on_a_whole_task_and_no_normalised_ones(courses):
    plain, normalised = courses["relu", False].frozen, courses["relu", True].frozen
    assert (plain[1:] > 0.99).any(axis=(0, 2)).all()
    assert normalised.max() < 0.7
    witness(instances=2 * plain.shape[1])


@pytest.mark.control("E3")
def test_without_training_tasks_alone_freeze_nothing():
    """Shifts change with the tasks at rate zero too, and with them shares, by chance and in no direction."""
    course = run(replace(SMALL, rate=0.0))
    assert (course.shift[0] != course.shift[-1]).all()
    share = course.frozen.mean(axis=2)
    assert not (share[-1] > share[0] + 0.1).all()
    assert not share[-1].mean() > 2 * share[0].mean()


@pytest.mark.claim("E3", "property")
@given(values, st.floats(1e-3, 1e3), st.sampled_from([0.0, 1e-5]))
def test_a_standardised_unit_is_not_saturated_on_all_samples(z, factor, epsilon):
    """With `m` samples of variance `r = var/(var + ε)`: one is above `√(r/(m−1))`, one below minus that.

    Mean 0 and variance `r` give `max (−min) ≥ r` (Bhatia & Davis) and `−min ≤ √((m−1) r)` (Samuelson). So ReLU is
    active on a sample and silent on another, and tanh has a slope of at least `1/cosh² 1` where `|u| ≤ 1`.
    """
    z = factor * np.array(z)
    u, scale = standardised(z, epsilon)
    share = (scale[0] ** 2 - epsilon) / scale[0] ** 2 if epsilon else 1.0
    least = np.sqrt(share / (len(z) - 1)) * (1 - 1e-6)
    assert u.max() >= least
    assert u.min() <= -least
    assert np.abs(u).min() <= 1 + 1e-9
    assert (1 / np.cosh(u) ** 2).max() >= 0.41
    witness()


@pytest.mark.control("E3")
def test_without_normalisation_a_unit_can_be_saturated_on_all_samples():
    z = np.linspace(-20, -10, 5)
    assert (z < 0).all()
    assert (1 / np.cosh(z) ** 2).max() < 1e-8


@pytest.mark.claim("E3", "counterexample")
def test_behind_layer_and_rms_normalisation_a_unit_can_be_silent_on_all_samples():
    """Three features that vary over the samples, `x`, `x + 1`, `x + 2`: the first is the least of every sample."""
    x = np.random.default_rng(0).standard_normal(1000)
    h = np.stack([x, x + 1, x + 2], axis=1)
    assert (h.std(axis=0) > 0.9).all()
    layer = (h - h.mean(axis=1, keepdims=True)) / np.sqrt(h.var(axis=1, keepdims=True) + 1e-5)
    below = -np.abs(h)
    rms = below / np.sqrt((below**2).mean(axis=1, keepdims=True) + 1e-5)
    assert (layer[:, 0] < -1).all()
    assert (rms[:, 0] < 0).all()
    witness(instances=2)


@pytest.mark.claim("E3", "property")
@given(st.integers(0, 2**32), st.sampled_from(["tanh", "relu"]))
def test_clones_stay_clones_under_normalisation(seed, activation):
    config, rng = Config(activation, normalised=True, seeds=2, hidden=4), np.random.default_rng(seed)
    weights = Weights(*(w[:, [0, 1, 0, 0]] if w.ndim > 1 else w for w in initial(config, rng)))
    for _ in range(20):
        x, y = rng.standard_normal((2, 20, 8)), rng.standard_normal((2, 8))
        found, _ = slopes(config, weights, x, y)
        weights = Weights(*(w - 0.1 * g for w, g in zip(weights, found, strict=True)))
    apart = max(float(np.abs(w[:, [2, 3]] - w[:, [0]]).max()) for w in weights if w.ndim > 1)
    assert apart <= 1e-10
    witness(residual=apart)


def test_one_sign_flips_where_signs_are_not_redrawn():
    course = run(Config(redrawn=False, rate=0.0, tasks=1, slow=1, seeds=4))
    assert np.abs(course.shift[1] + course.shift[0]).max() <= 1e-12


def test_equal_seeds_give_equal_numbers():
    config = replace(SMALL, tasks=2)
    assert (run(config, 5).frozen == run(config, 5).frozen).all()
    assert (run(config, 5).frozen != run(config, 6).frozen).any()


def test_the_onset_is_the_first_task_beyond_the_level():
    frozen = np.array([[0.0, 0.2], [0.4, 0.8], [0.9, 0.3]])[:, :, None]
    assert onset(frozen, 0.5).tolist() == [2, 1]
    assert onset(frozen, 0.95).tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation": "gelu"}, "activation is 'gelu'; allowed are relu"),
        ({"hidden": 0}, "hidden is 0"),
        ({"batch": 1}, "one sample has no variance"),
        ({"rate": -1.0}, "allowed are rate ≥ 0"),
        ({"epsilon": 0.0}, "epsilon > 0"),
    ],
)
def test_wrong_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **changes)


def test_divergence_is_an_error():
    with pytest.raises(ValueError, match="training diverged in task 0 at the rate 5"):
        run(Config("relu", rate=5.0, tasks=3))
