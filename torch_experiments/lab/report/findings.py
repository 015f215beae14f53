"""JL25's empirical statements against the records: what they show, at which scale, or which of them are missing.

Start and end are means over an eighth of the tasks at either end (`series.edge`); a fall of accuracy has to be
`MARGIN` in every seed. Ids are those of `claims/ledger.toml`.
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
from torch_experiments.lab.models import mlp
from torch_experiments.lab.report import published, series
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

MARGIN = 0.05  # of an accuracy
SIGNIFICANT = 0.05  # p of a symptom that tells runs which lose accuracy from runs which keep it
LOST_OR_KEPT = {True: "lose", False: "keep"}
NORMS = tuple(cell for cell in e03_normalisation.configs("quick") if cell.startswith(("batch", "layer")))
LAYER = "layer, affine"
PLAIN: tuple[tuple[str, str], ...] = (
    ("mlp", "none"),
    ("mlp-medium", "none"),
    ("mlp-paper", "none"),
    ("cnn", "none"),
    ("gpu-mlp-paper", "none"),
    ("gpu-cnn-medium", "none"),
    ("gpu-resnet18", "none"),
    ("remedies", "none"),
    *(("streams", e07_streams.label(s, "plain")) for s in e07_streams.STREAMS if s != e07_streams.WARM),
    *(
        ("generalisation", e05_generalisation.grid(width, 0.0, noise))
        for width in e05_generalisation.SMALL["mlp"]
        for noise in e05_generalisation.NOISES
    ),
)  # ReLU networks without norm, remedy or decay
REDUCED = ("cnn", "vit")  # items whose networks are smaller than JL25's: they bear a statement out or do not
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
        contrary: whether they are a counterexample, in every seed, at the size of network that JL25 has.
        seeds: runs that it rests on.
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


def _highest(values: Array) -> str:
    """Return the highest mean over as many tasks as start and end have, if both are `MARGIN` below it."""
    width = series.edge(values.shape[1])
    means = np.convolve(values.mean(axis=0), np.full(width, 1 / width), "valid")
    first, top = int(means.argmax()), float(means.max())
    lower = top - max(float(series.start(values).mean()), float(series.end(values).mean())) >= MARGIN
    return f" (highest {top:.2f}, tasks {first + 1} to {first + width})" if lower else ""


def change(values: Array) -> Array:
    """Return end minus start for every seed."""
    return series.end(values) - series.start(values)


def falls(runs: Runs, cell: str) -> tuple[bool, bool, str]:
    """Return whether accuracy while learning falls by `MARGIN` in every seed, or rises, and the numbers."""
    values = runs.over(cell, ACCURACY)
    moved = change(values)
    texts = [f"accuracy while learning {ends(values)}{_highest(values)}"]
    texts += [f"dead units {ends(runs.over(cell, DEAD))}"]
    texts += [f"nearly silent units {ends(runs.over(cell, SILENT))}" if runs.has(cell, SILENT) else ""]
    texts += [f"duplicates {ends(runs.over(cell, DUPLICATE))}", f"effective rank {ends(runs.over(cell, RANK), 0)}"]
    return bool((moved <= -MARGIN).all()), bool((moved > 0).all()), ", ".join(filter(None, texts))


def _best(names: Sequence[str], folder: Path) -> str:
    """Return the first of these items with a record of the plain network, else the last."""
    there = (name for name in names if series.runs(name, folder).seeds("none"))
    return next(there, names[-1])


def _missing(name: str, folder: Path, cells: Sequence[str], metrics: Sequence[str]) -> str:
    """Return why metrics of these cells, compared seed by seed, say nothing; empty if they do."""
    runs = series.runs(name, folder)
    if lost := [cell for cell in cells if not runs.seeds(cell)]:
        return f"no record of item {name}: {'; '.join(lost)}"
    if not runs.seeds(*cells):
        return f"no record of item {name} of one seed in all of: {'; '.join(cells)}"
    if lost := [f"{metric} ({cell})" for cell in cells for metric in metrics if not _measured(runs, cell, metric)]:
        return f"item {name} has measurements that are missing or no number: {'; '.join(lost)}"
    return ""


def _measured(runs: Runs, cell: str, metric: str) -> bool:
    return runs.has(cell, metric) and bool(np.isfinite(runs.over(cell, metric)).all())


def mlp_text(folder: Path) -> Finding:
    """P1: the MLP with 500 steps a task, as the paper's text has it."""
    return _collapse("P1", "a plain MLP collapses, 500 steps a task (the text)", "mlp", folder)


