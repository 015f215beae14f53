"""Theorems that Coq has checked, by claim and proof step, and networks that Coq and `theory.network` agree on."""

import pytest

from claims.evidence import witness
from claims.formal import Formal, audit, compile_all, missing

BOTH = ("all-dags", "induction")
SETTLED = {  # claim: step: theorems; a step is named where the theorems say all of it, "" where they say a part
    "C1": dict.fromkeys(BOTH, ("C1_forward", "C1_preact")),
    "C2": dict.fromkeys(BOTH, ("C2_backward", "C2_gradient")),
    "C3": {
        "coset-in-RE-CE": ("C6_rows", "C6_columns"),
        "gradient-tangent": ("C3_tangent", "C3_descent"),
        "": ("C3_train", "C3_clones"),
    },
    "C4": {"independence": ("C4_dimension", "C4_span")},
    "C6": {"pattern-iff": ("C6_rows", "C6_columns"), "": ("C6_counterexample",)},
    "C7": {"identity": ("C7_forward", "C7_backward", "C7_gradient", "C7_step")},
    "C13": {"identical": ("C3_train_own",), "": ("C3_train",)},
    "F1": dict.fromkeys(("all-dags", "general"), ("F1",)),
    "F2a": {"upstream": ("F2a_tangent",), "": ("F2a_stays", "F2a_persists")},
    "F2b": {"sign": ("F2b_dead",), "": ("F2b_cone",)},
    "F3": {"": ("F2a_persists",)},
    "R1": {"entries": ("R1", "R1_entry"), "strictness": ("R1_strict", "R1_gain")},
    "R2": {"entrywise": ("R2_entry", "R2")},
    "R4": {"dominance": ("R4_bound",), "": ("R4_definite",)},
    "R8": {"stable-below-order-2": ("R8_stable",), "": ("R8_rank",)},
}
CASES = [
    pytest.param(theorem, marks=pytest.mark.claim(claim, "formal", step=step or None, theorem=theorem))
    for claim, steps in SETTLED.items()
    for step, theorems in steps.items()
    for theorem in theorems
]


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """The folder in which all files are compiled."""
    if reason := missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("formal")
    compile_all(Formal(), folder)
    return folder


@pytest.fixture(scope="session")
def found(build):
    return audit(Formal(), build)


@pytest.mark.parametrize("theorem", CASES)
def test_a_theorem_is_proved_without_axioms_and_reads_as_pinned(found, theorem):
    assert found.faults(theorem) == []
    witness()


def test_every_theorem_speaks_for_a_claim():
    assert {case.values[0] for case in CASES} == set(Formal().theorems)


def test_what_is_pinned_is_all_that_there_is(found):
    assert found.text == Formal().pins.read_text(encoding="utf-8")
