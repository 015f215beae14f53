"""What the best-known optimizers of other packages do to copies and to rows without gradient (claim C9).

They are recognised by package and class, and never imported. Lion is judged by what its step is, as torch's own
optimizers are. Of the others it is said what was measured, with the version, as in `docs/optimizers.md`;
`findings/clones_under_other_optimizers.sh` measures it again. A subclass is another rule, unless it leaves the step
of a Lion as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from torch_experiments.certificates.optimizer.sentences import Sentence, Subject, Verdict

Known = tuple[str, str]  # package and class
HEAVYBALL, PYTORCH_OPTIMIZER = "heavyball 3.2.1", "pytorch_optimizer 4.1.0"
LIONS: tuple[Known, ...] = (("pytorch_optimizer", "Lion"), ("lion_pytorch", "Lion"))
MIXING = ("use_gc", "adanorm")  # settings of pytorch_optimizer under which entries feel their row, or all others


@dataclass(frozen=True)
class Judged:
    """What a rule does to copies in a matrix and to its rows without gradient: a verdict and why.

    >>> JUDGED["heavyball", "SOAP"].clones[0]
    'left'
    """

    clones: tuple[Verdict, str]
    frozen: tuple[Verdict, str]


def _soap(version: str, apart: str, moved: str) -> Judged:
    why = "normalises rounding noise: where Σ GGᵀ and Σ GᵀG are zero it divides what rounding leaves by its size"
    seen = f"in float32 (measured with SOAP of {version})"
    return Judged(
        ("left", f"{why}; copies were up to {apart} of their layer apart after two steps {seen}"),
        ("left", f"{why}; rows without gradient moved up to {moved} as far as others in ten steps {seen}"),
    )


def _kron(version: str, name: str, apart: str, moved: str) -> Judged:
    why = "fits its preconditioner to random probes, which are others for every entry"
    seen = f"in float32 (measured with {name} of {version})"
    return Judged(
        ("left", f"{why}; copies were up to {apart} of their layer apart after 100 steps {seen}"),
        ("left", f"{why}; rows without gradient moved up to {moved} as far as others in ten steps {seen}"),
    )


STILL = "rows without gradient stayed where they were in ten steps from zero state, but its state is not read"
JUDGED: Mapping[Known, Judged] = {
    ("pytorch_optimizer", "SOAP"): _soap(PYTORCH_OPTIMIZER, "2 %", "113 %"),
    ("heavyball", "SOAP"): _soap(HEAVYBALL, "3 %", "62 %"),
    ("pytorch_optimizer", "Kron"): _kron(PYTORCH_OPTIMIZER, "Kron", "7 %", "75 %"),
    ("heavyball", "PSGDKron"): _kron(HEAVYBALL, "PSGDKron", "4 %", "33 %"),
    ("heavyball", "Muon"): Judged(
        (
            "left",
            "keeps copies in exact arithmetic, but parts them at the first step; they were up to 1 % of their "
            f"layer apart after 100 steps in float32 (measured with Muon of {HEAVYBALL})",
        ),
        ("unknown", f"{STILL} (measured with Muon of {HEAVYBALL})"),
    ),
    ("pytorch_optimizer", "Shampoo"): Judged(
        (
            "unknown",
            "keeps copies in exact arithmetic, but its roots of matrices part them at the first step, and rounding "
            f"grew a hundredfold in 100 float32 steps (measured with Shampoo of {PYTORCH_OPTIMIZER})",
        ),
        ("unknown", f"{STILL} (measured with Shampoo of {PYTORCH_OPTIMIZER})"),
    ),
}


def known_as(kind: type) -> Known:
    """Return package and name of a class.

    >>> known_as(torch.optim.SGD)
    ('torch', 'SGD')
    """
    return kind.__module__.partition(".")[0], kind.__name__


def is_lion(kind: type) -> bool:
    """Return whether a class is a Lion that is known.

    >>> is_lion(torch.optim.SGD)
    False
    """
    return known_as(kind) in LIONS


def elementwise(optimizer: Optimizer) -> bool:
    """Return whether no setting of an optimizer lets entries feel their row.

    >>> elementwise(torch.optim.SGD([torch.zeros(1)]))
    True
    """
    return not any(group.get(name) for group in optimizer.param_groups for name in MIXING)


def third_party_reasons(
    name: str, optimizer: Optimizer, parameter: Tensor, about: Sequence[Subject]
) -> Iterator[Sentence]:
    """Yield what is known of an optimizer of another package for one parameter; that it is unknown if nothing is.

    heavyball rounds bfloat16 weights at random, whatever the rule, so copies part.
    """
    kind = type(optimizer)
    judged = JUDGED.get(known_as(kind))
    for subject in about:
        if subject == "clones" and known_as(kind)[0] == "heavyball" and parameter.dtype == torch.bfloat16:
            said = f"rounds bfloat16 weights at random, each by itself (measured with AdamW and SGD of {HEAVYBALL})"
            yield Sentence(subject, "left", f"{kind.__name__}: {said}", (name,), ("C9",))
        elif judged is None:
            said = f"{kind.__name__} is no optimizer of torch.optim, or replaces the step of one"
            yield Sentence(subject, "unknown", said, (name,))
        elif parameter.ndim < 2:
            said = f"{kind.__name__}: what it does to vectors was not measured"
            yield Sentence(subject, "unknown", said, (name,))
        else:
            verdict, said = judged.clones if subject == "clones" else judged.frozen
            yield Sentence(subject, verdict, f"{kind.__name__}: {said}", (name,), ("C9",))
