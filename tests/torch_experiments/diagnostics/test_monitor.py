"""The monitor keeps to its budget, warns of a network that dies and not of one that lives, and disturbs nothing."""

import warnings

import pyarrow.parquet as pq
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tests.torch_experiments.diagnostics.samples import FAST, diagnosis, network, task
from torch_experiments import PlasticityMonitor, Recovery, remedies
from torch_experiments.diagnostics import Overfitting, PlasticityAlarm
from torch_experiments.lab.images import pixels
from torch_experiments.lab.models import mlp
from torch_experiments.support.generators import generator


def train(model, monitor, rate, steps=150, every=50, drift=0.0):
    """Train on a task whose labels are permuted every so many steps; return the online accuracy of every step.

    From half of the steps on, every step moves the hidden biases down by ``drift``.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    right = []
    for step in range(steps):
        x, y = task(seed=step // every)
        pick = torch.randint(len(x), (64,), generator=generator(step))
        output = model(x[pick])
        loss = cross_entropy(output, y[pick])
        right.append(float((output.argmax(dim=1) == y[pick]).double().mean()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for layer in (model.linear1, model.linear2, model.linear3):
                layer.bias -= drift * (step >= steps // 2)
        monitor.step(loss.detach())
    return right


@pytest.mark.filterwarnings("ignore::torch_experiments.diagnostics.PlasticityAlarm")
def test_a_dying_network_raises_alarms_and_a_healthy_one_none():
    found = {}
    for name, rate in (("dying", 1.0), ("healthy", 0.05)):
        model = network()
        with PlasticityMonitor(model, *task(), every=5, budget=None, **FAST) as monitor:
            right = train(model, monitor, rate)
        found[name] = (monitor.alarms, sum(right[-20:]) / 20)
        assert len({row["step"] for row in monitor.rows}) == 31
    assert found["healthy"][0] == []
    assert found["healthy"][1] > 0.9
    assert {alarm.metric for alarm in found["dying"][0]} >= {"dead_fraction", "shannon_rank_centred"}
    assert found["dying"][1] < 0.5


@pytest.mark.filterwarnings("ignore::torch_experiments.diagnostics.PlasticityAlarm")
@pytest.mark.parametrize(("drift", "dies"), [(0.06, True), (0.0, False)])
def test_an_alarm_comes_before_accuracy_falls(drift, dies):
    model = network()
    with PlasticityMonitor(model, *task(), every=5, budget=None, **FAST) as monitor:
        right = train(model, monitor, 0.05, steps=240, every=240, drift=drift)
    falls = [k for k in range(60, 240) if sum(right[k - 10 : k]) / 10 < 0.9]
    assert bool(falls) == bool(monitor.alarms) == dies
    if dies:
        assert monitor.alarms[0].step < falls[0] - 10


@pytest.mark.filterwarnings("ignore::torch_experiments.diagnostics.PlasticityAlarm")
def test_a_network_that_diverges_is_an_alarm_and_does_not_stop_training():
    model = network()
    with PlasticityMonitor(model, *task(), every=1, budget=None, **FAST) as monitor:
        with torch.no_grad():
            model.linear2.bias.fill_(torch.nan)
        assert monitor.step() is None
    assert [alarm.metric for alarm in monitor.alarms] == ["finite"]
    assert "layer 'linear2'" in monitor.alarms[0].message
    assert str(monitor.alarms[0]) == monitor.alarms[0].message != repr(monitor.alarms[0])


@pytest.mark.parametrize(("rate", "dies"), [(1e-2, True), (1e-3, False)])
def test_on_digits_with_permuted_labels_only_the_rate_that_kills_units_sets_off_alarms(rate, dies):
    data = pixels.load("digits")
    x, y = data.train_x.flatten(1).float() / 8 - 1, data.train_y
    model, source, found = mlp(64, 10, width=64, depth=4), generator(0), []
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    options = {"every": 50, "budget": None, "on_alarm": found.append} | FAST
    with PlasticityMonitor(model, x[::3], **options) as monitor:
        accuracy = [digits_task(model, optimizer, monitor, x, y, source) for _ in range(3)]
    assert {alarm.kind for alarm in found} >= ({"dead"} if dies else set())
    assert bool(found) == dies
    assert dies or min(accuracy) > 0.75


def digits_task(model, optimizer, monitor, x, y, source, steps=250):
    """Train on labels that are permuted anew; return the online accuracy."""
    y, right = torch.randperm(10, generator=source)[y], 0.0
    for _ in range(steps):
        pick = torch.randint(len(x), (64,), generator=source)
        output = model(x[pick])
        right += float((output.argmax(dim=1) == y[pick]).double().mean()) / steps
        optimizer.zero_grad()
        cross_entropy(output, y[pick]).backward()
        optimizer.step()
        monitor.step()
    return right


def test_alarms_warn_or_call():
    model, called = network(), []
    for act in (None, called.append):
        monitor = PlasticityMonitor(model, task()[0], budget=None, on_alarm=act, **FAST)
        with warnings.catch_warnings(record=True) as caught, monitor:
            warnings.simplefilter("always")
            saved = {name: value.clone() for name, value in model.state_dict().items()}
            with torch.no_grad():
                model.linear2.bias.fill_(-100)
            monitor.measure()  # everything behind the second layer is the same for all inputs
            model.load_state_dict(saved)
        kinds = [w.category for w in caught]
        assert (PlasticityAlarm in kinds) == (act is None)
    assert {alarm.metric for alarm in called} == {"dead_fraction", "dormant_fraction"}


def test_recovery_answers_the_alarms_by_their_kind():
    model, (x, y) = network(), task()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with torch.no_grad():
        model.linear2.bias[:30] = -100
    monitor = PlasticityMonitor(network(), x, y, budget=None, on_alarm=lambda _: None)
    bound = remedies.Escape().on(model, optimizer, example_inputs=x)
    recovery = Recovery(monitor, {"dead": bound})
    with monitor:
        assert recovery.step() == []
        monitor.model = model
        monitor.measure()
        assert [alarm.kind for alarm in monitor.alarms] == ["dead", "dormant"]
        (action,) = recovery.step()
        assert action.units >= 30
        assert action.function_change < 1e-5


def test_a_network_that_starts_beyond_a_level_is_an_alarm_at_once():
    """Nothing rises after the first look: the units were dead before."""
    for dead, rings in ((24, True), (8, False)):
        model, found = network(), []
        with torch.no_grad():
            for layer in (model.linear1, model.linear2, model.linear3):
                layer.bias[:dead] = -100
        with PlasticityMonitor(model, *task(), every=1, budget=None, on_alarm=found.append, **FAST) as monitor:
            monitor.step()
        assert [(alarm.step, alarm.kind) for alarm in found if alarm.kind == "dead"] == [(0, "dead")] * rings


def test_a_network_of_copies_is_an_alarm_at_once():
    for copies, rings in ((True, True), (False, False)):
        model, found = network(), []
        if copies:
            with torch.no_grad():
                for layer in (model.linear1, model.linear2, model.linear3):
                    layer.weight[:] = layer.weight[:1]
                    layer.bias[:] = 0.5
        with PlasticityMonitor(model, *task(), budget=None, on_alarm=found.append, **FAST):
            pass
        assert ("duplicate" in {alarm.kind for alarm in found}) == rings


@pytest.mark.parametrize("noisy", [True, False])
@pytest.mark.parametrize("told", [True, False])
def test_memorising_labels_is_an_alarm_where_there_is_validation(noisy, told):
    """Random labels of 40 samples are learned by heart, and the loss on others grows; true ones are not so."""
    (x, y), found = task(), []
    labels = torch.randint(4, y.shape, generator=generator(3)) if noisy else y
    torch.manual_seed(0)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    options = {"validation": (x[40:], labels[40:]), "on_alarm": found.append, "alarms": [Overfitting()]} | FAST
    with PlasticityMonitor(model, x[:40], labels[:40], every=20, budget=None, **options) as monitor:
        for _ in range(600):
            loss = cross_entropy(model(x[:40]), labels[:40])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.step(loss if told else None)
    assert [alarm.metric for alarm in found] == ["validation_loss"] * noisy
    with torch.no_grad():
        expected = float(cross_entropy(model(x[40:]), labels[40:]))
    values = [row["value"] for row in monitor.rows if row["metric"] == "validation_loss"]
    assert len(values) == 31
    assert values[-1] == pytest.approx(expected, rel=1e-5)


def test_losses_are_averaged_between_measurements_and_kept_with_the_state():
    model, (x, y) = network(), task()
    monitor = PlasticityMonitor(model, x, y, validation=(x, y), every=3, budget=None, alarms=(), **FAST)
    with monitor:
        for loss in (1.0, torch.tensor(2.0), 6.0, 5.0):
            monitor.step(loss)
    assert monitor.watchman.losses[0][1:] == [3.0]
    second = PlasticityMonitor(model, x, y, validation=(x, y), every=3, budget=None, alarms=(), **FAST)
    second.load_state_dict(monitor.state_dict())
    with second:
        second.step(6.0)
        second.step(1.0)
    assert second.watchman.losses[0][1:] == [3.0, 4.0]
    with second:
        for _ in range(3):
            second.step()
    assert second.watchman.losses[0][-1] == pytest.approx(second.watchman.losses[1][-1], rel=0.5)  # of the batch


class Clock:
    """Time that passes only when a test says so."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("torch_experiments.diagnostics.monitor.time.perf_counter", clock)
    return clock


