"""JL25's empirical statements against the records: what they show, at which scale, or which of them are missing.

Accuracy is lost where a network learns the last tasks worse than a fresh one (`report.lost`). Start and end are
means over an eighth of the tasks at either end (`series.edge`). Ids are those of `claims/ledger.toml`; the criteria
of those with long tasks stand in `docs/full-scale-runs.md`, and were set before their runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import fisher_exact

from theory.tolerances import float64_identity
from torch_experiments.lab.campaign import items
from torch_experiments.lab.experiments import e03_normalisation, e05_generalisation, e07_streams
from torch_experiments.lab.report import lost, published, series
from torch_experiments.lab.report.series import (
    ACCURACY,
    DEAD,
    DUPLICATE,
    FREE,
    LATER,
    RANK,
    SATURATED,
    SILENT,
    Array,
    Clones,
    Runs,
)
from torch_experiments.lab.report.tables import number, with_interval

SIGNIFICANT = 0.05  # p of a symptom that tells runs which lose accuracy from runs which keep it
NORMS = tuple(cell for cell in e03_normalisation.configs("quick") if cell.startswith(("batch", "layer")))
PLAIN, BATCH, LAYER = "none", "batch, affine", "layer, affine"
PAPER = "mlp-paper"
MLP, CNN, VIT, RESNET = "mlp-long", "cnn-long", "vit-long", "resnet18"  # items with the published length of a task
OF_SYMPTOMS: tuple[tuple[str, str], ...] = (
    *((name, PLAIN) for name in ("mlp", "mlp-medium", "mlp-paper", MLP, "cnn", CNN, RESNET, "remedies")),
    *(("streams", e07_streams.label(s, "plain")) for s in e07_streams.STREAMS if s != e07_streams.WARM),
    *(
        ("generalisation", e05_generalisation.grid(width, 0.0, noise))
        for width in e05_generalisation.SMALL["mlp"]
        for noise in e05_generalisation.NOISES
    ),
)  # ReLU networks without norm, remedy or decay
GROWN = 0.02  # of a share of dead units
COURSES: Mapping[str, tuple[str, int]] = {
    ACCURACY: ("accuracy", 2),
    DEAD: ("dead units", 2),
    SILENT: ("nearly silent units", 2),
    DUPLICATE: ("duplicates", 2),
    RANK: ("effective rank", 0),
}  # what is told of a run, and to how many digits
SYMPTOMS = (DEAD, SATURATED, DUPLICATE)
STAY, PART = ("momentum", "adam"), ("noisy-elementwise", "dropout")
APART = 0.01  # how far weights are off the coset, or a score of cloning below 1


@dataclass(frozen=True)
class Finding:
    """What the records say of a statement.

    Attributes:
        claim: its id in the ledger.
        about: the statement in short.
        words: what was found, with numbers, or which records are missing.
        shown: whether they show it; None where records are missing.
        contrary: whether they are a counterexample, in each of `lost.FEWEST` seeds or more.
        seeds: runs that it rests on; those of the place with fewest where one has fewer than `lost.FEWEST`.
    """

    claim: str
    about: str
    words: str
    shown: bool | None = None
    contrary: bool = False
    seeds: int = 0


def ends(values: Array, digits: int = 2) -> str:
    """Return ``start → end``, means over seeds."""
    return " → ".join(number(float(edge(values).mean()), digits) for edge in (series.start, series.end))


def change(values: Array) -> Array:
    """Return end minus start for every seed."""
    return series.end(values) - series.start(values)


def _contrary(answers: Array) -> bool:
    """Whether a statement is contradicted in every seed, and seeds are enough to say so."""
    return len(answers) >= lost.FEWEST and bool(answers.all())


def _courses(runs: Runs, cell: str) -> str:
    """Return start and end of accuracy and symptoms."""
    texts = (f"{name} {ends(runs.over(cell, m), d)}" for m, (name, d) in COURSES.items() if runs.has(cell, m))
    return f"start → end: {', '.join(texts)}"


def _missing(name: str, folder: Path, cells: Sequence[str], metrics: Sequence[str]) -> str:
    """Return why metrics of these cells, compared seed by seed, say nothing; empty if they do."""
    runs = series.runs(name, folder)
    if absent := [cell for cell in cells if not runs.seeds(cell)]:
        return f"no record of item {name}: {'; '.join(absent)}"
    if not runs.seeds(*cells):
        return f"no record of item {name} of one seed in all of: {'; '.join(cells)}"
    if gaps := [f"{metric} ({cell})" for cell in cells for metric in metrics if not _measured(runs, cell, metric)]:
        return f"item {name} has measurements that are missing or no number: {'; '.join(gaps)}"
    return ""


def _measured(runs: Runs, cell: str, metric: str) -> bool:
    return runs.has(cell, metric) and bool(np.isfinite(runs.over(cell, metric)).all())


def _without_control(name: str, folder: Path, cell: str, metrics: Sequence[str]) -> str:
    """Return why a cell cannot be set against its fresh networks; empty if it can."""
    fresh = series.runs(name, folder).item.control(cell) or ""
    return _missing(name, folder, (cell,), metrics) or _missing(name, folder, (cell, fresh), (ACCURACY,))


def mlp_text(folder: Path) -> Finding:
    """P1: the MLP with 500 steps a task, as the paper's text has it."""
    return _loses("P1", "a plain MLP loses plasticity, 500 steps a task (the text)", "mlp", PLAIN, folder)


