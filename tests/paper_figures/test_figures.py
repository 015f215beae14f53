"""Every figure: its caption holds on a small configuration and is refused on corrupted data; it has its axes."""

import dataclasses
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest

from paper_figures import (
    after_escape,
    agents,
    architectures,
    bitflip,
    bitflip_activations,
    certificate,
    certificate_cost,
    cloning,
    depth,
    drift,
    escape,
    freed,
    frozen,
    generalisation,
    kernels,
    language,
    modulation,
    noise_grid,
    normalisation,
    optimizers,
    partitions,
    portrait,
    quotient,
    rank_gain,
    recovery,
    refinement,
    remedies,
    saturation,
    shannon,
    sine,
    stability,
    stochastic_stability,
    streams,
    symptoms,
)
from paper_figures.support import captions, clones, legibility, registry, scaling, style, tasks
from paper_figures.support.captions import CaptionError
from tests.paper_figures import finished_cases
from torch_experiments.lab.experiments import e01_cloning

RULES = (
    *optimizers.LINEAR,
    *optimizers.ELEMENTWISE,
    *optimizers.DECAYING,
    *optimizers.NEGATIVE,
    "Adam, coupled L2",
)


class Case(NamedTuple):
    """A figure, its data on a small configuration, and ways to make its caption untrue."""

    figure: ModuleType
    data: Callable[[Path], Any]
    corruptions: dict[str, Callable[[Any], Any]]
    axes: list[str]


def replaced(table: pa.Table, column: str, edit: Callable[[dict[str, Any]], Any]) -> pa.Table:
    values = [edit(row) for row in table.to_pylist()]
    return table.set_column(table.column_names.index(column), column, pa.array(values))


def small_cloning(results):
    config = e01_cloning.Config(
        arch_settings=(("width", 16), ("depth", 2)), base_epochs=3, epochs=3, log_every=3, probe=100
    )
    return e01_cloning.run(config, results)


TINY = {
    "mlp": (("width", 8), ("depth", 2)),
    "cnn": (("width", 3), ("depth", 2), ("hidden", 8)),
    "resnet18": (("width", 2), ("stages", (1, 2))),
    "vit": (("patch", 4), ("width", 8), ("depth", 2), ("heads", 2)),
}


def small_architectures(results):
    training = dataclasses.replace(architectures.TRAINING, base_epochs=1, probe=60, seeds=(0,))
    configs = {arch: architectures.config(training, "quick", arch) for arch in TINY}
    small = {
        arch: dataclasses.replace(config, arch_settings=TINY[arch], epochs=1) for arch, config in configs.items()
    }
    return architectures.measure(small, results)


def small_noise_grid(results):
    quick = noise_grid.CONFIGS["quick"]
    settings = (("width", 8), ("depth", 2))
    return noise_grid.measure(dataclasses.replace(quick, arch_settings=settings, epochs=4, probe=60), results)


def small_certificate_cost(results):
    """Return found copies with the times of a quiet machine."""
    data = certificate_cost.measure(scaling.Config((1_000, 4_000, 16_000), 0, repetitions=1), results)
    assert min(data.table["seconds"].to_pylist()) > 0
    return with_table(lambda table: replaced(table, "seconds", lambda row: 1e-8 * row["size"]))(data)


def found_changed(side="found", **edits):
    """Edit sets of marks of a certificate."""

    def edited(data):
        marks = getattr(data, side)
        changed = {name: edit(getattr(marks, name)) for name, edit in edits.items()}
        return dataclasses.replace(data, **{side: dataclasses.replace(marks, **changed)})

    return edited


def escaped(side, **changes):
    def edited(data):
        return run_changed(side, action=dataclasses.replace(getattr(data, side).action, **changes))(data)

    return edited


def at(column, value, **place):
    """Return a change of a table: ``column`` is ``value`` where the other columns are as told."""

    def edit(row):
        return value if all(row[name] == told for name, told in place.items()) else row[column]

    return lambda table: replaced(table, column, edit)


def small_refinement(results):
    """Return measured partitions with the times of a quiet machine: those of a busy one are no matter of a test."""
    data = refinement.measure(scaling.Config((1_000, 10_000, 40_000, 160_000), 10_000, repetitions=1), results)
    assert min(data.table["seconds"].to_pylist()) > 0
    return with_table(lambda table: replaced(table, "seconds", lambda row: 1e-7 * row["size"]))(data)


def small_bitflip(results):
    return bitflip.measure(bitflip.Config(400_000, 200_000, (5,), (0, 1), 20), results)


def small_activations(results):
    """A short run, whose errors are replaced by ones that rise at the end for all but the linear one."""
    table = bitflip_activations.measure(bitflip_activations.Config(20_000, 10, (0, 1, 2)), results)

    def risen(row):
        late = row["steps"] > 18_000 and row["activation"] in bitflip_activations.ACTIVATIONS
        return 0.5 + 0.01 * row["seed"] + 0.1 * late * (1 + 0.1 * row["seed"])

    silent = replaced(table, "silent", lambda row: 0.4 * (row["activation"] == "relu"))
    return replaced(silent, "loss", risen)


