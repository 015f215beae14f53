"""The results page: its text, and whether the committed one is current."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from scipy.stats import gmean

from simulate.files import replacing
from torch_experiments.lab.campaign import items
from torch_experiments.lab.report import (
    agents,
    ant,
    deck,
    findings,
    language,
    lost,
    prose,
    published,
    series,
    summary,
    symptoms,
    tables,
    values,
)
from torch_experiments.lab.report.series import Clones, Runs
from torch_experiments.lab.report.symptoms import Cell

PAGE = Path(__file__).parents[3] / "RESULTS.md"
DOCS = PAGE.parent / "docs"  # figures and their captions
SAID = dict(zip(summary.ANSWERS, ("yes", "**no, a counterexample**", "not shown", "open"), strict=True))
VERSIONS = ("python", "torch", "numpy")

INTRODUCTION = """\
# Results

Made by `lop results --write` from the records below `results/`; edits here are lost, and `lop results --check`
says whether it is current. JL25 is the paper (arXiv 2510.00304). The first page says what holds, what fails and at
which scale; the tables behind it say from what.
"""
READING = """\
## How to read the tables

JL25's numbers are read off the vector graphics of its figures. Metrics have the names of
[NOTATION.md](NOTATION.md), and P1 to P17 are claims of [claims/CLAIMS.md](claims/CLAIMS.md), where their
verdicts, scales and limits stand.

