"""Experiment 1: does training leave a cloned manifold? (JL25 figure 2.1)

A base network (MLP, CNN, ResNet-18 or ViT) is trained, every hidden unit is cloned, and both go on under the same
regime with the same batches. SGD, momentum and Adam should keep the copies exact; noise and dropout should not. In
the CNN dropout acts on the hidden Linear layer, in the ResNet on the features before the head, in the ViT on tokens
and branches; copies on which it does not act stay exact. ``lop run e01`` runs it.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import pyarrow as pa
import torch
from rich.progress import Progress
from rich.table import Table
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from torch_experiments.cloning.exact import clone, layout, residuals
from torch_experiments.cloning.layouts import Layout, Profile
from torch_experiments.lab import records
from torch_experiments.lab.images import pixels
from torch_experiments.lab.images.pixels import Floats
from torch_experiments.lab.models import ARCHITECTURES, build
from torch_experiments.lab.training import Settings
from torch_experiments.lab.training.measures import WHOLE, in_turn
from torch_experiments.metrics import layers, spectra
from torch_experiments.metrics.activity import dead, share
from torch_experiments.support.choices import at_least_one, choose
from torch_experiments.support.noise import GradientNoise
from torch_experiments.support.precision import training_precision
from torch_experiments.support.threads import one_thread
from torch_experiments.units.inputs import evaluating

Regime = Literal["sgd", "momentum", "adam", "noisy-elementwise", "noisy-normwise", "dropout"]
REGIMES: tuple[Regime, ...] = get_args(Regime)
DTYPES: Mapping[str, torch.dtype] = {"float32": torch.float32, "float64": torch.float64}
NAME = "e01"
TITLE = "clones under SGD, momentum, Adam, noise and dropout: do the copies stay equal?"
REVISION = 1  # raise it when the same config would give other numbers: old records are then left alone


@dataclass(frozen=True)
class Config:
    """Everything that determines the numbers.

    Attributes:
        data: ``"digits"`` or a folder of parquet files.
        arch: a key of `models.ARCHITECTURES`; norm, activation (None: its own) and ``arch_settings`` (width,
            depth, …) are its arguments.
        factor: copies of a hidden unit.
        base_epochs: training of the base before cloning, by SGD with momentum.
        epochs: training after it; metrics every ``log_every`` epochs and at both ends.
        batch: samples a step.
        lr, momentum: of SGD; every regime but ``sgd`` and ``adam`` uses the momentum.
        adam_lr: of Adam(0.9, 0.999).
        sigma, decay: of the gradient noise.
        dropout: wherever the architecture has it, in the regime of that name.
        probe: size of the fixed class-balanced batch of training images for the metrics.
        dtype: ``"float32"`` or ``"float64"``.
        device: a torch device.
        seeds: of initial weights, batch order, noise and dropout.
        regimes: what to train under, see `REGIMES`.
    """

    data: str = "digits"
    arch: str = "mlp"
    arch_settings: Settings = ()
    norm: str = "none"
    activation: str | None = None
    factor: int = 2
    base_epochs: int = 20
    epochs: int = 30
    log_every: int = 10
    batch: int = 128
    lr: float = 0.01
    momentum: float = 0.9
    adam_lr: float = 1e-3
    sigma: float = 0.01
    decay: float = 0.999
    dropout: float = 0.1
    probe: int = 500
    dtype: str = "float32"
    device: str = "cpu"
    seeds: tuple[int, ...] = (0, 1, 2)
    regimes: tuple[Regime, ...] = REGIMES

    def __post_init__(self) -> None:
        choose("arch", self.arch, ARCHITECTURES)
        choose("dtype", self.dtype, DTYPES)
        for regime in self.regimes:
            choose("regimes", regime, dict.fromkeys(REGIMES))
        for name in ("seeds", "regimes"):
            if not getattr(self, name):
                raise ValueError(f"{name}: is empty; give at least one")
        at_least_one(**{name: getattr(self, name) for name in ("epochs", "log_every", "batch", "probe")})


PROFILES: Mapping[str, Config] = {
    "quick": Config(),
    "full": Config(epochs=500, log_every=25, seeds=(0, 1, 2, 3, 4)),
}


SHORT = Config(base_epochs=3, log_every=1, lr=0.05, probe=200, dtype="float64", seeds=(0,))
EPOCHS: Mapping[str, int] = {"mlp": 6, "cnn": 6, "resnet18": 2, "vit": 6}  # of `SHORT` with `SMALL` networks
SMALL: Mapping[str, Mapping[str, Any]] = {
    "mlp": {"width": 64, "depth": 4},
    "cnn": {"width": 8, "depth": 2, "hidden": 32},
    "resnet18": {"width": 4},
    "vit": {"patch": 4, "width": 16, "depth": 2, "heads": 2},
}
SEEDS: Mapping[str, tuple[int, ...]] = {"quick": SHORT.seeds, "paper": PROFILES["full"].seeds}


class Batch(NamedTuple):
    """Images and class indices."""

    x: Tensor
    y: Tensor


class Pair(NamedTuple):
    """A trained base, its clone, and where the copies lie."""

    base: nn.Sequential
    twin: nn.Sequential
    axes: Layout


class Task(NamedTuple):
    """The data on the device: training set, test set, and the fixed batch for the metrics."""

    train: Batch
    test: Batch
    probe: Batch
    classes: int
    fingerprint: str


def configs(profile: str, arch: str = "mlp", data: str | None = None) -> dict[str, Config]:
    """Return the configuration of an architecture, with batch norm or, for the ViT, layer norm, as in JL25.

    ``quick`` trains a small network on the digits for seconds to minutes, ``paper`` one of its published size
    for 500 epochs.

    Raises:
        ValueError: for another profile or network, or ``paper`` without data.
    """
    choose("arch", arch, SMALL)
    norm = "layer" if arch == "vit" else "batch"
    if profile == "quick":
        settings, epochs = tuple(SMALL[arch].items()), EPOCHS[arch]
        given: dict[str, Any] = {"arch_settings": settings, "epochs": epochs, "data": data or "digits"}
        return {arch: dataclasses.replace(SHORT, arch=arch, norm=norm, **given)}
    if profile != "paper":
        raise ValueError(f"profile: got {profile!r}; e01 has 'quick' and 'paper'")
    if data is None:
        raise ValueError("data: the profile 'paper' needs images: --data FOLDER, see `lop data info`")
    return {arch: dataclasses.replace(PROFILES["full"], arch=arch, norm=norm, data=data)}


def run(
    config: Config, out: str | Path | None = None, *, progress: bool = False, task: Task | None = None
) -> pa.Table:
    """Run every (seed, regime) cell of ``config`` and return all measurements, one a row.

    Columns: ``regime``, ``seed``, ``network`` (``clone`` or ``base``, both trained under the regime), ``epoch``
    after cloning, ``layer`` (1 is the first of `layers.observed`: activations of MLP and CNN, blocks of ResNet and
    ViT; for residuals the first layer with parameters; 0 is the whole network: the mean over observed layers, for
    residuals the largest over all layers), ``metric`` and ``value``.

    With a folder ``out`` every finished cell is saved there and read instead of computed the next time, so an
    interrupted run goes on where it stopped. ``task`` is `load_task(config)` where the caller has it already.

    Raises:
        ValueError, FileNotFoundError: for a configuration or data that cannot be run.
    """
    task = task or load_task(config)
    tables: list[pa.Table] = []
    with one_thread(), training_precision(tf32=False), Progress(disable=not progress) as bar:
        tick = _ticker(bar, config)
        for seed in config.seeds:
            start: Pair | None = None
            for regime in config.regimes:
                about = cell_identity(config, seed, regime, task.fingerprint)
                record = records.find(out, about) if out is not None else None
                if record is None:
                    start = start or cloned(config, train_base(config, seed, task), task)
                    table = run_cell(config, seed, regime, task, start, tick)
                    record = records.Record(about, table, records.environment(config.device))
                    if out is not None:
                        records.save(out, record)
                else:
                    tick(2 * config.epochs)
                tables.append(record.table)
    return pa.concat_tables(tables)


def cell_identity(config: Config, seed: int, regime: str, fingerprint: str) -> dict[str, Any]:
    """Return what identifies the record of one cell: all settings, the content of the data, seed and regime."""
    settings = dataclasses.asdict(config)
    for name in ("seeds", "regimes", "data"):
        del settings[name]
    settings["arch_settings"] = dict(sorted(config.arch_settings))
    place = {"seed": seed, "regime": regime, "data": fingerprint}
    return {"experiment": "e01_cloning", "revision": REVISION} | settings | place


def run_cell(
    config: Config,
    seed: int,
    regime: str,
    task: Task,
    pair: Pair,
    tick: Callable[[int], None] = lambda epochs: None,
) -> pa.Table:
    """Train clone and base under ``regime`` with the same batches, and return the measurements."""
    gap = ("function_gap", WHOLE, function_gap(pair.base, pair.twin, task.probe.x))
    rows = [_row(regime, seed, "clone", 0, *gap)]
    networks: dict[str, tuple[nn.Sequential, Layout | None]] = {
        "clone": (copy.deepcopy(pair.twin), pair.axes),
        "base": (copy.deepcopy(pair.base), None),
    }
    for network, (model, axes) in networks.items():
        start = {name: value.clone() for name, value in model.state_dict().items()}
        for epoch in _continued(config, seed, regime, task, model):
            if epoch % config.log_every == 0 or epoch == config.epochs:
                found = measure(model, task, axes, start)
                rows += [_row(regime, seed, network, epoch, *values) for values in found]
            tick(min(epoch, 1))
    return pa.Table.from_pylist(rows)


def measure(
    model: nn.Module, task: Task, axes: Layout | None, start: Mapping[str, Tensor]
) -> Iterator[tuple[str, int, float]]:
    """Yield ``(metric, layer, value)`` of a network; scores and residuals where ``axes`` says what is cloned."""
    for name, (x, y) in (("train", task.probe), ("test", task.test)):
        with evaluating(model), torch.no_grad():
            output = model(x)
        yield f"{name}_loss", WHOLE, float(cross_entropy(output, y))
        yield f"{name}_accuracy", WHOLE, float((output.argmax(dim=1) == y).double().mean())
    yield from _unit_metrics(layers.activations(model, task.probe.x))
    if axes is not None:
        yield from _clone_metrics(model, task.probe, axes, start)


def function_gap(model: nn.Module, other: nn.Module, x: Tensor) -> float:
    """Return ``max |f(x) − g(x)| / max |f(x)|`` in eval mode."""
    with evaluating(model), evaluating(other), torch.no_grad():
        f, g = model(x), other(x)
    return float((f - g).abs().max() / f.abs().max())


def train_base(config: Config, seed: int, task: Task) -> nn.Sequential:
    """Return a network trained from scratch for ``base_epochs`` by SGD with momentum."""
    shape, settings = task.train.x.shape[1:], dict(config.arch_settings)
    given: dict[str, Any] = {"norm": config.norm, "activation": config.activation, "dtype": DTYPES[config.dtype]}
    model = build(config.arch, shape, task.classes, settings, seed=seed, **given).to(config.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr, momentum=config.momentum)
    order = torch.Generator().manual_seed(seed)
    for _ in range(config.base_epochs):
        train_epoch(model, optimizer, task.train, config.batch, order)
    return model


def cloned(config: Config, base: nn.Sequential, task: Task) -> Pair:
    """Return ``base`` with its clone."""
    x = task.probe.x
    twin = clone(base, config.factor, example_inputs=x)
    return Pair(base, twin, layout(base, config.factor, example_inputs=x))


def hidden_profiles(model: nn.Module, axes: Layout) -> list[Profile]:
    """Return the profiles of the units of every `layers.observed` module of a clone."""
    return [next(p for p in axes.outputs[name].profiles if p.copied) for name in layers.observed(model)]


def train_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, train: Batch, size: int, order: torch.Generator
) -> None:
    """Pass once over ``train`` in an order drawn from ``order``; a last batch of one sample is left out."""
    model.train()
    for index in torch.randperm(len(train.y), generator=order).to(train.y.device).split(size):
        if len(index) > 1:
            optimizer.zero_grad()
            cross_entropy(model(train.x[index]), train.y[index]).backward()
            optimizer.step()


def make_optimizer(
    config: Config, regime: str, model: nn.Module, generator: torch.Generator
) -> torch.optim.Optimizer:
    """Return a fresh optimizer of ``regime``, with gradient noise from ``generator`` where the regime has it."""
    if regime == "adam":
        return torch.optim.Adam(model.parameters(), lr=config.adam_lr)
    momentum = 0.0 if regime == "sgd" else config.momentum
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr, momentum=momentum)
    if regime == "noisy-elementwise":
        optimizer.register_step_pre_hook(GradientNoise(config.sigma, config.decay, "elementwise", generator))
    if regime == "noisy-normwise":
        optimizer.register_step_pre_hook(GradientNoise(config.sigma, config.decay, "normwise", generator))
    return optimizer


def load_task(config: Config, limit: int | None = None) -> Task:
    """Return the data of ``config`` on its device, with the fixed batch for the metrics.

    ``limit`` bounds the number of images read of each split, for a folder.
    """
    data = pixels.load(config.data, limit=limit)
    images = data.floats(DTYPES[config.dtype])
    x, y, test_x, test_y = (tensor.to(config.device) for tensor in images)
    probe = in_turn(images.train_y)[: config.probe].to(config.device)
    fingerprint = _fingerprint(data.classes, images)
    return Task(Batch(x, y), Batch(test_x, test_y), Batch(x[probe], y[probe]), len(data.classes), fingerprint)


def _fingerprint(classes: tuple[str, ...], images: Floats) -> str:
    """Return a hash of all images and labels as the networks see them.

    It is another one than that of `Pixels`, and depends on the dtype: the committed records of clones have it in
    their identity.
    """
    digest = hashlib.sha256(repr((classes, images.train_x.shape, images.test_x.shape)).encode())
    for tensor in (images.train_x, images.train_y, images.test_x, images.test_y):
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def end_values(table: pa.Table) -> list[dict[str, Any]]:
    """Return, for every regime, network and metric of the whole network, mean and range over seeds at the end."""
    last = max(table["epoch"].to_pylist())
    found: dict[tuple[str, str, str], list[float]] = {}
    for row in table.to_pylist():
        if row["epoch"] == last and row["layer"] == WHOLE:
            found.setdefault((row["regime"], row["network"], row["metric"]), []).append(row["value"])
    names = ("regime", "network", "metric")
    return [
        dict(zip(names, place, strict=True), mean=sum(v) / len(v), low=min(v), high=max(v))
        for place, v in found.items()
    ]


def _continued(config: Config, seed: int, regime: str, task: Task, model: nn.Sequential) -> Iterator[int]:
    """Train ``model`` under ``regime`` and yield the epoch, 0 before the first."""
    order, noise = torch.Generator().manual_seed(seed + 1), torch.Generator().manual_seed(seed)
    optimizer = make_optimizer(config, regime, model, noise)
    for module in model.modules():
        if isinstance(module, nn.Dropout) and regime == "dropout":
            module.p = config.dropout
    for epoch in range(config.epochs + 1):
        if epoch:
            with _seeded(seed * 100_003 + epoch, config.device):
                train_epoch(model, optimizer, task.train, config.batch, order)
        yield epoch


def _unit_metrics(values: list[Tensor]) -> Iterator[tuple[str, int, float]]:
    columns: dict[str, list[float]] = {"dead_fraction": [share(dead(a.abs().amax(dim=0))) for a in values]}
    sigmas = [spectra.spectrum(a) for a in values]
    columns |= {name: [rank(sigma) for sigma in sigmas] for name, rank in spectra.RANKS.items()}
    for metric, column in columns.items():
        yield from _layers(metric, column)


def _clone_metrics(
    model: nn.Module, probe: Batch, axes: Layout, start: Mapping[str, Tensor]
) -> Iterator[tuple[str, int, float]]:
    hidden = hidden_profiles(model, axes)
    forward = layers.forward_scores(model, probe.x, hidden)
    backward = layers.backward_scores(model, probe.x, probe.y, hidden)
    for direction, found in (("forward", forward), ("backward", backward)):
        yield from _layers(f"{direction}_score", [score.value for score in found])
        yield from _layers(f"{direction}_dead_blocks", [float(score.dead) for score in found])
    for metric in ("rows", "columns", "coset"):
        column = [getattr(residual, metric) for residual in residuals(model, axes, start)]
        yield from ((f"{metric}_residual", k, value) for k, value in enumerate(column, start=1))
        yield f"{metric}_residual", WHOLE, max(column)


def _layers(metric: str, column: list[float]) -> Iterator[tuple[str, int, float]]:
    yield from ((metric, k, value) for k, value in enumerate(column, start=1))
    yield metric, WHOLE, float(torch.tensor(column, dtype=torch.float64).nanmean())


def _row(regime: str, seed: int, network: str, epoch: int, metric: str, layer: int, value: float) -> dict[str, Any]:
    place = {"regime": regime, "seed": seed, "network": network, "epoch": epoch}
    return place | {"layer": layer, "metric": metric, "value": value}


def _ticker(bar: Progress, config: Config) -> Callable[[int], None]:
    total = 2 * config.epochs * len(config.seeds) * len(config.regimes)
    return partial(bar.advance, bar.add_task("cloning", total=total))


def summary(table: pa.Table) -> Table:
    """Return the values at the end, means over seeds, a row a regime and network."""
    shown = ("train_loss", "test_accuracy", "forward_score", "backward_score", "shannon_rank", "coset_residual")
    values = {(v["regime"], v["network"], v["metric"]): v["mean"] for v in end_values(table)}
    view = Table("regime", "network", *shown)
    for regime, network in dict.fromkeys(place[:2] for place in values):
        numbers = [values.get((regime, network, metric)) for metric in shown]
        view.add_row(regime, network, *("" if v is None else f"{v:.4g}" for v in numbers))
    return view


@contextmanager
def _seeded(seed: int, device: str) -> Iterator[None]:
    """Seed the global generators, which dropout draws from, and restore them afterwards."""
    with torch.random.fork_rng(devices=[device] if device.startswith("cuda") else []):
        torch.manual_seed(seed)
        yield