def of_activation(column, value, among=bitflip_activations.ACTIVATIONS):
    def edit(row):
        late = row["steps"] > 18_000
        return value if late and row["activation"] in among else row[column]

    return lambda table: replaced(table, column, edit)


def of_learner(learner, column, value, stream="redraw"):
    def edit(row):
        return value if (row["learner"], row["stream"]) == (learner, stream) else row[column]

    return lambda table: replaced(table, column, edit)


def score(regime, value):
    def edit(row):
        return value if row["regime"] == regime and row["metric"].endswith("_score") else row["value"]

    return lambda table: replaced(table, "value", edit)


def swapped_networks(table):
    other = {"clone": "base", "base": "clone"}
    return replaced(
        table,
        "network",
        lambda row: row["network"] if row["metric"].endswith("_score") else other[row["network"]],
    )


def rising(row):
    return row["value"] + row["epoch"] if row["metric"] == "train_loss" else row["value"]


def in_column(column, value):
    return lambda table: replaced(table, column, lambda row: value)


def of_rule(rule, value):
    def edited(table):
        for column in ("coset", "equations"):
            table = replaced(table, column, lambda row, c=column: value if row["rule"] == rule else row[c])
        return table

    return edited


def first(**changes):
    return lambda data: (dataclasses.replace(data[0], **changes), *data[1:])


def everywhere(**changes):
    return lambda data: tuple(dataclasses.replace(finding, **changes) for finding in data)


def run_changed(side, **changes):
    return lambda data: dataclasses.replace(data, **{side: dataclasses.replace(getattr(data, side), **changes)})


def nudged(data):
    moved = data.persistent.incoming.copy()
    moved[-1, 0] += 1e-12
    return run_changed("persistent", incoming=moved)(data)


def early_move(data):
    moved = data.revived.incoming.copy()
    moved[3, 1] += 1e-12
    return run_changed("revived", incoming=moved)(data)


def scaled(field, name, factor):
    def edited(data):
        entries = getattr(data, field)
        return dataclasses.replace(data, **{field: {**entries, name: entries[name] * factor}})

    return edited


def with_table(edit):
    return lambda data: dataclasses.replace(data, table=edit(data.table))


def in_curves(side, name, **changes):
    def edit(data):
        curves = getattr(data, side)
        return dataclasses.replace(data, **{side: {**curves, name: dataclasses.replace(curves[name], **changes)}})

    return edit


def gains(edit):
    return lambda data: dataclasses.replace(
        data, curves={name: dataclasses.replace(curve, **edit(curve)) for name, curve in data.curves.items()}
    )


def in_maps(name, edit):
    def changed(data):
        found = data.maps[name]
        return dataclasses.replace(data, maps={**data.maps, name: dataclasses.replace(found, **edit(found))})

    return changed


def curve_changed(**edits):
    """Edit arrays of the first curve."""

    def edited(data):
        first, *others = data.curves
        changed = {name: edit(getattr(first, name)) for name, edit in edits.items()}
        return dataclasses.replace(data, curves=(dataclasses.replace(first, **changed), *others))

    return edited


def quadratic(table):
    return replaced(table, "seconds", lambda row: 1e-9 * row["size"] ** 2)


def in_problems(edit):
    """Return the data with fields of each smooth unit replaced."""
    return lambda data: dataclasses.replace(
        data, problems=tuple(dataclasses.replace(p, **edit(p)) for p in data.problems)
    )


def in_types(edit, chosen=lambda point: True):
    """Edit the type of the chosen points."""

    def edited(data):
        points = tuple(
            dataclasses.replace(p, found=dataclasses.replace(p.found, **edit(p))) if chosen(p) else p
            for p in data.points
        )
        return dataclasses.replace(data, points=points)

    return edited


def times_changed(name, edit):
    """Edit one of the tables of escape times."""

    def edited(data):
        changed = {key: edit(key, times) for key, times in getattr(data, name).items()}
        return dataclasses.replace(data, **{name: changed})

    return edited


def distances_changed(edit):
    return lambda data: dataclasses.replace(
        data, distances=tuple(edit(*pair) for pair in enumerate(data.distances))
    )


def course_changed(name, normalised, **edits):
    """Edit arrays of one course."""

    def edited(data):
        course = data.courses[name, normalised]
        changed = {key: edit(getattr(course, key)) for key, edit in edits.items()}
        return dataclasses.replace(
            data, courses={**data.courses, (name, normalised): dataclasses.replace(course, **changed)}
        )

    return edited


def stream(ends, seeds=2, count=10):
    """Return a table as the experiments make it: metrics that go straight from one value to another, by cell."""
    rows = [
        {"task": k, "step": 9, "layer": 0, "metric": metric, "cell": cell, "seed": seed}
        | {"value": first + (last - first) * k / (count - 1) + 0.001 * seed}
        for cell, metrics in ends.items()
        for metric, (first, last) in zip(tasks.PANELS, metrics, strict=True)
        for seed in range(seeds)
        for k in range(count)
    ]
    return pa.Table.from_pylist(rows)