def mlp_longer(folder: Path) -> Finding:
    """P2: the MLP of full size with longer tasks, as the paper's figures have it."""
    about = "a plain MLP loses plasticity, 40 tasks of 10,000 steps (the figures)"
    return _loses("P2", about, PAPER, PLAIN, folder, beside=("mlp-medium",))


def mlp_small(folder: Path) -> Finding:
    """P17: the same of smaller images and half as many tasks."""
    about = "a plain MLP loses plasticity on images of 16×16 within 20 tasks of 10,000 steps"
    return _loses("P17", about, MLP, PLAIN, folder)


def mlp_with_norm(folder: Path) -> Finding:
    """P14: the MLP of P17 with layer norm."""
    about = "with layer norm the MLP of P17 keeps its plasticity"
    return _loses("P14", about, MLP, LAYER, folder, keeps=True, beside=("mlp-medium", "mlp"))


def _loses(
    claim: str,
    about: str,
    name: str,
    cell: str,
    folder: Path,
    *,
    keeps: bool = False,
    beside: Sequence[str] = (),
) -> Finding:
    """Set a cell against fresh networks; items of other sizes or lengths are told beside it, and not judged."""
    also = "".join(f"; {_told(other, cell, folder)}" for other in beside if series.runs(other, folder).seeds(cell))
    if missing := _without_control(name, folder, cell, (ACCURACY, DEAD, DUPLICATE, RANK)):
        return Finding(claim, about, missing + also)
    runs = series.runs(name, folder)
    answers = np.array(list(lost.lost(runs, cell).values())) != keeps
    words = f"{_told(name, cell, folder)}; {_courses(runs, cell)}{_free(runs, cell)}{also}"
    return Finding(claim, about, words, bool(answers.all()), _contrary(~answers), len(answers))


def _told(name: str, cell: str, folder: Path) -> str:
    runs = series.runs(name, folder)
    return f"{_seeds(runs, cell)}: {lost.told(runs, cell)}"


def _free(runs: Runs, cell: str) -> str:
    """Return the share of free parameters."""
    if not runs.has(cell, FREE):
        return ""
    return f"; parameters free by the certificate {ends(runs.over(cell, FREE), 3)}"


def cnn(folder: Path) -> Finding:
    """P3: in a plain CNN units die and the rank falls, while accuracy holds."""
    return _symptoms_alone("P3", "in a plain CNN units die and the rank falls, accuracy is kept", CNN, folder)


