"""The learners: reference against torch, compiled against reference, and what each remedy promises."""

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from claims.evidence import witness
from simulate import lane_kernels, learner_kernels, learner_reference, learners, streams
from simulate.learners import ACTIVATIONS, LEARNERS, UTILITIES, Learner, Segment
from theory.catalogue import get

STREAM = streams.Stream(hold=2500)
HIDDEN, BITS, STEPS = 6, STREAM.bits, 10_000
CASES = {
    **LEARNERS,
    **{f"cbp, {kind}": Learner(resets="cbp", utility=kind, replacement=1e-3) for kind in UTILITIES},
    "redo, adam": Learner("adam", rate=3e-3, momentum=0.9, resets="redo", dormant=0.1),
    "all at once": Learner(
        momentum=0.5, rate=3e-3, l2=1e-3, decay=1e-2, pull=1e-3, shrink=1e-5, noise=1e-3, resets="cbp"
    ),
    "escape, loose": Learner(resets="escape", tolerance=0.2, period=500),
    "cbp, late": Learner(resets="cbp", replacement=1e-3, start=4000),
    **{kind: Learner(activation=kind, rate=3e-3) for kind in ACTIVATIONS[1:]},
    "tanh, cbp, dropout": Learner(activation="tanh", resets="cbp", replacement=1e-3, dropout=0.2),
    "elu, escape, adam": Learner("adam", rate=1e-3, momentum=0.9, activation="elu", resets="escape", tolerance=0.2),
    "redo, adam, dropout": Learner("adam", rate=3e-3, momentum=0.9, resets="redo", dropout=0.3),
}