FALLING = ((0.6, 0.2), (0.2, 0.8), (40, 5), (0.1, 0.2))
HELD = ((0.6, 0.6), (0.2, 0.01), (40, 40), (0.1, 0.1))


def one_value(cell, metric, value):
    """Return a change of a table: this metric is ``value`` in every task."""
    there = {"cell": cell, "metric": metric}
    return lambda table: replaced(
        table, "value", lambda row: value if there.items() <= row.items() else row["value"]
    )


def tasks_table(cells):
    """Return a table as the experiments make it from values `[seeds, tasks]` by cell and metric."""
    rows = [
        {"task": k, "step": 9, "layer": 0, "metric": metric, "cell": cell, "seed": seed, "value": float(value)}
        for cell, metrics in cells.items()
        for metric, values in metrics.items()
        for seed, column in enumerate(values)
        for k, value in enumerate(column)
    ]
    return pa.Table.from_pylist(rows)


def moved(cell, metric, shift):
    """Return a change of a table: this metric is higher by ``shift`` in the cells whose names contain ``cell``."""

    def edit(row):
        return row["value"] + shift * (cell in row["cell"] and row["metric"] == metric)

    return lambda table: replaced(table, "value", edit)


def small_generalisation(results):
    """Return a grid with a common trend inside the settings, and nothing in common but that."""
    rng, shape = np.random.default_rng(0), (5, 15)
    trend, cells = np.linspace(-1.5, 1.5, 15), {}
    for width, decay, noise in generalisation.cells():
        learning = 0.7 - 0.2 * noise + 0.05 * trend + 0.02 * rng.normal(size=shape)
        rank, test = (trend + 4 * noise + 2 * rng.normal(size=shape) for _ in range(2))
        values = {"online_accuracy": learning, "roy_vetterli_rank_raw": 20 + rank}
        cells[generalisation.grid(width, decay, noise)] = values | {"test_accuracy": 0.9 + 0.01 * test}
        cells[generalisation.fresh(width, noise)] = {"online_accuracy": np.full(shape, 0.75)}
    for noise in generalisation.NOISES:
        bare = cells[generalisation.plain(noise)]
        for name in generalisation.HELD:
            values = {"online_accuracy": bare["online_accuracy"] + 0.1, "roy_vetterli_rank_raw": rank + 50}
            cells[f"{name}, noise {noise}"] = values
    return tasks_table(cells)


def all_small(metric):
    """Return a change of a table: in the grid this metric is what is learnt next."""

    def edit(table):
        found = generalisation.points(table)
        lags = {}
        for (width, decay, noise), lag in zip(generalisation.cells(), found.lag, strict=True):
            for seed, k in np.ndindex(lag.shape):
                lags[generalisation.grid(width, decay, noise), seed, k] = float(lag[seed, k])
        return replaced(
            table,
            "value",
            lambda row: (
                lags.get((row["cell"], row["seed"], row["task"]), 0.0) if row["metric"] == metric else row["value"]
            ),
        )

    return edit


def small_after_escape(results):
    """Return arms whose ends differ from seed to seed, those of the escapes around that of scratch."""
    ends = {
        "narrow": (0.05, 0.92, 5),
        "trapped": (0.03, 0.93, 5),
        "split": (0.003, 0.95, 6.5),
        "noise": (0.003, 0.94, 6.5),
        "scratch": (0.003, 0.96, 8),
    }
    rng, fall = np.random.default_rng(1), np.linspace(1, 0, 5)
    return tasks_table(
        {
            cell: {
                "train_loss": loss * (1 + fall) * rng.uniform(0.7, 1.4, (5, 1)),
                "test_accuracy": test - 0.1 * fall + rng.uniform(-0.01, 0.01, (5, 1)),
                "roy_vetterli_rank_raw": rank - fall + rng.uniform(-0.2, 0.2, (5, 1)),
            }
            for cell, (loss, test, rank) in ends.items()
        }
    )


def small_streams(results):
    """Return straight lines from one accuracy to another."""
    ends = {"plain": (0.8, 0.5), "layer norm": (0.9, 0.4), "l2-init": (0.8, 0.9), "fresh": (0.8, 0.8)}
    ends[streams.FRESH_NORM] = (0.9, 0.9)
    cells = {}
    for name in streams.LONG:
        for arm, (start, end) in (ends | ({"l2-init": (0.8, 0.6)} if name == "pairs" else {})).items():
            line = np.linspace(start, end, 6) + np.array([[0], [0.01]])
            cells[streams.label(name, arm)] = {"online_accuracy": line}
    for arm in (*streams.ARMS, streams.FRESH_NORM):
        cells[streams.label(streams.WARM, arm)] = {"test_accuracy": np.full((2, 2), 0.9)}
    return tasks_table(cells)


