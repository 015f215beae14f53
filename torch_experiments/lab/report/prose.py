"""Sentences of the results page that hold facts of runs, made from their configurations and records."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence

from torch_experiments.lab.campaign import items
from torch_experiments.lab.experiments import e01_cloning, e02_symptoms, e03_normalisation
from torch_experiments.lab.models import mlp
from torch_experiments.lab.report import findings, lost, published, tables
from torch_experiments.lab.report.series import Clones, Runs
from torch_experiments.lab.training import Config
from torch_experiments.metrics.activity import NEARLY_SILENT

TIMES: Mapping[int, str] = {2: "twice", 3: "three times", 4: "four times"}
NUMBERS: Mapping[int, str] = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five"}
FEW = 2  # measurements whose mean is worth a word
SLOW = "seconds of one core (`python -m tests.bench training`)"
SIZED = ("arch_settings", "size")  # fields that make a network smaller than the published one

STATEMENTS = """\
Accuracy is *lost* where a fresh network, of the same norm, learns the last tasks better by {margin:g} or more, on
the batches that the network sees there; it is *kept* where the fresh one is ahead by less. *Behind* is that
difference, a number a seed. Yes: the records show the statement, at their scale. No: they contradict it in every
seed. Not shown: neither, by the criterion that the claim gives. Open: records are missing, or fewer than {fewest}
seeds.