def segments(learner, steps=STEPS, seed=0, stream=STREAM):
    network, slow = streams.target(stream, seed), streams.slow_bits(stream, seed, steps // stream.hold)
    for j in range(len(slow)):
        recent = streams.patterns(stream, slow[max(0, j + 1 - learner.memory) : j + 1])
        yield Segment(*streams.task(stream, network, slow[j], seed, j), recent)


def trained(advance, learner, hidden=HIDDEN, change=None, steps=STEPS):
    """Return the losses of the tasks and the state at the end."""
    numbers = learners.settings(learner)._replace(**(change or {}))
    state = learners.initial(learner, BITS, 1 if learner.linear else hidden, 0)
    losses = [advance(state, segment, numbers) for segment in segments(learner, steps)]
    return losses, state if learner.momentum else state._replace(first=0 * state.first)  # scratch without momentum


def gap(one, other):
    """Return the largest relative difference of losses and states."""
    arrays = zip([one[0], *one[1]], [other[0], *other[1]], strict=True)
    return max(np.max(np.abs(np.asarray(a, float) - np.asarray(b, float)) / (1 + np.abs(b))) for a, b in arrays)


@pytest.mark.parametrize("name", CASES)
def test_compiled_and_reference_agree_to_1e_10_over_ten_thousand_steps(name):
    compiled = trained(learner_kernels.advance, CASES[name])
    assert gap(compiled, trained(learner_reference.advance, CASES[name])) <= 1e-10


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seeds", [range(3), range(5, 13)])
def test_side_by_side_each_seed_has_the_bits_of_one_by_itself(name, seeds):
    learner = CASES[name]
    numbers, hidden = learners.settings(learner), 1 if learner.linear else HIDDEN
    alone = [learners.initial(learner, BITS, hidden, seed) for seed in seeds]
    lanes = lane_kernels.together(alone)
    parts = list(zip(*(list(segments(learner, 5000, seed)) for seed in seeds), strict=True))
    totals = [lane_kernels.advance(lanes, lane_kernels.aligned(part), numbers)[: len(seeds)] for part in parts]
    ones = [[learner_kernels.advance(s, p, numbers) for s, p in zip(alone, part, strict=True)] for part in parts]
    np.testing.assert_array_equal(totals, ones)
    for state, moved in zip(alone, lane_kernels.apart(lanes, len(seeds)), strict=True):
        for field in learners.State._fields:
            if field != "first" or learner.momentum:
                np.testing.assert_array_equal(getattr(state, field), getattr(moved, field), field)


def test_momentum_of_a_silent_unit_ends_at_zero_and_adam_still_divides_by_something():
    """Both would else decay into subnormal numbers, with which every step takes five to ten times as long."""
    for learner in (LEARNERS["momentum"], dataclasses.replace(LEARNERS["adam"], beta2=0.9, eps=1e-200)):
        state = learners.initial(learner, BITS, 2, 0)
        state.weights[BITS * 2] = -100  # b of the first unit
        state.first[0], state.second[0] = 1.0, 1.0
        _, targets, order, recent = next(segments(learner))
        ones = np.ones((32, BITS))
        learner_kernels.advance(
            state, Segment(ones, targets, np.tile(order, 4), recent), learners.settings(learner)
        )
        assert state.first[0] == 0
        assert np.isfinite(state.weights[0])
        assert state.second[0] > 1e-300


@pytest.mark.parametrize("name", ["sgd", "adam", "cbp", "escape, loose"])
def test_they_agree_for_many_units_too(name):
    """From 16 units on the compiled loops run in another order."""
    both = [trained(m.advance, CASES[name], 40, steps=2500) for m in (learner_kernels, learner_reference)]
    assert gap(*both) <= 1e-10


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("sgd", {"rate": 0.01 * (1 + 1e-6)}),
        ("adam", {"eps": 1e-7}),
        ("cbp", {"smoothing": 0.98, "correction": learners.corrections(0.98)}),
        ("cbp", {"utility": 3, "replacement": 1e-3}),
        ("l2", {"l2": 0.0}),
        ("l2-init", {"pull": 1.001e-3}),
        ("shrink-perturb", {"noise": 1.001e-3}),
        ("cbp, late", {"start": 4001}),
        ("dropout", {"dropout": 0.1001}),
    ],
)
def test_a_changed_setting_is_seen(name, change):
    compiled = trained(learner_kernels.advance, CASES[name], change=change)
    assert gap(compiled, trained(learner_kernels.advance, CASES[name])) > 1e-9


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_and_their_derivatives_are_those_of_the_theory(name):
    z = np.linspace(-30, 30, 201)  # without the kinks at 0
    z = z[z != 0]
    phi = get(name)
    h, slope = z.copy(), np.empty_like(z)
    learner_kernels.activate(ACTIVATIONS.index(name), h, slope)
    for found, wanted in zip((h, slope), learners.activated(ACTIVATIONS.index(name), z), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(h, phi.value(z), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(slope, phi.slope(z), rtol=1e-12, atol=1e-13)


OPTIMIZERS = {
    "sgd": partial(torch.optim.SGD, lr=0.01),
    "momentum": partial(torch.optim.SGD, lr=1e-3, momentum=0.9),
    "l2": partial(torch.optim.SGD, lr=0.01, weight_decay=1e-3),
    "adam": partial(torch.optim.Adam, lr=1e-3),
    "adamw": partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_reference_trains_as_torch_does(name):
    learner = LEARNERS[name]
    state = learners.initial(learner, BITS, HIDDEN, 0)
    W, b, v, _ = learners.unpack(state.weights.copy(), HIDDEN)
    model = torch.nn.Sequential(torch.nn.Linear(BITS, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 1)).double()
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), (W.T, b, v[None], np.zeros(1)), strict=True):
            parameter.copy_(torch.tensor(value))
    optimizer = OPTIMIZERS[name](model.parameters())
    inputs, targets, order, recent = next(segments(learner))
    theirs = 0.0
    for p in order[:300]:
        loss = (model(torch.tensor(inputs[p])) - targets[p]).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        theirs += float(loss.detach())
    ours = learner_reference.advance(
        state, Segment(inputs, targets, order[:300], recent), learners.settings(learner)
    )
    assert ours == pytest.approx(theirs, rel=1e-11)
    W, *_ = learners.unpack(state.weights, HIDDEN)
    np.testing.assert_allclose(W, model[0].weight.detach().numpy().T, rtol=0, atol=1e-11)


@pytest.mark.parametrize("advance", [learner_reference.advance, learner_kernels.advance])
def test_continual_backprop_replaces_the_expected_number_of_units(advance):
    """`ρ` a step and mature unit: about 0.001 · 18.1 · 2400 ≈ 43, as new units are safe for 100 steps."""
    learner = Learner(resets="cbp", replacement=1e-3)
    _, state = trained(advance, learner, hidden=20, steps=2500)
    assert 42 <= state.clock[1] <= 45


@pytest.mark.parametrize("advance", [learner_reference.advance, learner_kernels.advance])
def test_a_replaced_constant_unit_leaves_its_output_in_the_bias(advance):
    """Two units: one of constant output 0.5 · 2 and least utility; replacing it leaves the function the same."""
    learner = Learner(rate=0.0, resets="cbp", replacement=0.5, maturity=4, utility="zero-contribution")
    state = learners.initial(learner, 4, 2, 0)
    W, b, v, _ = learners.unpack(state.weights, 2)
    W[:], b[:], v[:] = [[0, 1]] * 4, [2, 0], [0.5, 1]
    x = streams.patterns(streams.Stream(bits=4, slow=2), np.array([[0.0, 1.0]]))
    before = output(state, x, 2)
    order = np.array([0, 3, 1, 2, 0], dtype=np.uint16)  # at the fifth step both are mature and one is due
    advance(state, Segment(x, np.zeros(4), order, x), learners.settings(learner))
    assert state.clock.tolist() == [5, 1]
    assert state.weights[-1] == pytest.approx(1.0, abs=1e-15)
    np.testing.assert_allclose(output(state, x, 2), before, atol=1e-14)
    assert (v[0], b[0], state.age[0], state.mean[0], state.utility[0]) == (0, 0, 0, 0, 0)
    assert np.all(W[:, 0] != 0)
    assert np.all(np.abs(W[:, 0]) <= learners.bound(4))


@pytest.mark.parametrize("renew", ["reference", "compiled"])
def test_a_new_unit_keeps_nothing_of_the_old_one_and_leaves_the_others_alone(renew):
    _, state = trained(learner_kernels.advance, LEARNERS["cbp-adam"], hidden=3, steps=2500)
    before = [array.copy() for array in state]
    matrix = state.weights[:-1].reshape(BITS + 2, 3)
    if renew == "reference":
        learner_reference.renew(state, 1, learners.settings(LEARNERS["cbp-adam"]))
    else:
        learner_kernels.renew(state, matrix, 1, 2.0)
    for name in ("first", "second"):
        new, old = (a[:-1].reshape(-1, 3) for a in (getattr(state, name), before[state._fields.index(name)]))
        assert not new[:, 1].any()
        assert np.array_equal(new[:, [0, 2]], old[:, [0, 2]])
        assert getattr(state, name)[-1] == before[state._fields.index(name)][-1] != 0
    assert state.counts.tolist() == [before[4][0], 0, before[4][2], before[4][3]]
    assert np.array_equal(matrix[:, [0, 2]], before[0][:-1].reshape(-1, 3)[:, [0, 2]])


@pytest.mark.parametrize("advance", [learner_reference.advance, learner_kernels.advance])
def test_redo_renews_the_dormant_units_and_no_others(advance):
    learner = Learner(rate=0.0, resets="redo", period=50)
    state = learners.initial(learner, BITS, 4, 0)
    W, b, *_ = learners.unpack(state.weights, 4)
    W[:], b[:] = 0, [1, -1, 0.9, 0.001]
    segment = next(segments(learner))
    advance(state, segment._replace(order=segment.order[:50]), learners.settings(learner))
    assert state.clock[1] == 2
    assert [bool(W[:, k].any()) for k in range(4)] == [False, True, False, True]


def output(state, x, hidden):
    _, _, v, c = learners.unpack(state.weights, hidden)
    return learners.activations(state.weights, hidden, x) @ v + c


def gradients(state, s):
    """Return the gradients at every input, for targets far off."""
    return np.array([learner_reference.gradient(state, x, 99.0, s)[2] for x in EVERY])


def redundant(seed, bits=6, hidden=8):
    """Return a state with a dead unit 0, units 1, 2 and 3 of which two are copies of one, and others."""
    state = learners.initial(Learner(), bits, hidden, seed)
    draws = np.random.default_rng(seed)
    W, b, v, _ = learners.unpack(state.weights, hidden)
    W[:], b[2] = draws.standard_normal(W.shape), 0.5
    W[:, 0], b[0] = -np.abs(W[:, 0]), -0.1
    W[:, 1], b[1] = W[:, 2], b[2]
    W[:, 3], b[3] = 2.5 * W[:, 2], 2.5 * b[2]
    state.weights[-1] = draws.standard_normal()
    v[:] = draws.standard_normal(hidden)
    return state


EVERY = streams.patterns(streams.Stream(bits=6, slow=1), np.array([[0.0], [1.0]]))


@pytest.mark.claim("E2", "property")
@given(st.integers(0, 2**32), st.booleans())
def test_escape_leaves_the_function_unchanged_and_the_gradients_different(seed, compiled):
    state, s = redundant(seed), learners.settings(Learner(resets="escape", period=1))
    before, old = output(state, EVERY, 8), gradients(state, s)
    if compiled:
        matrix = state.weights[:-1].reshape(8, 8)
        learner_kernels.escape(state, matrix, EVERY, s)
    else:
        learner_reference.escape(state, np.zeros(8), EVERY, s)
    assert state.clock[1] >= 3
    residual = np.max(np.abs(output(state, EVERY, 8) - before))
    assert residual <= 1e-12 * (1 + np.abs(state.weights).sum())
    assert np.max(np.abs(gradients(state, s) - old)) > 1e-3
    witness(residual=residual)


@pytest.mark.parametrize("advance", [learner_reference.advance, learner_kernels.advance])
def test_a_copy_passes_its_weight_to_the_larger_unit(advance):
    """Else `v` grows by the ratio of sizes, a million here, and training diverges at the next steps."""
    learner = Learner(rate=0.0, resets="escape", period=1)
    state, segment = learners.initial(learner, BITS, 2, 0), next(segments(learner))
    W, b, v, _ = learners.unpack(state.weights, 2)
    W[:], b[:], v[:] = np.abs(W[:, 1:]) * [1e-6, 1], [1e-6, 1], [0.5, 2]
    advance(state, segment._replace(order=segment.order[:1]), learners.settings(learner))
    np.testing.assert_allclose(v, [0, 2 + 0.5e-6], rtol=1e-12)


@pytest.mark.claim("E2", "property")
@given(st.integers(0, 2**32), st.lists(st.floats(-2, 2), min_size=2, max_size=4))
def test_a_zero_sum_split_of_copies_leaves_the_function_unchanged_and_parts_their_gradients(seed, amounts):
    n = len(amounts) + 1
    state, s = clones(seed, n), learners.settings(Learner())
    split = np.array([*amounts, -sum(amounts)])
    before = output(state, EVERY, n)
    learners.unpack(state.weights, n)[2][:] += split
    residual = np.max(np.abs(output(state, EVERY, n) - before))
    assert residual <= 1e-12
    _, _, g = learner_reference.gradient(state, EVERY[-1], 50.0, s)
    into = g[:-1].reshape(8, n)[6]  # ∂L/∂b
    assert np.ptp(into) > 0.1 * np.ptp(split) or np.ptp(split) < 1e-9
    witness(residual=residual)


@pytest.mark.control("E2")
@given(st.integers(0, 2**32), st.lists(st.floats(0.1, 2), min_size=2, max_size=4))
def test_a_split_that_does_not_sum_to_zero_changes_the_function(seed, amounts):
    n = len(amounts)
    state = clones(seed, n)
    before = output(state, EVERY, n)
    learners.unpack(state.weights, n)[2][:] += amounts
    assert np.max(np.abs(output(state, EVERY, n) - before)) > 1e-3
    witness()


@pytest.mark.control("E2")
@pytest.mark.parametrize("seed", range(5))
def test_renewing_a_live_unit_without_passing_its_weight_on_changes_the_function(seed):
    state = redundant(seed)
    before = output(state, EVERY, 8)
    learner_reference.renew(state, 1, learners.settings(Learner()))
    assert np.max(np.abs(output(state, EVERY, 8) - before)) > 1e-3
    witness()


def clones(seed, n):
    """Return a state of `n` copies of one unit that is active on some inputs."""
    state = learners.initial(Learner(), 6, n, seed)
    W, b, v, _ = learners.unpack(state.weights, n)
    W[:], b[:], v[:] = np.abs(W[:, :1]), 0.5, v[:1]
    return state


@pytest.mark.parametrize("advance", [learner_reference.advance, learner_kernels.advance])
def test_escape_leaves_units_alone_that_are_neither_dead_nor_copies(advance):
    learner = Learner(rate=0.0, resets="escape", period=1)
    state = learners.initial(learner, BITS, 5, 0)
    W, b, *_ = learners.unpack(state.weights, 5)
    b[:] = 3  # all active
    W[:, 4] = W[:, 3] * (1 + 1e-9 * np.arange(BITS))  # nearly a copy
    before, segment = state.weights.copy(), next(segments(learner))
    advance(state, segment._replace(order=segment.order[:1]), learners.settings(learner))
    assert np.array_equal(state.weights, before)
    W[:, 4] = W[:, 3]
    advance(state, segment._replace(order=segment.order[:1]), learners.settings(learner))
    assert state.clock[1] == 1
    assert not np.array_equal(W[:, 4], W[:, 3])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rate": -0.1}, "rate: got -0.1"),
        ({"rate": float("nan")}, "rate: got nan"),
        ({"momentum": 1.0}, "momentum: got 1.0"),
        ({"rule": "adma"}, "rule: 'adma' is unknown; did you mean adam?"),
        ({"utility": "contributions"}, "did you mean contribution"),
        ({"replacement": 2.0}, "replacement: got 2.0; it has to be at most 1"),
        ({"period": 0}, "period: got 0"),
        ({"maturity": -1}, "maturity: got -1"),
        ({"start": -1}, "start: got -1"),
        ({"dropout": 1.0}, "dropout: got 1.0"),
        ({"dropout": 0.1, "linear": True}, "dropout: got 0.1; a linear learner has no hidden units"),
    ],
)
def test_bad_settings_are_refused(change, said):
    with pytest.raises(ValueError, match=said.replace("?", r"\?")):
        dataclasses.replace(Learner(), **change)


def test_an_unknown_learner_is_refused_with_near_names():
    with pytest.raises(ValueError, match="learner: 'cpb' is unknown; did you mean cbp"):
        learners.named("cpb")
    with pytest.raises(ValueError, match="choose from sgd, momentum"):
        learners.named("zzz")