def small_language(results):
    """Return straight lines from one value to another, eleven tasks long, and fresh networks on three of them."""
    ends = {
        language.PLAIN: {"test_loss": (2.8, 3.2), "roy_vetterli_rank_raw": (17, 6)},
        language.BARE: {"test_loss": (2.8, 2.6), "roy_vetterli_rank_raw": (17, 30)},
        language.LABELS: {},
        language.DOMAINS: {"test_loss": (2.8, 2.5)},
        **{name: {"test_loss": (2.8, 2.9)} for name in language.REMEDIES},
        "shrink-perturb": {"test_loss": (2.8, 2.7)},
    }
    usual = {"test_loss": (2.8, 2.8), "roy_vetterli_rank_raw": (17, 17)}
    usual |= {"dead_fraction": (0.1, 0.1), "attention_entropy": (0.2, 0.2)}
    cells = {}
    for case, changed in ends.items():
        for cell, tasks_, given in ((case, 11, usual | changed), (language.fresh_of(case), 3, usual)):
            lines = {metric: np.linspace(*both, tasks_) for metric, both in given.items()}
            cells[cell] = {metric: line + np.array([[0], [0.01]]) for metric, line in lines.items()}
    return tasks_table(cells)


def small_agents(results):
    """Return an agent that loses what a fresh one and one that is shrunk keep; metrics are returned with noise."""
    ends = {"plain": (200, 0.6, 0.3), "shrink-perturb": (280, 0.4, 0.5), "fresh": (300, 0.3, 0.5)}
    rng = np.random.default_rng(0)
    noise = rng.uniform(0.95, 1.05, (5, 6))
    return tasks_table(
        {
            cell: {"return": value * noise, "dead_fraction": dead * noise, "policy_entropy": entropy * noise}
            for cell, (value, dead, entropy) in ends.items()
        }
    )