def resnet(folder: Path) -> Finding:
    """P15: the same of ResNet-18."""
    about = "in ResNet-18 without norm units die and the rank falls, accuracy is kept"
    return _symptoms_alone("P15", about, RESNET, folder)


def _symptoms_alone(claim: str, about: str, name: str, folder: Path) -> Finding:
    if missing := _without_control(name, folder, PLAIN, (ACCURACY, DEAD, DUPLICATE, RANK)):
        return Finding(claim, about, missing)
    runs = series.runs(name, folder)
    chosen, gone = lost.seeds(runs, PLAIN), np.array(list(lost.lost(runs, PLAIN).values()))
    dead, rank = (change(runs.over(PLAIN, metric, chosen)) for metric in (DEAD, RANK))
    shown = bool(((dead > GROWN) & (rank < 0) & ~gone).all())
    contrary = _contrary((dead <= 0) & (rank >= 0)) or _contrary(gone)
    words = f"{_told(name, PLAIN, folder)}; {_courses(runs, PLAIN)}"
    return Finding(claim, about, words, shown, contrary, len(chosen))


def vit(folder: Path) -> Finding:
    """P4: the ViT without norm collapses, with duplicates and a small rank."""
    about = "a ViT without normalisation collapses: duplicates, a small rank, accuracy lost"
    if missing := _without_control(VIT, folder, PLAIN, (ACCURACY, DEAD, DUPLICATE, LATER, RANK)):
        return Finding("P4", about, missing)
    runs = series.runs(VIT, folder)
    chosen, gone = lost.seeds(runs, PLAIN), np.array(list(lost.lost(runs, PLAIN).values()))
    later, rank = (lost.over_last(runs, PLAIN, m, chosen, lost.last(runs, PLAIN)) for m in (LATER, RANK))
    small = rank < 0.5 * series.start(runs.over(PLAIN, RANK, chosen))
    shown, nothing = (later > 0.5) & small & gone, (later <= 0.5) & ~small & ~gone
    words = f"{_told(VIT, PLAIN, folder)}; {_courses(runs, PLAIN)}, duplicates as published "
    words += ends(runs.over(PLAIN, LATER, chosen))
    return Finding("P4", about, words, bool(shown.all()), _contrary(nothing), len(chosen))


def dead(folder: Path) -> Finding:
    """P5: where a plain ReLU network loses accuracy, units have died."""
    return _where_lost("P5", "units die where accuracy is lost", DEAD, lambda a, b: b > a + GROWN, 2, folder)


def rank(folder: Path) -> Finding:
    """P6: where a plain ReLU network loses accuracy, the rank has fallen."""
    return _where_lost("P6", "the rank falls where accuracy is lost", RANK, lambda a, b: b < 0.95 * a, 1, folder)


def _where_lost(
    claim: str, about: str, metric: str, holds: Callable[[float, float], bool], digits: int, folder: Path
) -> Finding:
    texts: dict[bool, list[str]] = {True: [], False: []}  # by whether accuracy was lost
    counts = {True: [0, 0], False: [0, 0]}  # runs in which the metric moved, and others
    settings: dict[bool, list[bool]] = {True: [], False: []}  # whether it moved in the mean: seeds of one are alike
    alone = []
    for name, cell in OF_SYMPTOMS:
        runs = series.runs(name, folder)
        if not runs.seeds(cell):
            continue
        if missing := _missing(name, folder, (cell,), (ACCURACY, metric)):
            return Finding(claim, about, missing)
        if not lost.seeds(runs, cell):
            alone.append(f"{name}: {cell}")
            continue
        found = lost.lost(runs, cell)
        for answer in (True, False):
            if chosen := [seed for seed, gone in found.items() if gone == answer]:
                values = runs.over(cell, metric, chosen)
                first, final = series.start(values), series.end(values)
                moved = sum(holds(float(a), float(b)) for a, b in zip(first, final, strict=True))
                counts[answer][0] += moved
                counts[answer][1] += len(chosen) - moved
                texts[answer].append(f"{name}: {cell}, {ends(values, digits)} ({moved} of {len(chosen)})")
                settings[answer].append(holds(float(first.mean()), float(final.mean())))
    left = f". Without a fresh network, not counted: {'; '.join(alone)}" if alone else ""
    if not settings[True]:
        return Finding(claim, about, f"no record of a plain network that lost accuracy{left}")
    split = [[sum(found), len(found) - sum(found)] for found in settings.values()]
    p = float(fisher_exact(split, alternative="greater").pvalue)
    told = {answer: f"{moved} of {moved + still} runs" for answer, (moved, still) in counts.items()}
    words = f"in {told[True]} that lose accuracy and {told[False]} that keep it, in the mean of {split[0][0]} of "
    words += (
        f"{len(settings[True])} settings against {split[1][0]} of {len(settings[False])} (Fisher's exact test of "
    )
    words += f"settings, one-sided: p = {p:.2g}). Lost: {'; '.join(texts[True])}"
    words += f". Kept: {'; '.join(texts[False])}" if texts[False] else ""
    shown = all(settings[True]) and p < SIGNIFICANT
    contrary = sum(counts[True]) >= lost.FEWEST and not any(settings[True])
    return Finding(claim, about, words + left, shown, contrary, sum(counts[True]))


