"""Theorems that Coq has checked, by claim and proof step, and networks that Coq and `theory.network` agree on."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from claims.evidence import read, witness
from claims.formal import Formal, ProofError, audit, compile_all, compile_file, missing
from tests.theory.goals import ETA, HEAD, Posed, goal
from tests.theory.strategies import clones, dags, equitable_cases, fractions, matrices
from theory.network import Network

BOTH = ("all-dags", "induction")
SETTLED = {  # claim: step: theorems; a step is named where the theorems say all of it, "" where they say a part
    "D1": {"": ("D1_derivative", "D1_tied")},
    "C1": dict.fromkeys(BOTH, ("C1_forward", "C1_preact")),
    "C2": dict.fromkeys(BOTH, ("C2_backward", "C2_gradient")) | {"": ("C2_tied",)},
    "C3": {
        "coset-in-RE-CE": ("C6_rows", "C6_columns"),
        "gradient-tangent": ("C3_tangent", "C3_descent"),
        "": ("C3_train", "C3_clones", "C3_tied"),
    },
    "C4": {"independence": ("C4_dimension", "C4_span")},
    "C5": {
        "induction": ("C1_forward", "C2_backward", "C5_rank", "C5_level", "C5_no_inner_edge"),
        "": ("C2_gradient",),
    },
    "C6": {"pattern-iff": ("C6_rows", "C6_columns"), "": ("C6_counterexample",)},
    "C7": {"identity": ("C7_forward", "C7_backward", "C7_gradient", "C7_step"), "": ("C7_momentum",)},
    "C8": {
        "induction": ("C8_forward", "C8_backward", "C8_gradient"),
        "coset": ("C8_coset", "C8_momentum"),
    },
    "C11": {
        "join": ("C11_join", "C11_coarsest", "C11_unique", "C11_blocks"),
        "refinement": ("C11_any_order", "C11_refinement"),
    },
    "C12": {"contains": ("C12_contains", "C12_linear", "C2_gradient")},
    "C13": {"identical": ("C3_train_own",), "": ("C3_train",)},
    "F1": dict.fromkeys(("all-dags", "general"), ("F1",)),
    "F2": {"": ("F2_counterexample", "F2a_tangent")},
    "F2a": {"upstream": ("F2a_tangent",), "": ("F2a_stays", "F2a_persists")},
    "F2b": {
        "sign": ("F2b_dead",),
        "update-rules": ("F1", "F2b_multiplies", "F2b_named", "F2b_cone"),
        "adam-l2": ("F2b_adam_l2",),
        "heavy-ball-l2": ("F2b_heavy_ball_recurrence", "F2b_heavy_ball_l2"),
    },
    "F2d": {
        "buffers": ("F2d_stays", "F2d_buffers", "F2d_moves"),
        "decay": ("F2d_decay", "F2b_multiplies"),
    },
    "F3": {"": ("F2a_persists",)},
    "F4": {
        "mass": ("F4_below", "F4_mass"),
        "score": ("F4_score", "F4_other"),
        "loss": ("F4_cotangent",),
        "entropy": ("F4_entropy",),
        "ratio": ("F4_ratio", "F4_below", "F4_mass"),
        "": ("F4_rate",),
    },
    "R1": {
        "entries": ("R1", "R1_entry", "R1_equality", "R1_correlations"),
        "strictness": ("R1_strict", "R1_gain", "R1_equality"),
        "minus-one": ("R1_minus_one",),
    },
    "R2": {
        "entrywise": ("R2_entry", "R2"),
        "vertex": ("R2_corners", "R2_sharp"),
        "corners": ("R2_corners",),
        "attained": ("R2_extremal", "R2_attained"),
    },
    "R3": {"": ("R3_identity",)},
    "R4": {
        "dominance": ("R4_bound",),
        "monomials": ("R4_monomials", "R4_polynomial"),
        "sphere": ("R4_sphere", "R4_one_parity"),
        "": ("R4_definite",),
    },
    "R8": {"stable-below-order-2": ("R8_stable",), "": ("R8_rank",)},
    "R9": {"entry": ("R9_entry", "R2_entry", "R9_sum"), "quotient": ("R9",), "sharper": ("R9_sharper",)},
    "R10": {"repair": ("R10_repair",), "": ("R10_counterexample",)},
    "R11": {
        "two-units": ("R11_two",),
        "sum": ("R11_sum",),
        "consequences": ("R11_kappa", "R11_gamma", "R12_monotone"),
        "": ("R11_counterexample",),
    },
    "R12": {"monotone": ("R12_monotone",)},
    "R13": {
        "classes": ("R1_correlations", "R1_equality", "R13_duplicates", "R13_classes", "R13_rank"),
        "sizes": ("R13_norm", "R13_sizes"),
        "count": ("R13_count",),
    },
    "N1": {"euler": ("N1_euler",), "descent": ("N1_descent",)},
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
    if made := os.environ.get("COMPILED_PROOFS"):  # by `make prove`, a moment ago
        return Path(made).absolute()
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


def test_committed_proofs_are_those_that_are_marked():
    """A row that was written by hand, with a theorem of another claim, has no mark."""
    marked = {(case.marks[0].args[0], case.marks[0].kwargs["step"], case.values[0]) for case in CASES}
    assert {(row.claim, row.step, row.theorem) for row in read() if row.kind == "formal"} == marked


def test_every_theorem_speaks_for_a_claim():
    assert {case.values[0] for case in CASES} == set(Formal().theorems)


def test_what_is_pinned_is_all_that_there_is(found):
    assert found.text == Formal().pins.read_text(encoding="utf-8")


# ---------------------------------------------------------------------------------- no drift between Coq and Python


NETWORKS = [30, pytest.param(210, marks=pytest.mark.slow)]  # `make prove` takes the many
small = fractions(-4, 4, 3)


@st.composite
def posed(draw, network):
    """Draw samples and derivatives of the loss, one or two, for a network of at most eight units."""
    assume(len(network.units) <= 8)
    count = draw(st.integers(1, 2))
    x = draw(matrices(len(network.inputs), count, small))
    return Posed(network, x, draw(matrices(len(network.outputs), count, small)))


@st.composite
def cases(draw, *strategies):
    """Draw a network, and, where it was drawn with one, its partition."""
    found = draw(st.one_of(strategies or (dags(max_units=6), equitable_cases(max_units=6), clones())))
    network = found if isinstance(found, Network) else found.network
    return draw(posed(network)), None if found is network else found.partition


def drawn(strategy, count, keep=lambda case: True):
    """Return that many draws, other ones under another seed of Hypothesis."""
    found = []

    @settings(max_examples=count, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(strategy)
    def collect(case):
        assume(keep(case))
        found.append(case)

    collect()
    return found


def settle(build, name, goals):
    """Let Coq settle all goals in one file."""
    path = build / f"{name}.v"
    path.write_text("\n".join([HEAD, *goals, ""]), encoding="utf-8")
    compile_file(path, 300)


@pytest.mark.parametrize("count", NETWORKS)
def test_coq_and_python_compute_the_same(build, count):
    found = drawn(cases(), count)
    goals, reduced = [], 0
    for case, partition in found:
        goals += [goal(case.agrees()), goal(case.steps())]
        if partition is not None:
            answers, statement = case.equitable(partition)
            goals += [goal(statement), goal(case.ties())]
            if all(answers):
                goals.append(goal(case.reduces(partition)))
                reduced += 1
    settle(build, f"tie{count}", goals)
    assert len(found) >= count - 10
    assert reduced >= count // 10 - 3  # of 30, drawn from any seed, there may be none


def one_off(values):
    """Return the values, the last one larger by one."""
    return [*values[:-1], values[-1] + 1]


WRONG = {
    "a gradient": lambda case, partition: case.agrees(one_off(case.gradient)),
    "a gradient of tied edges": lambda case, partition: case.ties(wrong=True),
    "a step": lambda case, partition: case.steps(2 * ETA),
    "the rates of the base network": lambda case, partition: case.reduces(partition, wrong=True),
    "an answer": lambda case, partition: case.equitable(partition)[1].replace("true true", "true false"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_number_is_not_confirmed(build, what):
    [(case, partition)] = drawn(cases(clones()), 1, lambda case: telling(*case))
    right, wrong = case.agrees(), WRONG[what](case, partition)
    settle(build, "right", [goal(right)])
    with pytest.raises(ProofError, match='has type "true = true"'):
        settle(build, "wrong", [goal(wrong)])


def telling(case, partition):
    """Whether the gradient is not zero, so that the rates of the base network show."""
    return bool((case.gradient != 0).all()) and case.reduces(partition) != case.reduces(partition, wrong=True)


def test_another_slope_at_the_kink_is_not_confirmed(build, tmp_path):
    """With slope 1 at the kink of ReLU, and else the same files, a network with a unit at its kink is refuted."""
    [(case, _)] = drawn(cases(), 1, lambda found: found[0].at_kink)
    settle(build, "kink", [goal(case.agrees())])
    for path in build.glob("*.v*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    for name in ("rationals.v", "evaluation.v"):
        text = (tmp_path / name).read_text()
        (tmp_path / name).write_text(
            text.replace("| Relu => if below 0 z then 1 else 0", "| Relu => if below z 0 then 0 else 1")
        )
        compile_file(tmp_path / name)
    with pytest.raises(ProofError, match='has type "true = true"'):
        settle(tmp_path, "kink", [goal(case.agrees())])
