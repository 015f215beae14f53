"""Several processes that share each batch: one process up to rounding, with batch norm, dropout and remedies."""

import dataclasses
import os
import pickle
import signal

import pytest
import torch
from torch import distributed, nn

from torch_experiments.lab import experiments, language
from torch_experiments.lab.images.pixels import load
from torch_experiments.lab.models import TokenBatchNorm
from torch_experiments.lab.training import Config, Run, checkpoints, keeping, parallel, run
from torch_experiments.support.processes import leave, processes

DATA = load("digits")
MLP = Config(
    stream_settings=(("size", 2),),
    tasks=2,
    steps=20,
    measure_every=10,
    batch=16,
    arch_settings=(("width", 16), ("depth", 2)),
    norm="batch",
    dropout=0.1,
    probe_train=60,
    probe_test=40,
    padding=1,
    flip=True,
    jitter=0.1,
    remedy="cbp",
    remedy_settings=(("rate", 0.02), ("maturity", 5)),
    precision="float64",
)
SHORT = dataclasses.replace(MLP, tasks=1, steps=8, measure_every=8)
SHAPES = {
    "cnn": (("depth", 2), ("hidden", 16), ("width", 4)),
    "vit": (("depth", 1), ("heads", 2), ("patch", 2), ("width", 16)),
}
REDO = dataclasses.replace(SHORT, remedy="redo", remedy_settings=(("every", 4), ("threshold", 0.5)))
CONFIGS = {
    "mlp": MLP,
    "cnn": dataclasses.replace(REDO, arch="cnn", arch_settings=SHAPES["cnn"]),
    "vit": dataclasses.replace(REDO, arch="vit", arch_settings=SHAPES["vit"]),
    "escape": dataclasses.replace(SHORT, remedy="escape", norm="none", remedy_settings=()),
    "noise": dataclasses.replace(SHORT, remedy="noise", norm="layer", remedy_settings=(("sigma", 0.1),)),
}
CONFIGS["rank"] = dataclasses.replace(SHORT, remedy="rank", remedy_settings=(("strength", 0.3), ("images", 30)))
DIVERGING = dataclasses.replace(SHORT, optimizer="sgd", lr=1e20, norm="none", remedy="none", remedy_settings=())

TEXT = language.Config(
    tasks=2,
    steps=6,
    batch=4,
    context=8,
    measure_every=6,
    probe_train=4,
    probe_test=4,
    arch_settings=(("depth", 1), ("heads", 2), ("width", 8)),
    dropout=0.1,
    remedy="redo",
    remedy_settings=(("every", 4), ("threshold", 0.5)),
    precision="float64",
)


def of_text():
    (record,) = language.run(TEXT, [3])
    return record.table.to_pydict(), record.environment


def numbers(config, out=None, **options):
    (record,) = run(config, [3], out, data=DATA, **options)
    return record.table.to_pydict(), record.environment


def error_of(act):
    try:
        act()
    except (Exception, SystemExit) as error:
        return f"{type(error).__name__}: {error}"
    return "none"


def interrupted(out):
    """Run until the second process is asked to stop, and again to the end."""

    def progress(steps):
        if distributed.get_rank() == 1:
            taken.append(steps)
            if len(taken) == 24:
                os.kill(os.getpid(), signal.SIGTERM)

    taken = []
    first = error_of(lambda: numbers(MLP, out, progress=progress))
    distributed.barrier()
    steps = [path.name for path in out.glob("*.run/step-*")]
    distributed.barrier()
    return first, steps, numbers(MLP, out)


def without_sharing():
    kept, parallel.share = parallel.share, lambda model: None
    try:
        return numbers(CONFIGS["mlp"])
    finally:
        parallel.share = kept


def bare():
    """Return the weights after some steps, of each process by itself."""
    found = Run(CONFIGS["vit"], [3], DATA)
    for _ in range(6):
        found.advance()
    return torch.cat([p.detach().flatten() for p in found.networks.ensemble.models[0].state_dict().values()])


def together(rank, out):
    torch.set_num_threads(1)
    store = distributed.FileStore(f"{out}/store", 2)
    distributed.init_process_group("gloo", rank=rank, world_size=2, store=store)
    folder = out / "records"
    found = {name: numbers(config) for name, config in CONFIGS.items()}
    found["text"] = of_text()
    found["control"] = without_sharing()
    found["weights"] = bare()
    found["interrupted"] = interrupted(folder)
    found["diverged"] = error_of(lambda: numbers(DIVERGING, folder))
    found["odd"] = error_of(lambda: numbers(dataclasses.replace(MLP, batch=15)))
    found["stack"] = error_of(lambda: run(DIVERGING, [0, 1], data=DATA, stack=True))
    found["held"] = error_of(lambda: numbers(SHORT, out / "held"))
    (out / f"{rank}.pickle").write_bytes(pickle.dumps(found))
    leave()