CASES = {
    "cloning": Case(
        cloning,
        small_cloning,
        {
            "SGD leaves": score("sgd", 0.999),
            "dropout stays": score("dropout", 1.0),
            "a score is missing": score("adam", float("nan")),
            "clone and base are swapped": swapped_networks,
            "the loss rises": lambda table: replaced(table, "value", rising),
        },
        ["gap, 1 − score", "", "loss, clone : base", "", "effective rank", ""],
    ),
    "architectures": Case(
        architectures,
        small_architectures,
        {
            "Adam leaves in the ViT": at("value", 0.999, arch="vit", regime="adam", metric="backward_score"),
            "weights leave": at("value", 1e-3, arch="resnet18", regime="sgd", metric="coset_residual"),
            "noise parts no CNN": at("value", 1.0, arch="cnn", regime="noisy-normwise", metric="forward_score"),
            "dropout parts channels": at("value", 0.9, arch="cnn", regime="dropout", layer=1),
            "the clone is no clone": at("value", 1e-3, arch="mlp", metric="function_gap"),
            "a score is missing": score("sgd", float("nan")),
            "the loss rises": lambda table: replaced(table, "value", rising),
        },
        ["gap, 1 − score", *[""] * 3, "gap, 1 − score, at the end", *[""] * 3],
    ),
    "noise_grid": Case(
        noise_grid,
        small_noise_grid,
        {
            "one noise keeps the copies": at("forward_score", 1 + 1e-9, sigma=0.01, decay=0.9),
            "one step is as good as many": at("backward_score", 0.5, decay=0.0),
            "strong noise is harmless": at("forward_score", 1 - 1e-12, sigma=0.05),
            "dropout is all or nothing": lambda table: replaced(
                table, "backward_score", lambda row: 0.9 if row["rate"] else row["backward_score"]
            ),
        },
        [r"size $\sigma_0$", r"size $\sigma_0$", "rate", "1 − score"],
    ),
    "certificate": Case(
        certificate,
        lambda results: certificate.compute("quick", results),
        {
            "a copy is missed": found_changed(copies=lambda sets: frozenset(sorted(sets)[1:])),
            "strangers are called copies": found_changed(
                copies=lambda sets: sets | {("conv1", (0, 3), (1.0, 1.0))}
            ),
            "a reason is wrong": found_changed(
                frozen=lambda s: s - {("conv2", 8, "sign")} | {("conv2", 8, "interval")}
            ),
            "a near-clone is missed": found_changed(near=lambda pairs: frozenset(sorted(pairs)[1:])),
            "a unit was dead before": found_changed("before", frozen=lambda s: s | {("linear", 3, "observed")}),
            "all are free": lambda data: dataclasses.replace(data, dimension=data.parameters),
        },
        [""],
    ),
    "certificate_cost": Case(
        certificate_cost,
        small_certificate_cost,
        {
            "a copy is missed": with_table(lambda table: replaced(table, "found", lambda row: row["found"] + 1)),
            "the cost is quadratic": with_table(
                lambda table: replaced(table, "seconds", lambda row: 1e-12 * row["size"] ** 2)
            ),
            "it takes minutes": with_table(in_column("seconds", 100.0)),
            "a time is missing": with_table(in_column("seconds", float("nan"))),
        },
        ["CPU-seconds"],
    ),
    "freed": Case(
        freed,
        lambda results: freed.measure(freed.Config(before=100, trapped=100, after=300)),
        {
            "the clone leaves its base": lambda data: dataclasses.replace(data, base=data.base * 1.001),
            "the escape changes the loss": escaped("clones", loss_after=2.0),
            "the dead are drawn into the loss": escaped("dead", loss_after=0.5),
            "nothing is gained": lambda data: dataclasses.replace(
                data, dead=dataclasses.replace(data.dead, freed=data.dead.left)
            ),
            "some stay trapped": run_changed("clones", free=(0.25, 0.9)),
            "a loss is missing": run_changed("clones", left=np.full(400, np.nan)),
        },
        ["training loss", ""],
    ),
    "quotient": Case(
        quotient,
        lambda results: quotient.measure(quotient.Config(width=16, depth=2, lr=0.3, steps=120), results),
        {
            "rescaled rates part": lambda table: replaced(
                table, "rescaled", lambda row: row["rescaled"] * (1 + 1e-8)
            ),
            "equal rates coincide": lambda table: replaced(table, "equal", lambda row: row["clone"]),
            "nothing is learnt": lambda table: in_column("rescaled", 2.0)(in_column("clone", 2.0)(table)),
            "a loss is missing": in_column("rescaled", float("nan")),
        },
        ["loss of the batch", "relative difference"],
    ),
    "partitions": Case(
        partitions,
        lambda results: partitions.compute("quick", results),
        {
            "signals differ": first(equal=False),
            "a kept block has uneven edges": first(even=False),
            "all stay": everywhere(stays=True),
            "none stays": everywhere(stays=False),
        },
        [""] * 6,
    ),
    "optimizers": Case(
        optimizers,
        lambda results: optimizers.measure(optimizers.Config(steps=30, rules=RULES), results),
        {
            "SGD leaves": of_rule("SGD", 0.1),
            "SGD drifts": of_rule("SGD", 1e-9),
            "Adam keeps scaled copies": of_rule("Adam", 1e-16),
            "AdamW parts copies": of_rule("AdamW", 0.1),
            "coupled L2 keeps all": of_rule("Adam, coupled L2", 1e-16),
            "noise stays": of_rule("SGD, gradient noise", 1e-16),
        },
        ["", ""],
    ),
    "frozen": Case(
        frozen,
        lambda results: frozen.compute("quick", results),
        {
            "never revived": lambda data: dataclasses.replace(data, revived=data.persistent),
            "revived all the same": lambda data: dataclasses.replace(data, persistent=data.revived),
            "a frozen weight moves by one bit or so": nudged,
            "a weight moves before the revival": early_move,
            "alive at the start": lambda data: run_changed("revived", z=data.revived.z + 1)(data),
            "nothing trains": lambda data: run_changed("persistent", upstream=0 * data.persistent.upstream)(data),
        },
        ["pre-activation of $v$", "", "movement of weights", ""],
    ),
    "refinement": Case(
        refinement,
        small_refinement,
        {
            "a copy is missed": with_table(lambda table: replaced(table, "found", lambda row: row["found"] + 1)),
            "the cost is quadratic": with_table(quadratic),
            "a time is missing": with_table(in_column("seconds", float("nan"))),
        },
        ["seconds"],
    ),
    "bitflip": Case(
        bitflip,
        small_bitflip,
        {
            "SGD stays below the linear learner": of_learner("sgd", "loss", 0.5),
            "SGD is bad from the start": of_learner("sgd", "loss", 9.0),
            "the escape fails": of_learner("escape", "loss", 9.0),
            "the escape re-draws more": of_learner("escape", "renewed", 1e6),
            "the rank stays": of_learner("sgd", "rank", 5.0),
            "a remedy fails where one bit flips": of_learner("cbp", "loss", 9.0, stream="flip-one"),
            "a loss is missing": of_learner("sgd", "loss", float("nan"), stream="flip-one"),
        },
        ["squared error", "", "effective rank", ""],
    ),
    "bitflip_activations": Case(
        bitflip_activations,
        small_activations,
        {
            "the error falls": of_activation("loss", -9.0),
            "no ReLU is silent": of_activation("silent", 0.0),
            "units of tanh are silent": of_activation("silent", 1.0, ["tanh"]),
            "a loss is missing": of_activation("loss", float("nan")),
        },
        ["squared error", ""],
    ),
    "rank_gain": Case(
        rank_gain,
        lambda results: rank_gain.compute("quick", results),
        {
            "one gain is below the bound": scaled("gains", "tanh", 0.99),
            "rank is lost": lambda data: scaled("bounds", "relu", 0.5)(scaled("gains", "relu", 0.6)(data)),
            "the extremal one is off": lambda data: dataclasses.replace(data, extremal=data.extremal * (1 + 1e-9)),
            "a named one is below": scaled("at_share", "relu", 0.8),
        },
        ["gain − 1", "gain"],
    ),
    "recovery": Case(
        recovery,
        lambda results: recovery.compute("quick", results),
        {
            "an eigenvalue is zero": scaled("predicted", "gelu", 1e-9),
            "samples disagree": scaled("sampled", "relu", 1.5),
            "a rank is missed": lambda data: dataclasses.replace(data, ranks=data.ranks - 1),
            "the rank was full before": lambda data: dataclasses.replace(data, before=data.before + 1),
        },
        ["eigenvalue", "rank"],
    ),
    "modulation": Case(
        modulation,
        lambda results: modulation.compute("quick", results),
        {
            "centred rank is lost": run_changed("shifts", centred=np.linspace(9, 5, len(modulation.SHIFTS))),
            "raw rank is kept": run_changed("shifts", raw=np.full(len(modulation.SHIFTS), 20.0)),
            "samples disagree": run_changed("scales", sampled=np.full(len(modulation.SCALES), 20.0)),
        },
        ["rank of order 2", ""],
    ),
    "depth": Case(
        depth,
        lambda results: depth.measure(depth.Config(width=300, runs=8)),
        {
            "one activation ends elsewhere": in_curves("raw", "gelu", end=1.0),
            "a curve turns back": in_curves("raw", "elu", flow=np.linspace(0.5, 0.95, 41)),
            "correlations do not fall": in_curves("centred", "tanh", flow=np.full(41, 0.95)),
            "the law has another constant": lambda data: dataclasses.replace(
                data, distances={name: 1.1 * distance for name, distance in data.distances.items()}
            ),
            "networks leave the recursion": in_curves("centred", "relu", flow=np.linspace(0.95, 0, 41)),
        },
        ["correlation", "", r"$1 - \rho_l$"],
    ),
    "shannon": Case(
        shannon,
        lambda results: shannon.compute("quick"),
        {
            "a gain is above its bound": gains(lambda curve: {"gain": 1.01 * curve.gain}),
            "a gain is negative": gains(lambda curve: {"gain": -curve.gain}),
            "the published form is exact": gains(
                lambda curve: {"near": dataclasses.replace(curve.near, published=curve.gain)}
            ),
            "the corrected form is not": gains(
                lambda curve: {"near": dataclasses.replace(curve.near, prediction=curve.near.published)}
            ),
        },
        ["$G$", "relative error"],
    ),
    "saturation": Case(
        saturation,
        lambda results: saturation.measure(25),
        {
            "strong units are alive": in_maps("tanh", lambda found: {"frozen": 1 - found.frozen}),
            "none is strong": in_maps("selu", lambda found: {"strength": 0 * found.strength}),
            "frozen units are strong": in_maps("sigmoid", lambda found: {"strength": found.strength + 20}),
            "gain matters for ReLU": in_maps(
                "relu", lambda found: {"strength": found.strength * np.linspace(1, 1.01, 25)}
            ),
        },
        ["ReLU\n$-b/a$", "", "SELU\n$-b/a$", "", "tanh\n$-b/a$", "", "sigmoid\n$-b/a$", "", "", ""],
    ),
    "sine": Case(
        sine,
        lambda results: sine.measure(40),
        {
            "the sine freezes": lambda data: dataclasses.replace(data, sine=data.tanh),
            "the bound is crossed": lambda data: dataclasses.replace(data, bound=data.bound / 3),
            "tanh stays alive": lambda data: dataclasses.replace(data, tanh=data.sine),
            "ReLU stays alive": lambda data: dataclasses.replace(data, relu=data.sine),
        },
        ["$f(z)$", "frozen fraction"],
    ),
    "stability": Case(
        stability,
        lambda results: stability.measure(2, (0, 30, 100), (1, 2)),
        {
            "one is stable": in_types(lambda p: {"kind": "stable"}, lambda p: p.seed == 1 and p.step == 0),
            "a live one is degenerate": in_types(
                lambda p: {"kind": "degenerate"}, lambda p: p.activation == "tanh"
            ),
            "a saddle is not certified": in_types(lambda p: {"certified": False}, lambda p: p.activation == "gelu"),
            "training does not flatten": in_types(lambda p: {"lowest": -9.0, "highest": 9.0}),
            "a solved one is a saddle": lambda data: dataclasses.replace(data, solved=(data.points[0].found,)),
            "ReLU is lopsided": in_types(lambda p: {"highest": 1.01 * p.found.highest}),
        },
        ["rate of escape", ""],
    ),
    "stochastic_stability": Case(
        stochastic_stability,
        lambda results: stochastic_stability.measure(stochastic_stability.Size(6, 60_000, 150, 4), (1, 2, 3)),
        {
            "a ReLU's clones part": lambda data: dataclasses.replace(data, measured=-data.measured),
            "the size is another": lambda data: dataclasses.replace(data, measured=2 * data.measured),
            "the scale grows": lambda data: dataclasses.replace(data, largest=data.largest + 0.1),
            "curvature has the other sign": in_problems(lambda p: {"curvature": -p.curvature}),
            "rates are unrelated": in_problems(lambda p: {"measured": np.sign(p.measured) * [1, 5, 25]}),
            "order does not matter": lambda data: dataclasses.replace(data, mixed=data.largest[0]),
            "three dimensions attract": lambda data: dataclasses.replace(data, centred=data.measured[0]),
        },
        ["rate, batch", "", "$\\lambda/\\eta^2$", "$\\lambda/\\eta^2$", "$\\lambda/\\eta$"],
    ),
    "portrait": Case(
        portrait,
        lambda results: portrait.compute("quick", results),
        {
            "it is stable": run_changed("type", kind="stable"),
            "nothing certifies the type": run_changed("type", certified=False),
            "the flow leaves the manifold": distances_changed(lambda k, d: d if k else d + 1e-6),
            "no trajectory comes closer": distances_changed(lambda k, d: np.maximum.accumulate(d)),
            "no trajectory leaves": distances_changed(lambda k, d: np.minimum.accumulate(d)),
        },
        ["shrinking direction", "distance from the manifold"],
    ),
    "escape": Case(
        escape,
        lambda results: escape.measure(12, 1500),
        {
            "all escape late": times_changed("measured", lambda size, t: np.where(t > 0, np.abs(t) ** 1.3, t)),
            "times are unrelated": times_changed(
                "predicted", lambda size, t: np.where(t > 0, 1 + np.arange(len(t)) * 97 % 1000, t)
            ),
            "large perturbations escape less often": times_changed(
                "measured",
                lambda size, t: np.where(np.arange(len(t)) % 2, t, -1) if size == max(escape.SIZES) else t,
            ),
            "small perturbations escape as often": times_changed("measured", lambda size, t: np.abs(t)),
            "noise is twice as slow": times_changed("noisy", lambda c, t: np.where(t > 0, 2 * t, t)),
            "the conventions are swapped": lambda data: dataclasses.replace(
                data, noisy={"entry": data.noisy["vector"], "vector": data.noisy["entry"]}
            ),
        },
        ["measured steps", "steps"],
    ),
    "drift": Case(
        drift,
        lambda results: drift.measure(40, 8),
        {
            "measured shares are others": course_changed("tanh", False, frozen=lambda f: 0.9 * f),
            "tanh does not freeze": course_changed("tanh", False, frozen=lambda f: f[:1] + 0 * f),
            "normalised units freeze": course_changed("tanh", True, frozen=lambda f: f + 0.3),
            "no ReLU is silent": course_changed("relu", False, frozen=lambda f: np.minimum(f, 0.9)),
            "a normalised ReLU is silent": course_changed("relu", True, frozen=lambda f: np.maximum(f, 1.0)),
            "gains stay": course_changed("tanh", False, gain=lambda a: a[:1] + 0 * a),
        },
        ["threshold $-b/a$", "frozen share", ""],
    ),
    "symptoms": Case(
        symptoms,
        lambda results: stream({"none": FALLING}),
        {
            "accuracy stays": one_value("none", "online_accuracy", 0.6),
            "units stay alive": one_value("none", "dead_fraction", 0.2),
            "the rank stays": one_value("none", "roy_vetterli_rank_raw", 40.0),
        },
        [""] * 4,
    ),
    "normalisation": Case(
        normalisation,
        lambda results: stream({cell: FALLING if cell == "none" else HELD for cell in style.NORMS}),
        {
            "batch norm does not help": one_value("batch", "online_accuracy", 0.2),
            "units die under batch norm": one_value("batch, affine", "dead_fraction", 0.5),
            "layer norm has no rank": one_value("layer", "roy_vetterli_rank_raw", 5.0),
        },
        [""] * 3,
    ),
    "remedies": Case(
        remedies,
        lambda results: stream({"none": FALLING, "fresh": HELD, "l2-init": HELD, "redo": FALLING}),
        {
            "nothing is lost": one_value("none", "online_accuracy", 0.6),
            "the tasks become harder": lambda data: stream({"none": FALLING, "fresh": ((0.9, 0.5), *HELD[1:])}),
            "no remedy reaches the fresh network": one_value("l2-init", "online_accuracy", 0.3),
        },
        [""],
    ),
    "generalisation": Case(
        generalisation,
        small_generalisation,
        {
            "rank tells everything": all_small("roy_vetterli_rank_raw"),
            "test accuracy tells everything": all_small("test_accuracy"),
            "the bonus has no rank": moved("rank bonus, noise 0.5", "roy_vetterli_rank_raw", -60),
            "layer norm has no rank": moved("layer norm, noise 0.0", "roy_vetterli_rank_raw", -60),
            "a rank is missing": moved("width", "roy_vetterli_rank_raw", float("nan")),
        },
        ["next task: accuracy minus fresh", "", ""],
    ),
    "after_escape": Case(
        after_escape,
        small_after_escape,
        {
            "the split one stays": moved("split", "train_loss", 0.1),
            "noise does nothing": moved("noise", "train_loss", 0.1),
            "escapes are better than scratch": moved("scratch", "train_loss", 0.05),
            "the split one has no rank": moved("split", "roy_vetterli_rank_raw", -1.5),
            "noise has the rank of scratch": moved("noise", "roy_vetterli_rank_raw", 1.5),
            "the trapped clone lacks nothing": moved("trapped", "test_accuracy", 0.03),
        },
        [""] * 3,
    ),
    "streams": Case(
        streams,
        small_streams,
        {
            "nothing is lost in pairs": moved("pairs: plain", "online_accuracy", 0.5),
            "layer norm cures": moved("pairs: layer norm", "online_accuracy", 0.5),
            "the pull keeps all with pairs": moved("pairs: l2-init", "online_accuracy", 0.5),
            "the warm start costs": moved("warm start: plain", "test_accuracy", -0.1),
        },
        ["accuracy while learning", *[""] * 3],
    ),
    "language": Case(
        language,
        small_language,
        {
            "layer norm loses nothing": moved("fresh, layer norm", "test_loss", 1.0),
            "no norm is worse than fresh": moved("fresh, no norm", "test_loss", -1.0),
            "domains are lost": moved("fresh, domains", "test_loss", -1.0),
            "labels alone are lost": moved("fresh, labels alone", "test_loss", -1.0),
            "the rank is kept": moved("fresh, layer norm", "roy_vetterli_rank_raw", -20.0),
            "another remedy is better": moved("shrink-perturb", "test_loss", 1.0),
        },
        [""] * 5,
    ),
    "agents": Case(
        agents,
        small_agents,
        {
            "the plain agent keeps all": moved("plain", "return", 150),
            "its units live": moved("plain", "dead_fraction", -0.4),
        },
        [""] * 3,
    ),
    "kernels": Case(
        kernels,
        lambda results: kernels.measure(3),
        {
            "a ball is wide": curve_changed(radii=lambda radii: radii + 1e-11),
            "float64 is off": curve_changed(gaps=lambda gaps: gaps + 1e-11),
            "float64 is not a number": curve_changed(gaps=lambda gaps: gaps * np.nan),
            "not 1 at 1": curve_changed(K=lambda K: K * (1 - 1e-9)),
            "beyond the diagonal": curve_changed(K=lambda K: np.sign(K) * np.abs(K) ** 0.5),
            "concave": curve_changed(K=lambda K: np.sin(np.pi * np.linspace(-1, 1, K.size) / 2)),
            "a curve is missing": lambda data: dataclasses.replace(data, curves=data.curves[1:]),
        },
        [r"$K_\phi(\rho)$", ""],
    ),
}
CASES |= {name: Case(*case) for name, case in finished_cases.CASES.items()}
CORRUPTIONS = [(name, reason) for name, case in CASES.items() for reason in case.corruptions]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return the data of a figure, computed once a module."""
    folder = tmp_path_factory.mktemp("results")
    known = {"folder": folder}

    def of(name):
        if name not in known:
            known[name] = CASES[name].data(folder)
        return known[name]

    return of


@pytest.fixture(scope="module")
def corrupted(data):
    """Return the checks of a figure on data that were made untrue, computed once a module."""

    @cache
    def of(name, reason):
        case = CASES[name]
        return case.figure.checks(case.corruptions[reason](data(name)))

    return of


def test_every_figure_has_a_case():
    assert set(CASES) == set(registry.FIGURES)


@pytest.mark.parametrize("name", CASES)
def test_the_caption_holds_and_the_figure_has_its_axes(name, data):
    figure, found = CASES[name].figure, data(name)
    registry.check(figure, found)
    assert name == figure.NAME
    with style.context():
        picture = figure.draw(found)
    assert [axis.get_ylabel() for axis in picture.axes] == CASES[name].axes
    assert picture.get_figwidth() in (style.WIDTH, style.PAGE)
    assert legibility.unexplained(picture) + legibility.two_meanings(picture) == []


@pytest.mark.parametrize("name", CASES)
def test_the_caption_consists_of_checks_and_notes(name, data):
    found = registry.caption(CASES[name].figure, data(name))
    text = " ".join(str(found).split())
    assert all(" ".join(sentence.split()) in text for sentence in (*(c.text for c in found.checks), *found.notes))
    assert found.checks
    assert len(found.checks) + len(found.notes) >= 3


@pytest.mark.parametrize(("name", "reason"), CORRUPTIONS)
def test_an_untrue_caption_is_refused(name, reason, corrupted):
    with pytest.raises(CaptionError, match=f"figure '{name}': the caption is not true"):
        captions.verify(CASES[name].figure.NAME, corrupted(name, reason))


@pytest.mark.parametrize("name", CASES)
def test_every_check_has_data_that_refute_it(name, data, corrupted):
    count = len(CASES[name].figure.checks(data(name)))
    found = [[check.holds for check in corrupted(name, reason)] for reason in CASES[name].corruptions]
    refuted = {k for holds in found if len(holds) == count for k in range(count) if not holds[k]}
    assert refuted == set(range(count))


@pytest.mark.parametrize("name", ["cloning", "quotient", "optimizers", "refinement", "bitflip"])
def test_a_finished_run_is_read_and_not_repeated(name, data, monkeypatch):
    found = data(name)
    for owner, function in (
        (e01_cloning, "run_cell"),
        (quotient, "_curves"),
        (optimizers.optimizer_table, "table"),
        (scaling, "row"),
        (bitflip, "_run"),
    ):
        monkeypatch.setattr(owner, function, lambda *_, **__: pytest.fail("computed again"))
    again = CASES[name].data(data("folder"))
    assert getattr(again, "table", again) == getattr(found, "table", found)


def test_band_has_one_row_a_seed(data):
    table = data("cloning")
    epochs, values = clones.band(table, "sgd", "clone", "train_loss")
    assert epochs.tolist() == [0, 3]
    assert values.shape == (3, 2)
    assert np.isfinite(values).all()
