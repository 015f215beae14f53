"""Other people's training loops drive the monitor."""

import json
import sqlite3
import sys
from contextlib import closing
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.torch_experiments.diagnostics.samples import FAST, network, task
from torch_experiments import PlasticityMonitor, remedies
from torch_experiments.diagnostics import (
    as_lightning_callback,
    as_trainer_callback,
)


@pytest.mark.filterwarnings("ignore")
def test_the_trainer_of_hugging_face_drives_the_monitor():
    pytest.importorskip("transformers")
    from transformers import TrainerControl, TrainerState, TrainingArguments
    from transformers.trainer_callback import CallbackHandler

    model = network()
    monitor = PlasticityMonitor(model, *task(), every=2, budget=None, **FAST)
    handler = CallbackHandler([as_trainer_callback(monitor)], model, None, None, None)
    try:
        args = TrainingArguments(output_dir="unused", use_cpu=True)
    except ImportError:  # it wants accelerate, which the callback does not
        args = None
    state, control, sgd = TrainerState(), TrainerControl(), torch.optim.SGD(model.parameters())
    handler.optimizer = sgd
    handler.on_train_begin(args, state, control)
    for _ in range(4):
        sgd.step()
        handler.on_step_end(args, state, control)
    handler.on_train_end(args, state, control)
    sgd.step()
    assert monitor.steps == 4
    assert sorted({row["step"] for row in monitor.rows}) == [0, 2, 4]
    assert monitor.started is None


@pytest.mark.filterwarnings("ignore")
def test_the_trainer_itself_drives_monitor_and_remedy_of_gpt2(tmp_path):
    """Accelerate wraps the optimizer, the Trainer turns the cache off, and a step is two batches."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    sizes = {"vocab_size": 11, "n_positions": 8, "n_embd": 8, "n_layer": 1, "n_head": 2}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))
    ids = torch.randint(11, (16, 8), generator=torch.Generator().manual_seed(0))
    data = [{"input_ids": row, "labels": row} for row in ids]
    monitor = PlasticityMonitor(model, {"input_ids": ids, "labels": ids}, every=2, budget=None, alarms=())
    args = transformers.TrainingArguments(
        output_dir=tmp_path,
        use_cpu=True,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        num_train_epochs=1,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = transformers.Trainer(model, args, train_dataset=data, callbacks=[as_trainer_callback(monitor)])
    bound = remedies.make("redo", every=2).on(
        model, trainer.create_optimizer(), example_inputs={"input_ids": ids[:2]}
    )
    bound.attach()
    trainer.train()
    assert model.config.use_cache is False
    assert monitor.steps == bound.steps == trainer.state.global_step == 4
    assert sorted({row["step"] for row in monitor.rows}) == [0, 2, 4]
    assert "transformer.h.0.attn" in {row["layer"] for row in monitor.rows}
    late = remedies.make("redo", every=2).on(model, trainer.optimizer, example_inputs={"input_ids": ids[:2]})
    assert late.network.layers  # traced with the cache off, too


class Trainer:
    """As much of Lightning's trainer as its callbacks are given."""

    def __init__(self, callback, accumulate=1, automatic=True):
        self.callback, self.accumulate_grad_batches = callback, accumulate
        self.module = SimpleNamespace(automatic_optimization=automatic)
        self.optimizers = [torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])]

    def fit(self, batches):
        """Run batches: the steps that each of them takes, and what ``training_step`` returned."""
        self.callback.on_train_start(self, self.module)
        for index, (steps, outputs) in enumerate(batches):
            for _ in range(steps):
                self.optimizers[0].step()
            self.callback.on_train_batch_end(self, self.module, outputs, None, index)
        self.callback.on_train_end(self, self.module)


@pytest.fixture
def callback(monkeypatch):
    """Return a function that makes a callback of a monitor, without Lightning."""
    base = ModuleType("lightning.pytorch")
    base.Callback = object
    monkeypatch.setitem(sys.modules, "lightning", ModuleType("lightning"))
    monkeypatch.setitem(sys.modules, "lightning.pytorch", base)
    return as_lightning_callback


def watched(every=2, **options):
    return PlasticityMonitor(network(), *task(), every=every, budget=None, alarms=(), **FAST, **options)


def losses(monitor):
    return {row["step"]: row["value"] for row in monitor.rows if row["metric"] == "training_loss"}