@pytest.fixture(scope="module")
def found(tmp_path_factory, forks):
    """Return what two processes found."""
    out = tmp_path_factory.mktemp("parallel")
    with checkpoints.locked(keeping.folder_of(Run(SHORT, [3], DATA), out / "held")):
        torch.multiprocessing.start_processes(together, (out,), nprocs=2, start_method=forks.get_start_method())
    return [pickle.loads((out / f"{rank}.pickle").read_bytes()) for rank in range(2)]


def assert_close(one, other):
    assert {k: v for k, v in one.items() if k != "value"} == {k: v for k, v in other.items() if k != "value"}
    assert one["value"] == pytest.approx(other["value"], rel=1e-6, abs=1e-6)  # ranks are computed in float32
    norms = [[v for v, m in zip(t["value"], t["metric"], strict=True) if m == "weight_norm"] for t in (one, other)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-11)


@pytest.mark.parametrize("name", CONFIGS)
def test_two_processes_are_one_up_to_rounding(name, found):
    table, environment = found[0][name]
    assert environment["processes"] == 2
    assert_close(table, numbers(CONFIGS[name])[0])


def test_two_processes_that_share_text_are_one_up_to_rounding(found):
    table, environment = found[0]["text"]
    assert environment["processes"] == 2
    assert_close(table, of_text()[0])
    assert found[1]["text"] == found[0]["text"]


def test_without_the_bonus_on_the_rank_the_run_is_another(found):
    with pytest.raises(AssertionError):
        assert_close(found[0]["rank"][0], numbers(dataclasses.replace(SHORT, remedy="none", remedy_settings=()))[0])


def test_batch_norm_of_each_part_by_itself_is_noticed(found):
    with pytest.raises(AssertionError):
        assert_close(found[0]["control"][0], numbers(MLP)[0])


def test_all_processes_have_the_same_weights_and_answer(found):
    assert torch.equal(found[0]["weights"], found[1]["weights"])
    assert all(found[0][name] == found[1][name] for name in CONFIGS)


def test_a_signal_to_one_process_stops_all_and_the_run_goes_on(found):
    for first, steps, (table, environment) in (part["interrupted"] for part in found):
        assert first == "Stopped: 143"
        assert steps == ["step-0000000024"] or steps == ["step-0000000023"]
        assert environment["resumed"] == int(steps[0][-2:])
        assert table == found[0]["mlp"][0]


def test_a_loss_that_is_not_finite_stops_all_processes_and_is_saved_once(found):
    messages = [part["diverged"] for part in found]
    assert all(message.startswith("Diverged: loss: nan at step") for message in messages)
    assert ["The state before this step is in" in message for message in messages] == [True, False]


def test_bad_input_is_named_in_all_processes(found):
    for part in found:
        assert "batch: got 15 for 2 processes; it has to be a multiple of them" in part["odd"]
        assert "stack: got 2 seeds in 2 processes; drop --stack or --ddp" in part["stack"]
        assert part["held"].startswith("InUse: ")


@pytest.fixture
def alone(tmp_path):
    """A process group of one, in which the shared modules can be run."""
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", rank=0, world_size=1, store=store)
    yield
    leave()


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d, TokenBatchNorm])
@pytest.mark.parametrize("options", [{}, {"affine": False}, {"momentum": None}, {"track_running_stats": False}])
def test_a_shared_batch_norm_of_one_process_is_a_batch_norm(kind, options, alone):
    shape = {nn.BatchNorm1d: (6, 3), nn.BatchNorm2d: (6, 3, 2, 4), TokenBatchNorm: (6, 5, 3)}[kind]
    x, weights = torch.randn(2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    outcomes = []
    for shared in (False, True):
        module = kind(3, dtype=torch.float64, **options)
        if shared:
            parallel.share(module)
            assert isinstance(module, kind)
        given = (x * 2 + 1).requires_grad_()
        for _ in range(2):
            y = module(given)
        (y * weights).sum().backward()
        outcomes.append([y.detach(), given.grad, *module.buffers(), module.eval()(x).detach()])
        outcomes[-1] += [p.grad for p in module.parameters()]
    for one, other in zip(*outcomes, strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-12)


def test_a_shared_dropout_draws_as_dropout(alone):
    x = torch.ones(50, 4, dtype=torch.float64)
    module = nn.Dropout(0.3)
    torch.manual_seed(1)
    expected = module(x)
    parallel.share(module)
    torch.manual_seed(1)
    assert torch.equal(module(x), expected)
    assert not torch.equal(module(x), expected)
    assert module.eval()(x) is x


def test_ddp_without_torchrun_is_named(command, monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    code, _, err = command("run", "e02", "--ddp")
    assert code == 2
    assert "torchrun --standalone --nproc-per-node 2 -m lop run" in err


def test_a_run_under_torchrun_of_one_process_writes_its_record(tmp_path, monkeypatch, command):
    for name, value in {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("MASTER_PORT", "0")
    monkeypatch.setattr(experiments.load("e02"), "configs", lambda *given: {"none": SHORT})
    code, out, _ = command("run", "e02", "--seeds", 0, "--ddp", "--out", tmp_path)
    assert code == 0
    assert len(list(tmp_path.glob("*.parquet"))) == 1
    assert "none" in out
    assert processes() == 1