def test_measurements_stay_within_the_budget_and_what_is_skipped_is_noted(clock, monkeypatch):
    def slow(*_, **__):
        clock.now += 2
        return diagnosis(dead_fraction=0.0)

    monkeypatch.setattr("torch_experiments.diagnostics.monitor.diagnose", slow)
    with PlasticityMonitor(network(), task()[0], every=10, budget=0.1) as monitor:
        for _ in range(100):
            clock.now += 1
            monitor.step()
            late = len({row["step"] for row in monitor.rows}) > 1
            assert not late or monitor.spent <= 0.1 * monitor.elapsed
    steps = sorted({row["step"] for row in monitor.rows})
    assert steps == [0, 40, 60, 80, 100]
    assert [step for step, _ in monitor.skipped] == [10, 20, 30, 50, 70, 90]
    assert "the budget is 10.0%" in monitor.skipped[0][1]
    with PlasticityMonitor(network(), task()[0], every=10, budget=None) as free:
        for _ in range(20):
            clock.now += 1
            free.step()
    assert not free.skipped


def test_training_is_the_same_with_and_without_a_monitor():
    ends = []
    for every in (1, 10**9):
        model = network(norm="batch", dropout=0.3).train()
        torch.manual_seed(0)
        with PlasticityMonitor(model, *task(), every=every, budget=None, alarms=(), **FAST) as monitor:
            train(model, monitor, 0.1, steps=8)
            assert model.training
        ends.append((model.state_dict(), torch.get_rng_state()))
    assert len(ends[0][0]) == len(ends[1][0])
    assert all(torch.equal(value, ends[1][0][name]) for name, value in ends[0][0].items())
    assert torch.equal(ends[0][1], ends[1][1])