`start → end` are means over the first and last eighth of the tasks (five of 40, at least one), averaged over
seeds, with the least and largest seed in brackets where there are several. Square brackets are 95 % confidence
intervals of a difference over seeds (Student's t, few seeds). Accuracy while learning is over the classes of
the task unless it says "over all outputs", as JL25's code has it. A column "JL25" counts as that code does.
Runs on a CPU are reduced, in steps or in size: each item says how.
"""
TOLD: Mapping[str, str] = {
    "remedies": """\
Means over the second half of the tasks, best first; differences are paired by seed. `fresh` is a new network
for every task, which has lost nothing; networks with a norm are set against a fresh one with that norm.
Strengths are one setting each, tuned on nothing; intervals are not corrected for the number of remedies. `cbp`
is continual backprop, `snr` self-normalised resets, `syre` decay towards a random point, `l2-init` decay
towards the initial weights, `escape` the split of clones and new weights for dead units that keep the function
(E2), `recovery` the same when an alarm asks for it. With `-mean`, units that are drawn again get the mean of
the second moments of Adam instead of zero. Sources stand in `torch_experiments/remedies/`.""",
    "generalisation": """\
Does a network that keeps its rank, or that generalises, learn the next task better? Rank and learning both
drift over the tasks, so that a correlation within a setting may be no more than that: the last column takes a
line out of every run first. Then the rank is held up by a bonus in the loss, or by layer norm, which changes
more than the rank: where the rank is a cause, learning follows. Means over the second half of the tasks.""",
    "streams": """\
How far a network lags a fresh one, and one with layer norm a fresh one with layer norm.""",
}
LANGUAGE = """\
Character models on streams of text (`lop run e08 --profile full`, [docs/language.md](docs/language.md)), each
beside fresh networks on the same tasks: differences are those at the end of these tasks but the first, in nats a
character where they are of losses. They are paired by seed; intervals are not corrected for their number.
"""
DECK_TEXT = """\
What makes a network lose more, and what an early phase leaves behind (`lop run e10 e11`), each case beside fresh
networks with the same settings on its last tasks: behind them, ahead of them, or open, by the interval over seeds.
Intervals are not corrected for their number; the tables are under the items `amplifiers` and `transients`. Test
accuracies on digits are near 0.97, so that what an early phase costs can only be small here; `--profile text` has
the same cases on Tiny ImageNet.
"""
AGENT_TEXT = """\
Agents on streams of tasks (`lop run e09 --profile full`, robots with `--profile ant`,
[docs/reinforcement-learning.md](docs/reinforcement-learning.md)), each beside a fresh agent with the same settings.
Numbers are means over the second half of the tasks, where the return at the end of one is that of 64 whole
episodes, of robots 4. Differences are paired by seed; intervals are not corrected for their number.
"""


VALUE_TEXT = "Agents of deep Q-learning (`lop run e09-dqn --profile full`), whose replay begins anew in every task:"


class Reported(Protocol):
    """What the page reads of a module of findings."""

    FINDINGS: Mapping[str, Callable[[Path], findings.Finding]]


AGENTS: tuple[Reported, ...] = (
    agents,
    ant,
    values,
)  # whose findings stand in the section on agents, in the order of their ids
PICTURES: Mapping[str, tuple[str, str]] = {
    "mlp": (
        "tiny_normalisation",
        "The MLP on Tiny ImageNet by norm: accuracy, silent and saturated units, rank",
    ),
    "mlp-medium": ("tiny_symptoms", "Without norm on Tiny ImageNet: accuracy, dead units, rank, duplicates"),
    "remedies": ("remedy_ranking", "Remedies in order of accuracy, with intervals, and their ranks"),
    "language": ("language", "Character models on new alphabets: loss, rank, dead units, attention, all cases"),
    "agents": ("agents", "Agents on shifted observations: returns, dead units and entropy by task"),
    "cloning": ("cifar_cloning", "Score of cloning by epoch and loss of clone over base, four networks"),
}  # copies of `lop figures NAME` in docs/
BODIES: Mapping[str, Callable[[Runs], str]] = {
    "remedies": tables.ranking,
    "generalisation": tables.generalisation,
    "after-escape": tables.after_escape,
    "streams": tables.streams,
    deck.AMPLIFIERS: deck.amplifiers,
    deck.TRANSIENTS: deck.transients,
}  # of the others: start and end


def text(folder: Path = items.RESULTS) -> str:
    """Return the page for the records below ``folder``."""
    runs = {name: series.runs(name, folder) for name in items.every()}
    clones, cells = series.clones(folder), symptoms.cells(folder)
    parts = [
        INTRODUCTION,
        _findings(folder, runs, cells),
        READING,
        _statements(folder),
        _lost(list(runs.values())),
        _symptoms(cells),
        _certificates(list(runs.values())),
        f"## Beside the paper: continual training\n\n{prose.compared()}\n\n"
        f"{_folded('Every quantity', tables.beside_the_paper(runs))}\n",
        f"## Beside the paper: cloning\n\n{_of_cloning(clones)}\n",
        f"## Which defects of the public code change which conclusion\n\n{prose.defects()}\n\n"
        f"{_folded('Every choice', tables.defects(list(runs.values())))}\n",
        _deck(folder),
        *(_of_item(r) for name, r in runs.items() if name in items.ITEMS or r.environments),
        _language(folder),
        _agents(folder),
        f"## What was not run\n\n{prose.not_run(runs)}",
    ]
    return "\n".join(parts)


def _findings(folder: Path, runs: Mapping[str, Runs], cells: Sequence[Cell]) -> str:
    """Return the first page."""
    every = list(runs.values())
    found = (
        f"**{title}** ([{kind}](#{place})):\n\n{summary.answers(judges, folder)}"
        for title, kind, place, judges in (
            ("The paper's statements on training", "numbers", "the-papers-statements", findings.FINDINGS),
            ("Language", "numbers", "language", language.FINDINGS),
            ("Agents", "numbers", "agents", _by_id(AGENTS)),
            ("Amplifiers and early phases", "numbers", "amplifiers-and-early-phases", deck.FINDINGS),
        )
    )
    parts = (
        "## Findings",
        prose.findings_first(every),
        *found,
        f"**Is accuracy lost?** {summary.overturned(every)} ([numbers](#what-is-lost))",
        f"**Which symptom tells?** {summary.sentence(cells)} ([numbers](#which-symptom-tells))",
        f"**What does the certificate tell?** {summary.certificate(every)} ([numbers](#certificates))",
        f"**Time.** {summary.total(every)}",
        _folded("Core-hours of every item", summary.time(every)),
    )
    return "\n\n".join(parts) + "\n"


def _by_id(modules: Iterable[Reported]) -> dict[str, Callable[[Path], findings.Finding]]:
    every = {claim: judge for module in modules for claim, judge in module.FINDINGS.items()}
    return {claim: every[claim] for claim in sorted(every, key=lambda claim: int(claim[1:]))}


def _folded(about: str, text: str) -> str:
    """Return a text that is shown when it is asked for."""
    return f"<details><summary>{about}</summary>\n\n{text}\n\n</details>" if text else ""


def _lost(runs: list[Runs]) -> str:
    return f"## What is lost\n\n{prose.lost_or_not()}\n\n{_folded('Every cell', summary.verdicts(runs))}\n"


def _symptoms(cells: Sequence[Cell]) -> str:
    folded = _folded("Every symptom", summary.every_test(cells))
    parts = ("## Which symptom tells", prose.symptoms(), summary.telling(cells), summary.sentence(cells), folded)
    return "\n\n".join(filter(None, parts)) + "\n"


def _certificates(runs: list[Runs]) -> str:
    parts = ("## Certificates", prose.certificates(), summary.free(runs))
    return "\n\n".join(filter(None, parts)) + "\n"


def _statements(folder: Path) -> str:
    made = _rows((findings.of(claim, folder) for claim in findings.FINDINGS), "statement of JL25")
    return f"## The paper's statements\n\n{prose.statements()}\n\n{made}\n"


def _rows(found: Iterable[findings.Finding], about: str = "statement") -> str:
    """Return a row a statement: whether the records show it, and what they say."""
    rows = [(f"[{f.claim}](claims/CLAIMS.md#{f.claim.lower()})", f.about, _said(f), f.words) for f in found]
    lines = [("claim", about, "shown here", "what the records say"), ("---",) * 4, *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def _said(found: findings.Finding) -> str:
    said = SAID[summary.answer(found)]
    return said if found.shown is None or found.seeds >= lost.FEWEST else f"{said}, {series.counted(found.seeds)}"


def _deck(folder: Path) -> str:
    rows = _rows(deck.of(claim, folder) for claim in deck.FINDINGS)
    parts = ("## Amplifiers and early phases", DECK_TEXT.strip(), rows, "\n".join(deck.answers(folder)))
    return "\n\n".join(filter(None, parts)) + "\n"


def _language(folder: Path) -> str:
    rows = _rows(language.of(claim, folder) for claim in language.FINDINGS)
    runs = series.runs(language.NAME, folder)
    picture = _picture(language.NAME) if runs.environments else ""
    return f"## Language\n\n{LANGUAGE}\n{rows}\n" + (f"\n{picture}\n" if picture else "")


def _agents(folder: Path) -> str:
    rows = _rows(judge(folder) for judge in _by_id(AGENTS).values())
    done = agents.agents(folder).records
    cells = "\n".join(agents.rows(folder)) if done else "No record."
    about = _environment({place: record.environment for place, record in done.items()})
    learnt = "\n".join(values.rows(folder)) if values.values(folder).records else ""
    parts = (AGENT_TEXT, rows, cells, learnt and VALUE_TEXT, learnt, about, _picture("agents") if done else "")
    return "## Agents\n\n" + "\n\n".join(part.strip() for part in parts if part) + "\n"


# ---------------------------------------------------------------------------------------- items


def _of_item(runs: Runs) -> str:
    done, planned = len(runs.environments), len(runs.planned) * len(runs.item.seeds)
    parts = [
        f"## Item `{runs.name}`: {runs.item.about}",
        f"{_done(done, planned)} {_environment(runs.environments)}".strip(),
        _command(runs),
        f"Missing: {'; '.join(gaps)}." if (gaps := runs.missing()) and done else "",
        _body(runs) if done else "",
        _picture(runs.name) if done else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _picture(name: str) -> str:
    """Return a picture of `docs/` with its caption; nothing outside a clone, where there is no such folder."""
    figure, about = PICTURES.get(name, ("", ""))
    file = DOCS / f"{figure}.txt"
    if not file.is_file():
        return ""
    caption = file.read_text(encoding="utf-8").strip()
    return f"![{about}](docs/{figure}.png)\n\n<details><summary>Caption</summary>\n\n{caption}\n\n</details>"


def _done(done: int, planned: int) -> str:
    return (
        f"{done} of {planned} runs (cells × seeds) are finished."
        if done
        else f"**Not run yet**: 0 of {planned} runs."
    )


def _command(runs: Runs) -> str:
    if runs.item.real:
        return f"Again: `lop campaign {runs.name} --data FOLDER`, with a folder of Tiny ImageNet."
    return f"Again: `lop campaign {runs.name}`, on the embedded digits."


def _environment(found: Mapping[Any, Mapping[str, Any]]) -> str:
    """Say device, versions and hours of what was run."""
    if not found:
        return ""
    about = list(found.values())
    devices = sorted({str(e.get("device", "unknown")) for e in about})
    versions = [f"{name} {', '.join(sorted({str(e[name]) for e in about if name in e}))}" for name in VERSIONS]
    hours = summary.hours(found)
    time = f"{hours:.2g} core-hours by the clock" if hours else "time not recorded"
    return f"Device {', '.join(devices)}; {'; '.join(versions)}; {time}."


def _body(runs: Runs) -> str:
    told = prose.after_escape() if runs.name == "after-escape" else TOLD.get(runs.name, "")
    body = BODIES.get(runs.name, tables.overview)(runs)
    return "\n\n".join(filter(None, (told, _folded("Numbers", body))))


# ---------------------------------------------------------------------------------------- cloning


def _of_cloning(clones: Clones) -> str:
    done = {place: record.environment for place, record in clones.found.items()}
    parts = [
        f"{items.CLONING.about[0].upper()}{items.CLONING.about[1:]}.",
        prose.clones(clones),
        f"{_done(len(done), len(clones.planned))} {_environment(done)}".strip(),
        "Again: `lop campaign cloning --data FOLDER`, with a folder of CIFAR-10.",
        f"Missing: {'; '.join(gaps)}." if (gaps := clones.missing()) and done else "",
        _folded("Every network and regime", _clones(clones)) if done else "",
        _picture("cloning") if done else "",
    ]
    return "\n\n".join(part for part in parts if part)


def _clones(clones: Clones) -> str:
    places = dict.fromkeys((arch, regime) for arch, _, regime in clones.planned)
    rows = [_clone(clones, arch, regime) for arch, regime in places]
    head = ("network, regime", "seeds", "score published", "score here", "same direction", "loss, clone : base")
    return tables.table((*head, "published", "rank, clone : base", "published"), rows)


def _clone(clones: Clones, arch: str, regime: str) -> tuple[str, ...]:
    theirs = published.cloning().get((arch, regime))
    shown = ("–", "–", "–") if theirs is None else _published(theirs)
    seeds = clones.seeds(arch, regime)
    if not seeds:
        return f"{arch}, {regime}", "0", shown[0], "not run", "–", "–", shown[1], "–", shown[2]
    score = clones.over(arch, regime, "clone", "forward_score")[:, -1]
    rank = clones.over(arch, regime, "clone", "roy_vetterli_rank") / clones.over(
        arch, regime, "base", "roy_vetterli_rank"
    )
    same = (
        "–"
        if theirs is None
        else _yes((theirs.score < 1 - findings.APART) == bool(score.mean() < 1 - findings.APART))
    )
    gain = tables.spread(findings.gain(clones, arch, regime), 2, gmean)
    place = f"{arch}, {regime}", str(len(seeds))
    return (
        *place,
        shown[0],
        tables.spread(score, 3),
        same,
        gain,
        shown[1],
        tables.spread(rank[:, -1], 2),
        shown[2],
    )


def _published(found: published.Clones) -> tuple[str, str, str]:
    loss, rank = found.clone_loss / found.base_loss, found.clone_rank / found.base_rank
    return f"{found.score:.3f}", f"{loss:.2f}", f"{rank:.2f}"


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"


# ---------------------------------------------------------------------------------------- writing


def write(path: Path = PAGE, folder: Path = items.RESULTS) -> None:
    """Write the page at once."""
    with replacing(path) as part:
        part.write_text(text(folder), encoding="utf-8")


def current(path: Path = PAGE, folder: Path = items.RESULTS) -> bool:
    """Return whether the page is what the records give."""
    return path.is_file() and path.read_text(encoding="utf-8") == text(folder)


def main(folder: Path = items.RESULTS, *, save: bool = False, check: bool = False) -> int:
    """Print the page, write it, or check it; return the exit code."""
    if check:
        answer = current(folder=folder)
        print(
            f"{PAGE.name} is current"
            if answer
            else f"{PAGE.name} is not what the records give: lop results --write"
        )
        return 0 if answer else 1
    if save:
        write(folder=folder)
        print(f"wrote {PAGE}")
    else:
        print(text(folder))
    return 0