def norm_rank_mlp(folder: Path) -> Finding:
    """P7: normalisation holds the rank of an MLP."""
    about = "normalisation holds the rank of an MLP, above that without"
    return _held("P7", about, [("mlp", NORMS)], folder)


def norm_rank_others(folder: Path) -> Finding:
    """P8: layer norm holds the rank of CNN and ViT above that without."""
    about = "layer norm keeps the rank of CNN and ViT above that without"
    return _held("P8", about, [(name, (LAYER,)) for name in (CNN, VIT)], folder, None)


def norm_rank_resnet(folder: Path) -> Finding:
    """P16: batch and layer norm hold the rank of ResNet-18 above that without."""
    about = "batch and layer norm keep the rank of ResNet-18 above that without"
    return _held("P16", about, [(RESNET, (BATCH, LAYER))], folder, None, items.item(RESNET).last)


def _held(
    claim: str,
    about: str,
    places: Iterable[tuple[str, tuple[str, ...]]],
    folder: Path,
    share: float | None = 0.9,
    tasks: int | None = None,
) -> Finding:
    """Compare the end of the rank with that of ``none``, and with ``share`` of its own start.

    The end is the mean over the last ``tasks``, by default that of `series.end`.
    """
    texts, above, below, seeds = [], [], [], []

    def end(values: Array) -> Array:
        return series.end(values) if tasks is None else np.asarray(values[:, -tasks:].mean(axis=1))

    for name, cells in places:
        if missing := _missing(name, folder, (PLAIN, *cells), (RANK,)):
            return Finding(claim, about, missing)
        runs = series.runs(name, folder)
        plain = runs.over(PLAIN, RANK)
        also = share is not None and bool((end(plain) >= share * series.start(plain)).all())
        texts.append(f"{name}: none {ends(plain, 0)}{', which holds too' if also else ''}")
        for cell in cells:
            common = runs.seeds(PLAIN, cell)
            own, bare = runs.over(cell, RANK, common), runs.over(PLAIN, RANK, common)
            kept = share is None or bool((end(own) >= share * series.start(own)).all())
            above.append(kept and bool((end(own) > end(bare)).all()))
            below.append(_contrary(end(own) < end(bare)))
            texts.append(f"{cell} {ends(own, 0)} ({series.counted(len(common))})")
            seeds.append(len(common))
    runs_of_it = sum(seeds) if min(seeds) >= lost.FEWEST else min(seeds)
    return Finding(claim, about, "; ".join(texts), all(above), all(below), runs_of_it)


