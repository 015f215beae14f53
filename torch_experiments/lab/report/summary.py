"""The first page of the results: what holds, what fails and at which scale, made from findings and records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from torch_experiments.lab.report import lost, published, series, symptoms
from torch_experiments.lab.report.findings import Finding
from torch_experiments.lab.report.series import ACCURACY, DEAD, FREE, Array, Runs
from torch_experiments.lab.report.symptoms import RELATIVE, SIDES, Cell, Test
from torch_experiments.lab.report.tables import course, number, spread, table
from torch_experiments.lab.training import Config

Judges = Mapping[str, Callable[[Path], Finding]]
ANSWERS = ("Holds", "Contradicted", "Neither shown nor contradicted", "Open")
MARK = "◂"  # of a cell that start and end would judge otherwise


def answer(found: Finding) -> str:
    """Return which of `ANSWERS` a finding gives."""
    if found.shown is None or found.seeds < lost.FEWEST:
        return ANSWERS[3]
    return ANSWERS[0 if found.shown else 1 if found.contrary else 2]


def answers(judges: Judges, folder: Path) -> str:
    """Return the statements of some findings by their answers, a line an answer."""
    by: dict[str, list[str]] = {name: [] for name in ANSWERS}
    for claim, judge in judges.items():
        found = judge(folder)
        runs = f" ({found.seeds} runs)" if found.seeds > 1 else " (one run)" if found.seeds else ""
        by[answer(found)].append(f"[{claim}](claims/CLAIMS.md#{claim.lower()}) {found.about}{runs}")
    return "\n".join(f"- **{name}**: {'; '.join(lines)}." for name, lines in by.items() if lines)


# ---------------------------------------------------------------------------------------- what is lost


def verdicts(runs: Iterable[Runs]) -> str:
    """Return what is lost against a fresh network, by cell, beside what start and end would have said."""
    rows = [row for one in runs for cell in one.cells if (row := _verdict(one, cell))]
    head = ("item: cell", "seeds", "accuracy, start → end", "at the end, fresh", "behind", "lost in")
    return table((*head, "falls from its start in"), rows) if rows else "No run has a fresh network beside it."


def _verdict(runs: Runs, cell: str) -> tuple[str, ...]:
    behind = lost.behind(runs, cell)
    if not len(behind):
        return ()
    seeds = lost.seeds(runs, cell)
    values = runs.over(cell, ACCURACY, seeds)
    fell = int((series.end(values) - series.start(values) <= -lost.MARGIN).sum())
    gone = int(lost.is_lost(behind).sum())
    fresh = lost.beside(runs, cell, ACCURACY)[1]
    differ = f" {MARK}" if (gone == len(seeds)) != (fell == len(seeds)) else ""
    place = f"{runs.name}: {cell}", str(len(seeds)), course(values, 2), spread(fresh, 2), spread(behind, 3)
    return *place, f"{gone} of {len(seeds)}", f"{fell} of {len(seeds)}{differ}"


def overturned(runs: Iterable[Runs]) -> str:
    """Return in how many cells accuracy is lost or kept, and how many start and end would judge otherwise."""
    found = [row for one in runs for cell in one.cells if (row := _verdict(one, cell))]
    if not found:
        return "No run has a fresh network beside it yet."
    share = [tuple(map(int, row[-2].split(" of "))) for row in found]
    gone, kept = sum(a == b for a, b in share), sum(a == 0 for a, _ in share)
    other = [row[0] for row in found if row[-1].endswith(MARK)]
    return (
        f"Of {len(found)} cells with a fresh network beside them {gone} lose it in every seed, {kept} in none, the "
        f"others in some. A fall from the own start would have judged {len(other)} otherwise."
    )


# ---------------------------------------------------------------------------------------- symptoms


def telling(cells: Sequence[Cell]) -> str:
    """Return which symptom tells losing from keeping runs in every stream, and over all of them."""
    rows = [_stream(stream, chosen) for stream, chosen in _streams(cells).items()]
    rows.append(_stream("all streams, within each", cells))
    return table(("stream", "losing", "keeping", *SIDES), rows)


def _streams(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        found.setdefault(cell.stream, []).append(cell)
    return found


def _stream(name: str, cells: Sequence[Cell]) -> tuple[str, ...]:
    counts = (_counted([c for c in cells if c.lost == answer]) for answer in (True, False))
    return name, *counts, *(told(symptoms.tests(cells, read)) for read in SIDES.values())


def _counted(cells: Sequence[Cell]) -> str:
    return f"{sum(c.seeds for c in cells)} ({len(cells)})" if cells else "0"


def told(found: Sequence[Test]) -> str:
    """Return which symptoms tell, the best first, or the best of those that do not."""
    if not found:
        return "no contrast"
    ordered = sorted(found, key=lambda test: -test.area)
    telling = [f"{t.symptom} ({_numbers(t)})" for t in ordered if t.tells]
    return ", ".join(telling) or f"none; best {ordered[0].symptom} ({_numbers(ordered[0])})"


def _numbers(test: Test) -> str:
    return f"{test.area:.2f}, p = {test.corrected:.2g}"


def sentence(cells: Sequence[Cell]) -> str:
    """Return what all streams together say of dead units and of the symptoms that tell."""
    found = symptoms.tests(cells, SIDES["against a fresh network"])
    if not found:
        return "No records of runs that lose accuracy beside runs of the same stream that keep it."
    by = {test.symptom: test for test in found}
    telling = [t for t in sorted(found, key=lambda test: -test.area) if t.tells]
    names = ", ".join(f"{t.symptom} ({_numbers(t)})" for t in telling) or "no symptom"
    verb = "tells" if len(telling) < 2 else "tell"
    dead = by["dead units"]
    what = "tell them too" if dead.tells else "do not, after the correction"
    return (
        f"Within streams, {names} {verb} cells that lose accuracy from cells that keep it (area under the ROC "
        f"curve, corrected p); dead units {what} ({_numbers(dead)})."
    )


def every_test(cells: Sequence[Cell]) -> str:
    """Return all tests of all streams with a contrast."""
    parts = _streams(cells) | {"all streams, within each": list(cells)}
    texts = []
    for stream, chosen in parts.items():
        rows = [row for side, read in SIDES.items() for row in _tests(side, symptoms.tests(chosen, read))]
        if rows:
            head = ("symptom", "compared", "losing", "keeping", "area", "p", "corrected")
            texts.append(f"{stream}:\n\n{table(head, rows)}")
    return "\n\n".join(texts)


def _tests(side: str, found: Sequence[Test]) -> Iterable[tuple[str, ...]]:
    for test in found:
        means = (_change(test.symptom, value) for value in (test.losing, test.keeping))
        yield test.symptom, side, *means, f"{test.area:.2f}", f"{test.p:.2g}", f"{test.corrected:.2g}"


def _change(symptom: str, value: float) -> str:
    relative = any(word in symptom for word in RELATIVE)
    return f"×{np.exp(value):.2f}" if relative else number(value, 3).replace("−0.000", "0.000")


# ---------------------------------------------------------------------------------------- certificates


def alive(dead: Array, widths: Sequence[int]) -> Array:
    """Return the share of weights and biases between living units, ``[tasks]``.

    Args:
        dead: shares of dead units, ``[hidden layers, tasks]``.
        widths: of the input, the hidden layers and the output; without the input, what is behind it is counted.

    >>> alive(np.array([[0.0, 0.5]]), (2, 2, 1))
    array([1.        , 0.55555556])
    """
    ends = np.ones((1, dead.shape[1]))
    live = np.vstack([ends, 1 - dead, ends])[-len(widths) :] * np.array(widths)[:, None]
    return np.asarray(sum(n * m + m for n, m in pairwise(live)) / sum(n * m + m for n, m in pairwise(widths)))


def widths(config: Config) -> tuple[int, ...]:
    """Return the widths of an MLP on Tiny ImageNet, input and output included."""
    edge = config.size
    inputs = published.INPUTS if edge is None else 3 * edge * edge
    settings = {"width": 128, "depth": 5} | dict(config.arch_settings)
    return inputs, *[settings["width"]] * settings["depth"], published.OUTPUTS


def behind_the_input(runs: Runs, cell: str) -> Array | None:
    """Return the share of free parameters behind the input layer, ``[seeds, tasks]``, of a plain MLP.

    Records have the share of the whole network. Where it is, in every task, that of the parameters between living
    units, these give the share without the input layer; None where it is not.
    """
    config = runs.item.configs("")[cell]
    if config.arch != "mlp" or not runs.item.real or not runs.has(cell, FREE):
        return None
    shape, seeds = widths(config), runs.seeds(cell)
    dead = [runs.layers(cell, DEAD, seed) for seed in seeds]
    whole = runs.over(cell, FREE)
    same = (
        len(d) == len(shape) - 2 and np.allclose(alive(d, shape), f, atol=1e-9)
        for d, f in zip(dead, whole, strict=True)
    )
    if not all(same):
        return None
    return np.stack([alive(one, shape[1:]) for one in dead])


def free(runs: Iterable[Runs]) -> str:
    """Return the free share with and without the input layer, beside what is lost."""
    rows = []
    for one in runs:
        for cell in one.cells:
            if one.seeds(cell) and one.has(cell, FREE) and one.item.real:
                rest, gone = behind_the_input(one, cell), lost.lost(one, cell)
                what = f"{sum(gone.values())} of {len(gone)}" if gone else "no control"
                inner = "–" if rest is None else course(rest, 3)
                rows.append((f"{one.name}: {cell}", course(one.over(cell, FREE), 3), inner, what))
    return table(("item: cell", "free, whole network", "behind the input layer", "lost in"), rows) if rows else ""


def certificate(runs: Iterable[Runs]) -> str:
    """Return what the free share does and does not tell of lost accuracy."""
    shares: dict[bool, list[float]] = {True: [], False: []}
    for one in runs:
        for cell in one.cells if one.item.real else ():
            if one.has(cell, FREE):
                for seed, gone in lost.lost(one, cell).items():
                    shares[gone].append(float(series.end(one.over(cell, FREE, [seed]))[0]))
    ranges = [
        f"{_range(shares[gone])} that {what if len(shares[gone]) > 1 else f'{what}s'} accuracy"
        for gone, what in ((True, "lose"), (False, "keep"))
        if shares[gone]
    ]
    last = (
        f"At the end the free share lies {' and '.join(ranges)}."
        if ranges
        else "No record has it beside a control."
    )
    return (
        "It proves which parameters are held, the weights of units that are dead on the batch and of exact copies, "
        "and says nothing of how well the free ones learn: that a network is free is no proof that it keeps its "
        f"plasticity, and held parameters are none that it loses any. {last}"
    )


# ---------------------------------------------------------------------------------------- time


def hours(environments: Mapping[Any, Mapping[str, Any]]) -> float:
    """Return the core-hours of runs, by the clock."""
    found = (
        e["seconds"] * e.get("threads", 1) / e.get("stacked", 1) for e in environments.values() if "seconds" in e
    )
    return float(sum(found)) / 3600


def total(runs: Iterable[Runs]) -> str:
    """Return what all items took, and their controls."""
    every = {(one.name, *place): e for one in runs for place, e in one.environments.items()}
    return f"The runs on images and digits took {hours(every):.3g} core-hours by the clock, some on a busy machine."


def time(runs: Iterable[Runs]) -> str:
    """Return the core-hours of every item, those of fresh networks apart."""
    rows = []
    for one in runs:
        if one.environments:
            parts = [
                {place: e for place, e in one.environments.items() if (place[0] in one.cells) == own}
                for own in (True, False)
            ]
            rows.append((one.name, str(len(one.environments)), *(number(hours(part), 1) for part in parts)))
    return table(("item", "runs", "core-hours", "of controls"), rows)


def _range(shares: Sequence[float]) -> str:
    """Return where shares lie and of how many runs they are."""
    if len(shares) == 1:
        return f"at {shares[0]:.3f} in the one run"
    return f"from {min(shares):.3f} to {max(shares):.3f} in {len(shares)} runs"