def test_a_batch_without_accumulation_is_a_step(callback):
    monitor = watched()
    Trainer(callback(monitor)).fit([(1, {"loss": torch.tensor(float(k))}) for k in range(4)])
    assert sorted({row["step"] for row in monitor.rows}) == [0, 2, 4]
    assert losses(monitor) == {2: 1.0, 4: 3.0}
    assert monitor.started is None


def test_accumulated_batches_are_one_step_and_their_loss_is_not_divided(callback):
    """Lightning divides the loss by the window, and ends the last window of an epoch early."""
    monitor = watched(every=1)
    batches = [(0, 1.0), (0, 2.0), (0, 3.0), (1, 6.0), (0, 5.0), (1, 7.0)]
    Trainer(callback(monitor), accumulate=4).fit([(n, {"loss": torch.tensor(v / 4)}) for n, v in batches])
    assert monitor.steps == 2
    assert losses(monitor) == {1: 3.0, 2: 6.0}


@pytest.mark.parametrize("outputs", [None, {}, {"metric": 1.0}])
def test_manual_optimization_needs_no_loss(callback, outputs):
    monitor = watched()
    Trainer(callback(monitor), automatic=False).fit([(1, outputs)] * 4)
    assert sorted({row["step"] for row in monitor.rows}) == [0, 2, 4]
    assert losses(monitor) == {}


def test_manual_optimization_may_take_several_steps_a_batch_and_does_not_divide(callback):
    monitor = watched(every=3)
    batches = [(2, {"loss": torch.tensor(4.0)}), (0, torch.tensor(1.0)), (2, {"loss": 2.0})]
    Trainer(callback(monitor), automatic=False, accumulate=1).fit(batches)
    assert monitor.steps == 4
    assert losses(monitor) == {3: 1.5}


def test_a_resumed_trainer_goes_on_counting(callback):
    first, second = watched(), watched()
    Trainer(callback(first)).fit([(1, None)] * 3)
    resumed = callback(second)
    resumed.load_state_dict(callback(first).state_dict())
    Trainer(resumed).fit([(1, None)] * 1)
    assert second.steps == 4
    assert sorted({row["step"] for row in second.rows}) == [0, 2, 4]


def test_training_without_a_step_is_said(callback):
    with pytest.warns(UserWarning, match=r"3 batches and no step of an optimizer of the trainer"):
        Trainer(callback(watched()), automatic=False).fit([(0, None)] * 3)


def test_after_an_error_nothing_is_counted_any_more(callback):
    monitor = watched()
    made = callback(monitor)
    trainer = Trainer(made)
    made.on_train_start(trainer, trainer.module)
    made.on_exception(trainer, trainer.module, KeyError())
    trainer.optimizers[0].step()
    assert monitor.started is None
    assert made.counted.steps == 0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("automatic", [True, False])
@pytest.mark.parametrize("accumulate", [1, 4])
def test_lightning_drives_the_monitor(automatic, accumulate):
    lightning = pytest.importorskip("lightning.pytorch")
    net, seen = network(), []

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net, self.automatic_optimization = net, automatic

        def training_step(self, batch, index):
            loss = cross_entropy(self.net(batch[0]), batch[1])
            seen.append(float(loss))
            if automatic:
                return loss
            self.manual_backward(loss / accumulate)
            if (index + 1) % accumulate == 0:
                self.optimizers().step()
                self.optimizers().zero_grad()
            return None

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    monitor = PlasticityMonitor(net, *task(), every=2, budget=None, alarms=(), **FAST)
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*task()), batch_size=25)
    options = {"enable_checkpointing": False, "logger": False, "enable_progress_bar": False}
    options |= {"accumulate_grad_batches": accumulate} if automatic else {}
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", callbacks=[as_lightning_callback(monitor)], **options
    )
    trainer.fit(Module(), data)
    assert trainer.global_step == monitor.steps == 16 // accumulate
    assert sorted({row["step"] for row in monitor.rows}) == list(range(0, monitor.steps + 1, 2))
    windows = [seen[k * accumulate : (k + 1) * accumulate] for k in range(monitor.steps)]
    means = {k + 1: sum(window) / accumulate for k, window in enumerate(windows)}
    assert losses(monitor) == ({k: pytest.approx(means[k], rel=1e-5) for k in losses(monitor)} if automatic else {})
    assert bool(losses(monitor)) == automatic


# ------------------------------------------------------------------------------- loops that take our optimizer


def test_steps_of_an_optimizer_that_is_followed_are_counted_and_no_others():
    monitor, net = watched(), network()
    sgd = torch.optim.SGD(net.parameters())
    with monitor.follow(sgd) as same:
        assert same is monitor
        for _ in range(5):
            sgd.step()
        torch.optim.SGD(net.parameters()).step()
    sgd.step()
    assert monitor.steps == 5
    assert sorted({row["step"] for row in monitor.rows}) == [0, 2, 4]