def norm_symptoms(folder: Path) -> Finding:
    """P9: normalisation reduces dead, saturated and duplicate units, means over the tasks and common seeds."""
    about = "normalisation reduces dead, saturated and duplicate units of an MLP"
    if missing := _missing("mlp", folder, ("none", *NORMS), SYMPTOMS):
        return Finding("P9", about, missing)
    runs, texts, less = series.runs("mlp", folder), [], []
    common = runs.seeds("none", *NORMS)
    for metric in SYMPTOMS:
        means = {cell: float(runs.over(cell, metric, common).mean()) for cell in ("none", *NORMS)}
        less += [means[cell] < means["none"] for cell in NORMS]
        shares = ", ".join(f"{cell} {mean:.3f}" for cell, mean in means.items())
        texts.append(f"{metric.removesuffix('_fraction')}: {shares}")
    pairs = [[runs.over(cell, metric, common) for metric in (DEAD, SATURATED)] for cell in ("none", *NORMS)]
    same = all(np.array_equal(dead, saturated) for dead, saturated in pairs)
    words = f"{'; '.join(texts)}{'; of ReLU units the dead ones are saturated, and no others' if same else ''}"
    return Finding("P9", about, words, all(less), not any(less), len(common) * len(NORMS))


def stay(clones: Clones, arch: str, regimes: Sequence[str] = STAY) -> bool | None:
    """Return whether all clones of an architecture are exact at the end, up to rounding; None as in `_off`."""
    return _off(clones, arch, regimes, lambda residual: residual <= float64_identity())


def part(clones: Clones, arch: str, regimes: Sequence[str] = PART) -> bool | None:
    """Return whether all clones of a network are off the coset by `APART` at the end; None as in `_off`."""
    return _off(clones, arch, regimes, lambda residual: residual > APART)


def _off(clones: Clones, arch: str, regimes: Sequence[str], holds: Callable[[Array], Array]) -> bool | None:
    """Return whether all final distances from the coset are so; None if there are none, or one is no number."""
    found = [
        clones.over(arch, regime, "clone", "coset_residual")[:, -1]
        for regime in regimes
        if clones.seeds(arch, regime)
    ]
    if not found or not np.isfinite(np.concatenate(found)).all():
        return None
    return bool(holds(np.concatenate(found)).all())


def gain(clones: Clones, arch: str, regime: str) -> Array:
    """Return training loss of the clone over that of its base for every seed, as `series.ratio` has it."""
    return series.ratio(*(clones.over(arch, regime, network, "train_loss") for network in ("clone", "base")))


def clones_stay(folder: Path) -> Finding:
    """P10: clones stay exact under momentum and Adam."""
    return _of_clones("P10", "clones stay exact under SGD with momentum and Adam", STAY, stay, folder)


def clones_part(folder: Path) -> Finding:
    """P11: clones part under noise and dropout."""
    return _of_clones("P11", "clones part under gradient noise and dropout", PART, part, folder)


def _of_clones(
    claim: str,
    about: str,
    regimes: Sequence[str],
    holds: Callable[[Clones, str], bool | None],
    folder: Path,
) -> Finding:
    clones, texts, verdicts, seeds = series.clones(folder), [], [], 0
    for arch in items.CLONING.configs(""):
        for regime in regimes:
            if n := len(clones.seeds(arch, regime)):
                score, off = (
                    clones.over(arch, regime, "clone", metric)[:, -1].mean()
                    for metric in ("forward_score", "coset_residual")
                )
                texts.append(f"{arch} {regime} {score:.4f}, {off:.1g}")
                seeds += n
        if any(clones.seeds(arch, regime) for regime in regimes):
            verdicts.append(holds(clones, arch))
    if not verdicts:
        return Finding(claim, about, "no record of clones")
    words = f"score and distance from the coset at the end: {'; '.join(texts)}"
    if None in verdicts:
        return Finding(claim, about, f"{words}; a distance is no number")
    return Finding(claim, about, words, all(verdicts), not any(verdicts), seeds)