def mlp_longer(folder: Path) -> Finding:
    """P2: the MLP with longer tasks, as the paper's figures have it."""
    return _collapse(
        "P2",
        "a plain MLP loses accuracy, longer tasks (the figures)",
        _best(("gpu-mlp-paper", "mlp-paper", "mlp-medium"), folder),
        folder,
    )


def _collapse(claim: str, about: str, name: str, folder: Path) -> Finding:
    if missing := _missing(name, folder, ("none",), (ACCURACY, DEAD, DUPLICATE, RANK)):
        return Finding(claim, about, missing)
    runs = series.runs(name, folder)
    fell, rose, words = falls(runs, "none")
    words = f"{words}{_beside_layer_norm(runs)}{_free(runs)} ({_seeds(runs, 'none')})"
    return Finding(claim, about, words, fell, rose, len(runs.seeds("none")))


def _free(runs: Runs) -> str:
    """Return the share of free parameters, and how little it can tell where one layer holds nearly all of them."""
    if not runs.has("none", FREE):
        return ""
    model = mlp(published.INPUTS, published.OUTPUTS)
    first = next(p.numel() for p in model.parameters()) / sum(p.numel() for p in model.parameters())
    shares = ends(runs.over("none", FREE), 3)
    return f"; parameters free by the certificate {shares}, of which the first layer holds {first:.0%}"


def _beside_layer_norm(runs: Runs) -> str:
    """Return the accuracy minus that with layer norm on the same tasks, which some find harder than others."""
    common = runs.seeds("none", LAYER) if LAYER in runs.cells else ()
    if not common or not runs.has(LAYER, ACCURACY):
        return ""
    behind = runs.over("none", ACCURACY, common) - runs.over(LAYER, ACCURACY, common)
    text = f"; accuracy minus that with layer norm on the same tasks {ends(behind)}"
    return f"{text}, a change of {with_interval(change(behind), 3)}" if len(common) > 1 else text


def cnn(folder: Path) -> Finding:
    """P3: in a plain CNN units die and the rank falls, while accuracy holds."""
    about = "in a plain CNN units die and the rank falls, accuracy holds"
    name = _best(("gpu-cnn-medium", "cnn"), folder)
    if missing := _missing(name, folder, ("none",), (ACCURACY, DEAD, DUPLICATE, RANK)):
        return Finding("P3", about, missing)
    runs = series.runs(name, folder)
    _, _, words = falls(runs, "none")
    accuracy, dead, rank = (change(runs.over("none", metric)) for metric in (ACCURACY, DEAD, RANK))
    shown = bool((dead > 0.02).all() and (rank < 0).all() and (accuracy > -MARGIN).all())
    contrary = name not in REDUCED and bool((dead <= 0).all() and (rank >= 0).all())
    return Finding("P3", about, f"{words} ({_seeds(runs, 'none')})", shown, contrary, len(dead))


def vit(folder: Path) -> Finding:
    """P4: the ViT without norm collapses, with duplicates and a small rank."""
    about = "a ViT without normalisation collapses: duplicates, rank near 1, accuracy lost"
    name = _best(("gpu-vit-medium", "gpu-vit", "vit"), folder)
    if missing := _missing(name, folder, ("none",), (ACCURACY, DEAD, DUPLICATE, LATER, RANK)):
        return Finding("P4", about, missing)
    runs = series.runs(name, folder)
    fell, rose, words = falls(runs, "none")
    later, rank = runs.over("none", LATER), runs.over("none", RANK)
    alike = bool((series.end(later) > 0.5).all() and (series.end(rank) < 0.5 * series.start(rank)).all())
    words = f"{words}, duplicates as published {ends(later)} ({_seeds(runs, 'none')})"
    return Finding("P4", about, words, fell and alike, rose and name not in REDUCED, len(rank))


def dead(folder: Path) -> Finding:
    """P5: where a plain ReLU network loses accuracy, units have died."""
    return _where_lost("P5", "units die where accuracy is lost", DEAD, lambda a, b: b > a + 0.02, 2, folder)


def rank(folder: Path) -> Finding:
    """P6: where a plain ReLU network loses accuracy, the rank has fallen."""
    return _where_lost("P6", "the rank falls where accuracy is lost", RANK, lambda a, b: b < 0.95 * a, 1, folder)