class Writer:
    def __init__(self):
        self.seen = {}

    def add_scalar(self, name, value, step):
        self.seen[name, step] = value


def test_measurements_are_kept_written_and_reported(tmp_path):
    file, writer = tmp_path / "runs" / "log.parquet", Writer()
    model = network()
    with PlasticityMonitor(model, *task(), every=4, budget=None, log=file, writer=writer, **FAST) as monitor:
        train(model, monitor, 0.1, steps=9)
    table = pq.read_table(file)
    assert table.equals(monitor.table())
    assert table.column_names == ["step", "layer", "metric", "value"]
    assert sorted(set(table["step"].to_pylist())) == [0, 4, 8]
    assert "training_loss" in table["metric"].to_pylist()
    assert {("dead_fraction/act1", step) for step in (0, 4, 8)} < set(writer.seen)
    assert [p.name for p in file.parent.iterdir()] == ["log.parquet"]


def test_a_monitor_goes_on_where_it_was(clock):
    first = PlasticityMonitor(network(), *task(), every=4, budget=None, **FAST)
    with first:
        clock.now += 10
        for _ in range(6):
            first.step()
    state = first.state_dict()
    second = PlasticityMonitor(network(), *task(), every=4, budget=None, **FAST)
    second.load_state_dict(state)
    assert second.state_dict() == state
    with second:
        clock.now += 5
        assert second.step() is None
        assert second.step() is not None
    assert second.elapsed == 15
    assert [row["step"] for row in second.rows][-1] == 8
    assert len({row["step"] for row in second.rows}) == 3


def test_misuse_is_named():
    with pytest.raises(ValueError, match="every: got 0"):
        PlasticityMonitor(network(), task()[0], every=0)
    with pytest.raises(ValueError, match="budget: got 2"):
        PlasticityMonitor(network(), task()[0], budget=2)
    with pytest.raises(RuntimeError, match="with block"):
        PlasticityMonitor(network(), task()[0]).step()


def test_a_network_without_parameters_to_train_is_measured_too():
    with PlasticityMonitor(nn.Sequential(nn.ReLU(), nn.Flatten()), task()[0], every=1, budget=None) as monitor:
        assert monitor.step()["0"]["dead_fraction"] == 0


def test_a_monitor_whose_first_measurement_fails_is_not_running():
    model, batches = network(), iter([torch.ones(1, 20), task()[0]])
    monitor = PlasticityMonitor(model, lambda: next(batches), budget=None, **FAST)
    with pytest.raises(ValueError, match="samples"), monitor:
        pass
    assert monitor.started is None
    with monitor:
        assert monitor.rows