def only_noise(folder: Path) -> Finding:
    """P12: of all regimes only noise lets the MLP's clone end below its base."""
    about = "only noise makes use of the added width (read as: less training loss than the base trained on alike)"
    clones = series.clones(folder)
    if absent := [regime for regime in STAY + PART if not clones.seeds("mlp", regime)]:
        return Finding("P12", about, f"no record of mlp under {', '.join(absent)}")
    found = {regime: gain(clones, "mlp", regime) for regime in STAY + PART}
    if broken := [regime for regime, values in found.items() if not np.isfinite(values).all()]:
        return Finding("P12", about, f"losses that are no numbers, of mlp under {', '.join(broken)}")
    lower = {regime: bool((values < 1).all()) for regime, values in found.items()}
    texts = [f"{regime} {' '.join(f'{v:.2f}' for v in values)}" for regime, values in found.items()]
    words = f"MLP, loss of the clone over that of its base, a number a seed: {'; '.join(texts)}"
    theirs = published.cloning()["mlp", "dropout"]
    words += (
        f"; published with dropout, at the end: {theirs.clone_loss / theirs.base_loss:.2f}; the ledger repairs it"
    )
    contrary = lower["dropout"] and lower["noisy-elementwise"] and not any(lower[regime] for regime in STAY)
    seeds = sum(map(len, found.values()))
    return Finding("P12", about, words, lower["noisy-elementwise"] and sum(lower.values()) == 1, contrary, seeds)


def continual_backprop(folder: Path) -> Finding:
    """P13: continual backprop keeps the rank."""
    about = "continual backprop keeps the rank above that of plain training"
    if missing := _missing("remedies", folder, ("none", "cbp"), (RANK, ACCURACY)):
        return Finding("P13", about, missing)
    runs = series.runs("remedies", folder)
    limits, words = _ranks_of_cbp(runs, "cbp")
    if runs.has("cbp-mean", RANK) and runs.seeds("none", "cbp-mean"):
        words += f". With the mean second moment for what is re-drawn: {_ranks_of_cbp(runs, 'cbp-mean')[1]}"
    if limits is None:
        return Finding("P13", about, f"{words}; one seed gives no interval")
    return Finding("P13", about, words, limits[0] > 0, limits[1] < 0, len(runs.seeds("none", "cbp")))


def _ranks_of_cbp(runs: Runs, cell: str) -> tuple[tuple[float, float] | None, str]:
    """Return the interval of the gain of rank over plain training, second half of the tasks, and the numbers."""
    common = runs.seeds("none", cell)
    values = {
        metric: [series.second_half(runs.over(one, metric, common)) for one in (cell, "none")]
        for metric in (RANK, ACCURACY)
    }
    (rank, bare), (learnt, plain) = values[RANK], values[ACCURACY]
    words = (
        f"effective rank {rank.mean():.1f} against {bare.mean():.1f}, difference {with_interval(rank - bare, 1)}, "
        f"accuracy while learning {learnt.mean():.3f} against {plain.mean():.3f} ({series.counted(len(common))})"
    )
    return series.interval(rank - bare), words


def _seeds(runs: Runs, cell: str) -> str:
    config = runs.item.configs("")[cell]
    many = series.counted(len(runs.seeds(cell)))
    return f"item {runs.name} ({many}, {config.tasks} tasks of {config.steps:,} steps)"


FINDINGS: Mapping[str, Callable[[Path], Finding]] = {
    "P1": mlp_text,
    "P2": mlp_longer,
    "P3": cnn,
    "P4": vit,
    "P5": dead,
    "P6": rank,
    "P7": norm_rank_mlp,
    "P8": norm_rank_others,
    "P9": norm_symptoms,
    "P10": clones_stay,
    "P11": clones_part,
    "P12": only_noise,
    "P13": continual_backprop,
    "P14": mlp_with_norm,
    "P15": resnet,
    "P16": norm_rank_resnet,
    "P17": mlp_small,
}


def of(claim: str, folder: Path = items.RESULTS) -> Finding:
    """Return what the records below ``folder`` say of a claim.

    >>> of("P1", Path("nowhere")).words
    'no record of item mlp: none'
    """
    return FINDINGS[claim](folder)