def _where_lost(
    claim: str, about: str, metric: str, holds: Callable[[float, float], bool], digits: int, folder: Path
) -> Finding:
    texts, kept, verdicts, seeds = [], [], [], 0
    moved = {
        True: [0, 0],
        False: [0, 0],
    }  # by whether accuracy was lost: runs in which the metric moved, and others
    for name, cell in PLAIN:
        runs = series.runs(name, folder)
        if not runs.seeds(cell):
            continue
        if missing := _missing(name, folder, (cell,), (ACCURACY, metric)):
            return Finding(claim, about, missing)
        accuracy, values = runs.over(cell, ACCURACY), runs.over(cell, metric)
        lost = change(accuracy) <= -MARGIN
        for fell, a, b in zip(lost.tolist(), series.start(values), series.end(values), strict=True):
            moved[fell][not holds(float(a), float(b))] += 1
        if not lost.all():
            kept.append(f"{name}: {cell}, {ends(values[~lost], digits)} ({series.counted(int((~lost).sum()))})")
        if lost.any():
            accuracy, values = accuracy[lost], values[lost]
            verdicts.append(holds(float(series.start(values).mean()), float(series.end(values).mean())))
            seeds += int(lost.sum())
            both = f"{ends(values, digits)} with accuracy {ends(accuracy)}"
            texts.append(f"{name}: {cell}, {both} ({series.counted(int(lost.sum()))})")
    if not texts:
        return Finding(claim, about, f"no record of a plain network that lost accuracy; kept: {'; '.join(kept)}")
    words = "; ".join(texts)
    words += f". Where accuracy is kept: {'; '.join(kept)}" if kept else ""
    p = float(fisher_exact([moved[True], moved[False]], alternative="greater").pvalue)
    counts = (f"{moved[fell][0]} of {sum(moved[fell])} runs that {word} it" for fell, word in LOST_OR_KEPT.items())
    words += f". So in {' and '.join(counts)} (Fisher's exact test, one-sided: p = {p:.2g})"
    return Finding(claim, about, words, all(verdicts) and p < SIGNIFICANT, not any(verdicts), seeds)


def norm_rank_mlp(folder: Path) -> Finding:
    """P7: normalisation holds the rank of an MLP."""
    about = "normalisation holds the rank of an MLP, above that without"
    return _held("P7", about, [("mlp", NORMS)], folder)


def norm_rank_others(folder: Path) -> Finding:
    """P8: layer norm holds the rank of CNN and ViT above that without."""
    places = [(name, (LAYER,)) for name in REDUCED]
    return _held("P8", "normalisation keeps the rank of CNN and ViT above that without", places, folder, None)


def _held(
    claim: str,
    about: str,
    places: Iterable[tuple[str, tuple[str, ...]]],
    folder: Path,
    share: float | None = 0.9,
) -> Finding:
    """Compare the end of the rank with that of ``none``, and with ``share`` of its own start."""
    texts, above, below, seeds = [], [], [], 0
    for name, cells in places:
        if missing := _missing(name, folder, ("none", *cells), (RANK,)):
            return Finding(claim, about, missing)
        runs = series.runs(name, folder)
        plain = runs.over("none", RANK)
        also = share is not None and bool((series.end(plain) >= share * series.start(plain)).all())
        texts.append(f"{name}: none {ends(plain, 0)}{', which holds too' if also else ''}")
        for cell in cells:
            common = runs.seeds("none", cell)
            own, bare = runs.over(cell, RANK, common), runs.over("none", RANK, common)
            kept = share is None or bool((series.end(own) >= share * series.start(own)).all())
            above.append(kept and bool((series.end(own) > series.end(bare)).all()))
            below.append(name not in REDUCED and bool((series.end(own) < series.end(bare)).all()))
            texts.append(f"{cell} {ends(own, 0)}")
            seeds += len(common)
    return Finding(claim, about, "; ".join(texts), all(above), all(below), seeds)


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
    if lost := [regime for regime in STAY + PART if not clones.seeds("mlp", regime)]:
        return Finding("P12", about, f"no record of mlp under {', '.join(lost)}")
    found = {regime: gain(clones, "mlp", regime) for regime in STAY + PART}
    if lost := [regime for regime, values in found.items() if not np.isfinite(values).all()]:
        return Finding("P12", about, f"losses that are no numbers, of mlp under {', '.join(lost)}")
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
    size = ", a reduced network" if runs.name in REDUCED else ""
    return f"item {runs.name}, {series.counted(len(runs.seeds(cell)))}, {config.tasks * config.steps:,} steps{size}"


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
}


def of(claim: str, folder: Path = items.RESULTS) -> Finding:
    """Return what the records below ``folder`` say of a claim.

    >>> of("P1", Path("nowhere")).words
    'no record of item mlp: none'
    """
    return FINDINGS[claim](folder)