Nearly silent units are silent for {silent:g} % of the samples, which JL25's code calls dead; noisy-elementwise is
its gradient noise, relative per entry; the distance from the coset tells how far weights are from those of exact
clones. The effective rank is that of Roy and Vetterli, which is never below JL25's er₂ (R8): directions can be
compared, sizes cannot."""

FIRST = """\
A network has lost plasticity where it learns a task worse than a fresh one, which is what counts as *lost* here
([full-scale runs](docs/full-scale-runs.md#what-counts-as-lost)). Statements of JL25 are about full size; what
is run here on Tiny ImageNet is {scale}, the rest small networks on digits, text and agents. A statement is
*contradicted* only where every one of at least {fewest} seeds says so, and *open* without records, or with
fewer seeds."""

LOST = """\
Behind is the accuracy while learning of a fresh network minus that of the cell, mean over the last tasks; a
cell has lost plasticity in a seed where it is {margin:g} or more. The last column counts the seeds whose
accuracy falls from their own start by as much, which is no criterion here; ◂ marks the cells of which the two
would say different things (all seeds, or not all)."""

SYMPTOMS = """\
Cells with a fresh network beside them, plain or with norms and remedies: seeds (cells) that lose accuracy, and
that keep it. A symptom tells if the area under the ROC curve is above one half, with an exact p below
{significant:g} after Holm's correction over the symptoms of its row; what is given is area and corrected p.
Seeds of a cell are alike, so cells are compared, and only within a stream. Symptoms are measured over the last
tasks against the fresh network, or at the end against the own start. Gradient norms are not recorded in these
items."""

CERTIFICATES = """\
Shares of parameters that are free, start → end. Records have that of the whole network. In a plain MLP what is
held are the parameters that enter or leave dead units, and nothing else, which its records confirm in every
task; so the share behind the input layer follows from the dead units of the layers. The input layer holds
{first:.0%} of the parameters of the MLP at its published size, which is why the share of the whole hardly
moves."""

COMPARED = """\
Without normalisation ours is the run as published where there is one (accuracy over all outputs, dead and duplicate
units as the code counts them), else the corrected one. Changes below {still:g}, of a rank below {share:g} %, count
as none. Where only a mean over the tasks is published, the direction is that against the network without
normalisation, here the corrected one of the same seeds. Published runs have full size, {seeds} seeds and, by their
code, {code:,} steps a task; the axis of their curves ends at {axis:,}, which fits neither {tasks} tasks of {text}
steps nor {tasks} of {epochs} epochs ({total:,}), so that the time of their ends is uncertain. What is not run here
is listed at the end."""

DEFECTS = """\
Networks without normalisation, trained and measured as the public code does and corrected (`--protocol`). Accuracy
over all {outputs} outputs can fall below the chance level of {chance:g} by construction, as the loss is over the
{classes} of the task; the metric batch of the code holds one class; a head that is set to zero keeps its Adam
moments, which moves the rows of past classes, never those of a new task. A choice changes a conclusion where the
direction from start to end is another one (changes below {still:g}, of a rank below {share:g} %, count as none);
the interval tells what the seeds can."""

CLONES = """\
Every hidden unit {times}; base trained for {base} epochs, then {epochs} more for base and clone; published: full
size and data, {published} epochs. Our score is the explained variance, 0 for independent units and 1 for copies;
JL25's has another normaliser, so only the direction is compared: at least {same:g}, or less. P11 looks at the
distance of the weights from the coset instead, which sees copies part before the score does. Losses are ratios over
the second half of the epochs (geometric means, over seeds too{few}), ranks (Roy and Vetterli) at the end; published
ratios are those of the ends. The published ViT under Adam did not train: its loss ends at {lost:.1f}."""

AFTER_ESCAPE = """\
A network starts with every hidden unit {times}: it stays so (trapped), the out-weights of its clones are split
without changing the function, or noise parts them; scratch has the same width, narrow half of it."""


def statements() -> str:
    """Return how the table of the paper's statements is to be read."""
    return _filled(
        STATEMENTS, silent=100 * (1 - NEARLY_SILENT), margin=lost.MARGIN, fewest=NUMBERS[lost.FEWEST]
    ).replace("\n\n", "\n")


def findings_first(runs: Iterable[Runs]) -> str:
    """Return what the first page is about, and at which scale."""
    sizes = {config.size or published.EDGE for config in _finished({one.name: one for one in runs})}
    scale = f"on images of {listed([f'{edge}×{edge}' for edge in sorted(sizes)])}" if sizes else "not run yet"
    return _filled(FIRST, scale=scale, fewest=NUMBERS[lost.FEWEST])


def lost_or_not() -> str:
    """Return how the table of what is lost is to be read."""
    return _filled(LOST, margin=lost.MARGIN)


def symptoms() -> str:
    """Return how the table of symptoms is to be read."""
    return _filled(SYMPTOMS, significant=findings.SIGNIFICANT)


def certificates() -> str:
    """Return how the shares of free parameters are to be read."""
    model = mlp(published.INPUTS, published.OUTPUTS)
    sizes = [p.numel() for p in model.parameters()]
    return _filled(CERTIFICATES, first=sizes[0] / sum(sizes))


def compared() -> str:
    """Return how our runs are set beside the published ones."""
    text, paper = (e02_symptoms.base(profile, "mlp", "") for profile in ("text", "paper"))
    return _filled(
        COMPARED,
        **_still(),
        seeds=NUMBERS[published.SEEDS],
        code=paper.steps,
        axis=published.AXIS,
        tasks=text.tasks,
        text=text.steps,
        epochs=published.EPOCHS,
        total=text.tasks * published.EPOCHS,
    )


def defects() -> str:
    """Return which choices of the public code are looked at."""
    classes = dict(e02_symptoms.base("text", "mlp", "").stream_settings)["size"]
    return _filled(DEFECTS, **_still(), outputs=published.OUTPUTS, chance=1 / classes, classes=classes)


def clones(found: Clones) -> str:
    """Return how clones were trained, and how they are set beside the published ones."""
    configs = items.CLONING.configs("")
    few = [arch for arch in configs if _measured(found, arch) == FEW]
    return _filled(
        CLONES,
        times=_only(TIMES[config.factor] for config in configs.values()),
        base=_only(str(config.base_epochs) for config in configs.values()),
        epochs=_epochs({arch: config.epochs for arch, config in configs.items()}),
        published=e01_cloning.PROFILES["full"].epochs,
        same=1 - findings.APART,
        few=f"; {NUMBERS[FEW]} measurements for {_named(few)}" if few else "",
        lost=published.cloning()["vit", "adam"].clone_loss,
    )


def after_escape() -> str:
    """Return what the arms of experiment 6 are."""
    trapped = items.item("after-escape").configs("")["trapped"]
    return _filled(AFTER_ESCAPE, times=TIMES[dict(trapped.arch_settings)["clones"]])


def not_run(runs: Mapping[str, Runs]) -> str:
    """Return, as a list, what the paper has and there is no record of, and the items for a GPU that wait."""
    lines = [*_at_full_scale(runs), *_norms(runs), *_seeds(runs), *_left_out(runs), *_waiting(runs)]
    return "".join(f"{_wrapped(f'- {line}', '  ')}\n" for line in lines)


def _at_full_scale(runs: Mapping[str, Runs]) -> Iterator[str]:
    paper = e02_symptoms.base("paper", "mlp", "")
    scale = f"{paper.steps:,} steps a task, {paper.tasks * paper.steps:,} a run, {NUMBERS[published.SEEDS]} seeds"
    yield f"JL25's runs as they are, {scale} (`--profile paper`), unless an item above says so."
    none, reduced = _of_other_sizes(runs)
    if waiting := (*none, *reduced):
        small = f"{_named(reduced)} at full width on images of 64×64" if reduced else ""
        which = ", and ".join(filter(None, (_named(none), small)))
        again = f"lop run e02 --arch {waiting[0]} --profile paper --device cuda --data FOLDER"
        yield f"{which}: a training step takes {SLOW}, so that they wait for a GPU: `{again}`."


def _of_other_sizes(runs: Mapping[str, Runs]) -> tuple[list[str], list[str]]:
    """Return the published networks of which there is no record, and those of which only reduced ones are there."""
    reduced: dict[str, set[bool]] = {arch: set() for arch, _, _ in published.streams()}
    for config in _finished(runs):
        reduced[config.arch].add(any(getattr(config, field) for field in SIZED))
    return [a for a, found in reduced.items() if not found], [a for a, found in reduced.items() if found == {True}]


def _named(archs: Iterable[str]) -> str:
    return listed([published.NAMES[arch] for arch in archs])


def _finished(runs: Mapping[str, Runs]) -> Iterator[Config]:
    """Yield the configurations on Tiny ImageNet of which there is a finished run."""
    for one in runs.values():
        cells = one.item.configs("") if one.item.real else {}
        yield from (config for cell, config in cells.items() if one.seeds(cell))


def _norms(runs: Mapping[str, Runs]) -> Iterator[str]:
    """Yield, by network, the cells of experiment 3 of which there is no record."""
    there = {(config.arch, config.norm, config.affine, config.dropout) for config in _finished(runs)}
    lost: dict[tuple[str, ...], list[str]] = {}
    for arch in sorted({arch for arch, *_ in there}):
        every = e03_normalisation.configs("text", arch, "").items()
        cells = tuple(label for label, c in every if (arch, c.norm, c.affine, c.dropout) not in there)
        lost.setdefault(cells, []).append(arch)
    for cells, archs in lost.items():
        if cells:
            yield f"The cells {listed([f'`{cell}`' for cell in cells])} of {_named(archs)}."


def _seeds(runs: Mapping[str, Runs]) -> Iterator[str]:
    single = [f"`{name}`" for name, one in runs.items() if one.environments and len(one.item.seeds) == 1]
    if single:
        yield f"More than one seed of the items {listed(single)}."


def _left_out(runs: Mapping[str, Runs]) -> Iterator[str]:
    """Yield what no item has."""
    epochs, grids = e01_cloning.PROFILES["full"].epochs, "JL25's grids of noise, dropout and rates on images"
    if all(config.epochs < epochs for config in items.CLONING.configs("").values()):
        yield f"Cloned networks for {epochs} epochs on all of CIFAR-10, and {grids}."
    real = (config for one in runs.values() if one.item.real for config in one.item.configs("").values())
    if all(config.remedy == "none" for config in real):
        yield "Remedies on Tiny ImageNet, and any tuning of their strengths."


def _waiting(runs: Mapping[str, Runs]) -> Iterator[str]:
    for name, one in runs.items():
        if name not in items.ITEMS and not one.environments:
            yield f"Item `{name}`, for a GPU: {one.item.about}, {len(one.item.seeds)} seeds."


def _still() -> dict[str, float]:
    return {"still": tables.STILL, "share": 100 * tables.STILL}


def _epochs(found: Mapping[str, int]) -> str:
    """Return the numbers of epochs with the networks that they are of; the last for all others."""
    *first, last = dict.fromkeys(found.values())
    return listed([*(f"{n} ({_named(a for a in found if found[a] == n)})" for n in first), str(last)], "or")


def _measured(found: Clones, arch: str) -> int:
    """Return how many epochs the mean of a loss is over; 0 without records."""
    regime = next((regime for a, _, regime in found.found if a == arch), None)
    if regime is None:
        return 0
    epochs = found.over(arch, regime, "base", "train_loss").shape[1]
    return epochs - epochs // 2


def _only(texts: Iterable[str]) -> str:
    """Return what all networks share, or all of it where they differ."""
    return listed(list(dict.fromkeys(texts)), "or")


def listed(names: Sequence[str], last: str = "and") -> str:
    """Return names as a list in words.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return f" {last} ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def _filled(template: str, **facts: object) -> str:
    """Return the paragraphs of a template with its facts, in lines of 112."""
    return "\n\n".join(_wrapped(part) for part in template.format(**facts).split("\n\n"))


def _wrapped(text: str, indent: str = "") -> str:
    wrapper = textwrap.TextWrapper(112, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)
    return wrapper.fill(" ".join(text.split()))