def test_a_monitor_that_runs_is_not_started_again_and_an_optimizer_counts_once():
    monitor, net = watched(), network()
    sgd = torch.optim.SGD(net.parameters())
    with monitor.follow(sgd, sgd):
        with pytest.raises(RuntimeError, match="follow: the monitor is running already"), monitor.follow(sgd):
            pass
        sgd.step()
    assert monitor.steps == 1


def test_an_optimizer_whose_state_and_groups_are_set_anew_is_still_followed():
    """As Avalanche does before every experience."""
    monitor, net = watched(), network()
    adam = torch.optim.Adam(net.parameters())
    with monitor.follow(adam):
        for _ in range(2):
            adam.state.clear()
            adam.param_groups[0]["params"] = list(net.parameters())
            adam.step()
    assert monitor.steps == 2


def test_an_optimizer_that_takes_no_step_is_said():
    net = network()
    monitor, sgd = watched(), torch.optim.SGD(net.parameters())
    with pytest.warns(UserWarning, match=r"optimizer: none of its steps was seen"), monitor.follow(sgd):
        torch.optim.SGD(net.parameters()).step()


@pytest.mark.filterwarnings("ignore")
def test_stable_baselines3_drives_the_monitor():
    stable_baselines3 = pytest.importorskip("stable_baselines3")
    agent = stable_baselines3.DQN("MlpPolicy", "CartPole-v1", learning_starts=8, train_freq=1, seed=0)
    monitor = PlasticityMonitor(agent.q_net, torch.randn(16, 4), every=10, budget=None)
    with monitor.follow(agent.policy.optimizer):
        agent.learn(40)
    assert monitor.steps == 40 - 8  # a step after each transition, once so many were seen
    assert sorted({row["step"] for row in monitor.rows}) == list(range(0, monitor.steps + 1, 10))
    assert {"q_net.0", "q_net.2"} < {row["layer"] for row in monitor.rows}


# ------------------------------------------------------------------------------------------------ who keeps records


class Log:
    def __init__(self):
        self.seen = []

    def log(self, values, step):
        self.seen.append((step, values))


def test_one_dictionary_a_measurement_is_logged():
    writer, net = Log(), network()
    sgd = torch.optim.SGD(net.parameters())
    monitor = PlasticityMonitor(net, *task(), every=2, budget=None, alarms=(), writer=writer, **FAST)
    with monitor.follow(sgd):
        for _ in range(4):
            sgd.step()
    assert [step for step, _ in writer.seen] == [0, 2, 4]
    rows = {(row["step"], row["metric"], row["layer"]): row["value"] for row in monitor.rows}
    for step, values in writer.seen:
        assert values["dead_fraction/act1"] == rows[step, "dead_fraction", "act1"]
        assert len(values) == sum(1 for key in rows if key[0] == step)


def test_who_cannot_keep_records_is_refused():
    with pytest.raises(TypeError, match=r"writer: got list, which has neither add_scalar nor log"):
        watched(writer=[])


def logged(writer):
    net = network()
    sgd = torch.optim.SGD(net.parameters())
    monitor = PlasticityMonitor(net, *task(), every=2, budget=None, alarms=(), writer=writer, **FAST)
    with monitor.follow(sgd):
        for _ in range(4):
            sgd.step()
    return monitor


def test_weights_and_biases_keeps_the_measurements(tmp_path):
    wandb = pytest.importorskip("wandb")
    run = wandb.init(mode="offline", dir=tmp_path, project="plasticity", settings=wandb.Settings(silent=True))
    monitor = logged(run)
    last = {row["metric"]: row["value"] for row in monitor.rows if row["layer"] == "act1"}
    assert run.summary["dead_fraction/act1"] == last["dead_fraction"]
    run.finish()


def test_trackio_keeps_the_measurements(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    trackio = pytest.importorskip("trackio")
    trackio.init(project="plasticity", embed=False, auto_log_cpu=False)
    monitor = logged(trackio)
    trackio.finish()
    (file,) = tmp_path.glob("*.db")
    with closing(sqlite3.connect(file)) as database:
        found = database.execute("select step, metrics from metrics").fetchall()
    kept = {(step, name): value for step, metrics in found for name, value in json.loads(metrics).items()}
    for row in monitor.rows:
        assert kept[row["step"], "/".join(filter(None, (row["metric"], row["layer"])))] == row["value"]
