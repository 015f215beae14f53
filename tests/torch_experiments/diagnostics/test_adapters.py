"""Other people's training loops drive the monitor."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.torch_experiments.diagnostics.samples import FAST, network, task
from torch_experiments import PlasticityMonitor
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
    state, control = TrainerState(), TrainerControl()
    handler.on_train_begin(args, state, control)
    for _ in range(4):
        handler.on_step_end(args, state, control)
    handler.on_train_end(args, state, control)
    assert sorted({row["step"] for row in monitor.rows}) == [0, 2, 4]
    assert monitor.started is None


def test_lightning_drives_the_monitor():
    lightning = pytest.importorskip("lightning.pytorch")
    net = network()

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = net

        def training_step(self, batch, _):
            return cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    monitor = PlasticityMonitor(net, *task(), every=2, budget=None, **FAST)
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*task()), batch_size=100)
    options = {"enable_checkpointing": False, "logger": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", callbacks=[as_lightning_callback(monitor)], **options
    )
    trainer.fit(Module(), data)
    assert sorted({row["step"] for row in monitor.rows}) == [0, 2, 4]
