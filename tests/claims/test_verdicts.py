import pytest
from hypothesis import given
from hypothesis import strategies as st

from claims.evidence import CONTROL, KINDS, OUTCOMES, Row
from claims.ledger import FIRMNESS, Claim, LedgerError, Step, verdicts

TEXT = {"title": "t", "statement": "s", "source": "extension", "version": "ours", "limits": "l", "prior": ()}


def claim(name="A", kind="theorem", uses=(), steps=(), repair=""):
    return Claim(
        name, kind=kind, uses=uses, proof=tuple(Step(step, "says") for step in steps), repair=repair, **TEXT
    )


def row(kind="property", claim="A", step=None, outcome="passed", instances=1, residual=0.0, test="t"):
    return Row(f"{test}::{claim}::{kind}", claim, kind, step, outcome, instances, residual)


def judged(*rows, claims=None, of="A"):
    return verdicts({one.id: one for one in claims or [claim()]}, rows)[of]


GOOD = (row("property"), row(CONTROL))


def test_without_evidence_a_claim_is_open():
    assert judged().verdict == "open"


def test_property_evidence_with_a_control_verifies():
    verdict = judged(row("property", instances=7, residual=1e-16), row(CONTROL))
    assert (verdict.verdict, verdict.instances, verdict.residual) == ("verified", 7, 1e-16)
    assert verdict.kinds == ("property",)
    assert verdict.reasons == ("no proof is written out",)


@pytest.mark.parametrize("kind", ["simulation", "training"])
def test_simulation_and_training_alone_leave_a_claim_open(kind):
    assert judged(row(kind), row(CONTROL)).verdict == "open"


@pytest.mark.parametrize("kind", ["symbolic", "exact", "enclosure"])
def test_a_proof_whose_steps_are_settled_exactly_proves(kind):
    rows = [row(kind, step="base", test="one"), row(kind, step="next", test="two"), row(CONTROL)]
    assert judged(*rows, claims=[claim(steps=("base", "next"))]).verdict == "proved"


def test_a_proof_whose_steps_are_all_theorems_of_coq_is_machine_proved():
    rows = [row("formal", step="base", test="one"), row("formal", step="next", test="two"), row(CONTROL)]
    verdict = judged(*rows, claims=[claim(steps=("base", "next"))])
    assert (verdict.verdict, verdict.kinds, verdict.instances) == ("machine-proved", ("formal",), 0)


def test_one_step_without_a_theorem_leaves_a_claim_proved():
    rows = [row("formal", step="base", test="one"), row("exact", step="next", test="two"), row(CONTROL)]
    verdict = judged(*rows, claims=[claim(steps=("base", "next"))])
    assert (verdict.verdict, verdict.reasons) == ("proved", ("proof step next is not machine-checked",))


@pytest.mark.parametrize(("other", "expected"), [("exact", "proved"), ("property", "verified")])
def test_theorems_settle_a_step_together_or_not_at_all(other, expected):
    rows = [row("formal", step="base", test=name, outcome=how) for name, how in (("a", "passed"), ("b", "skipped"))]
    verdict = judged(*rows, row(other, step="base", test="c"), row(CONTROL), claims=[claim(steps=("base",))])
    assert verdict.verdict == expected


def test_a_theorem_without_a_step_settles_none():
    rows = [row("formal"), row("exact", step="base"), row(CONTROL)]
    assert judged(*rows, claims=[claim(steps=("base",))]).verdict == "proved"
    assert judged(row("formal"), row(CONTROL), claims=[claim(steps=("base",))]).verdict == "verified"


@pytest.mark.parametrize(
    "lacking",
    [
        row("property", step="next"),
        row("exact", step="next", outcome="skipped"),
        row("exact", step=None),
        row("simulation", step="next"),
    ],
)
def test_one_unsettled_step_leaves_a_claim_verified(lacking):
    rows = [row("exact", step="base", test="one"), lacking, row(CONTROL)]
    verdict = judged(*rows, claims=[claim(steps=("base", "next"))])
    assert verdict.verdict == "verified"
    assert "proof step next is not settled" in verdict.reasons


def test_a_check_of_a_finite_family_settles_no_step():
    rows = [row("checked", step="base", instances=9), row(CONTROL)]
    verdict = judged(*rows, claims=[claim(steps=("base",))])
    assert (verdict.verdict, verdict.instances) == ("verified", 9)
    assert verdict.reasons == ("proof step base is checked on a finite family, and not settled",)
    assert judged(row("checked", residual=1e-17), row(CONTROL)).verdict == "failing"


@pytest.mark.parametrize(
    ("runs", "expected"), [((1, 1), "open"), ((2,), "open"), ((2, 1), "verified"), ((3,), "verified")]
)
def test_an_empirical_claim_needs_three_runs(runs, expected):
    rows = [row("training", instances=n, test=f"t{n}{k}") for k, n in enumerate(runs)]
    verdict = judged(*rows, row(CONTROL), claims=[claim(kind="empirical")])
    assert verdict.verdict == expected
    assert (f"{sum(runs)} of the 3 runs that claim A needs" in verdict.reasons) == (expected == "open")


def test_a_run_that_speaks_for_two_steps_is_one_run():
    rows = [row("training", step=step, instances=2) for step in ("base", "next")]
    verdict = judged(*rows, row(CONTROL), claims=[claim(kind="empirical", steps=("base", "next"))])
    assert (verdict.verdict, verdict.reasons[0]) == ("open", "2 of the 3 runs that claim A needs")


def test_without_a_written_proof_exact_evidence_verifies_only():
    assert judged(row("exact"), row(CONTROL)).verdict == "verified"


@pytest.mark.parametrize("control", [(), (row(CONTROL, outcome="skipped"),)])
def test_without_a_passing_control_a_claim_is_open(control):
    verdict = judged(row("property"), *control)
    assert verdict.verdict == "open"
    assert "no negative control passed" in verdict.reasons


@pytest.mark.parametrize("kind", [*KINDS, CONTROL])
def test_any_failure_among_evidence_and_controls_fails_the_claim(kind):
    verdict = judged(*GOOD, row(kind, outcome="failed", test="bad"))
    assert verdict.verdict == "failing"
    assert verdict.failing == (f"bad::A::{kind}",)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("nothing", [{"outcome": "empty"}, {"instances": 0}])
def test_a_test_that_checked_no_instance_fails_the_claim(kind, nothing):
    verdict = judged(*GOOD, row(kind, test="bad", **({"instances": 0} | nothing)))
    assert verdict.verdict == "failing"
    assert verdict.reasons == (f"bad::A::{kind} checked no instance",)


@pytest.mark.parametrize("kind", ["symbolic", "exact"])
def test_an_exact_check_with_a_residual_fails_the_claim(kind):
    assert judged(*GOOD, row(kind, residual=1e-17)).verdict == "failing"
    assert judged(*GOOD, row("enclosure", residual=1e-17)).verdict == "verified"


def test_a_control_needs_no_instances():
    assert judged(row("property"), row(CONTROL, instances=0)).verdict == "verified"


@pytest.mark.parametrize("kind", KINDS)
def test_a_skipped_test_is_no_pass(kind):
    verdict = judged(row(kind, outcome="skipped"), row(CONTROL))
    assert verdict.verdict == "open"
    assert f"t::A::{kind} was skipped" in verdict.reasons


REFUTED = row("counterexample")
REPAIRED = claim(repair="r", steps=("base",))


def test_a_counterexample_refutes():
    assert judged(REFUTED, *GOOD).verdict == "refuted"
    assert judged(REFUTED).verdict == "refuted"


def test_a_counterexample_with_a_repair_that_stands_repairs():
    verdict = judged(REFUTED, *GOOD, claims=[REPAIRED])
    assert (verdict.verdict, verdict.strength) == ("repaired", "verified")
    verdict = judged(REFUTED, row("exact", step="base"), row(CONTROL), claims=[REPAIRED])
    assert (verdict.verdict, verdict.strength) == ("repaired", "proved")


def test_a_counterexample_with_a_repair_that_nothing_supports_refutes():
    assert judged(REFUTED, row(CONTROL), claims=[REPAIRED]).verdict == "refuted"


@pytest.mark.parametrize("rows", [(), (row("counterexample", outcome="skipped"),)])
def test_a_repair_without_a_counterexample_leaves_the_claim_open(rows):
    verdict = judged(*GOOD, *rows, claims=[claim(repair="r")])
    assert verdict.verdict == "open"
    assert "no counterexample to the statement passed" in verdict.reasons[0]


def test_counterexamples_and_simulations_do_not_enter_the_numbers():
    rows = [row("counterexample", residual=9.0), row("simulation", residual=0.1), row("property", residual=1e-15)]
    verdict = judged(*rows, row(CONTROL))
    assert (verdict.instances, verdict.residual) == (1, 1e-15)


def test_of_an_empirical_claim_simulations_enter_the_numbers():
    rows = [row("counterexample", residual=9.0), row("simulation", instances=3, residual=0.1), row("symbolic")]
    verdict = judged(*rows, row(CONTROL), claims=[claim(kind="empirical")])
    assert (verdict.instances, verdict.residual) == (4, 0.1)


def test_a_test_that_settles_two_steps_counts_its_instances_once():
    rows = [row("exact", step="base", instances=5), row("exact", step="next", instances=5), row(CONTROL)]
    assert judged(*rows, claims=[claim(steps=("base", "next"))]).instances == 5


def test_definitions_and_cited_claims_have_verdicts_of_their_own():
    assert judged(claims=[claim(kind="definition")]).verdict == "definition"
    assert judged(claims=[claim(kind="cited")]).verdict == "open"
    assert judged(row("simulation"), claims=[claim(kind="cited")]).verdict == "cited"
    assert judged(row("training"), claims=[claim(kind="cited")]).verdict == "open"


PROVED = (row("exact", "B", step="base"), row(CONTROL, "B"))


@pytest.mark.parametrize(
    ("below", "rows", "expected"),
    [
        (claim(kind="definition"), (), "proved"),
        (claim(steps=("base",)), (row("formal", step="base"), row(CONTROL)), "proved"),
        (claim(kind="cited"), (row("property"),), "proved"),
        (claim(kind="cited"), (), "open"),
        (claim(), (), "open"),
        (claim(), GOOD, "verified"),
        (claim(steps=("base",)), (row("exact", step="base"), row(CONTROL)), "proved"),
        (REPAIRED, (REFUTED, row("exact", step="base"), row(CONTROL)), "proved"),
        (REPAIRED, (REFUTED, *GOOD), "verified"),
        (claim(), (REFUTED, *GOOD), "open"),
        (claim(), (row(outcome="failed"),), "failing"),
    ],
)
def test_a_claim_stands_no_firmer_than_what_it_uses(below, rows, expected):
    above = claim("B", uses=("A",), steps=("base",))
    assert judged(*rows, *PROVED, claims=[below, above], of="B").verdict == expected


@pytest.mark.parametrize(
    ("below", "rows", "expected"),
    [
        (claim(kind="definition"), (), "machine-proved"),
        (claim(steps=("base",)), (row("formal", step="base"), row(CONTROL)), "machine-proved"),
        (REPAIRED, (REFUTED, row("formal", step="base"), row(CONTROL)), "machine-proved"),
        (claim(steps=("base",)), (row("exact", step="base"), row(CONTROL)), "proved"),
        (claim(kind="cited"), (row("formal"),), "proved"),
        (claim(), GOOD, "verified"),
    ],
)
def test_a_claim_is_machine_proved_only_on_what_is_so_itself(below, rows, expected):
    above = claim("B", uses=("A",), steps=("base",))
    own = (row("formal", "B", step="base"), row(CONTROL, "B"))
    verdict = judged(*rows, *own, claims=[below, above], of="B")
    named = "cited" if below.kind == "cited" else expected
    assert verdict.verdict == expected
    assert verdict.reasons == (() if expected == "machine-proved" else (f"uses A, which is {named}",))


def test_failure_travels_along_uses():
    chain = [claim("A"), claim("B", uses=("A",)), claim("C", uses=("B",)), claim("D")]
    found = verdicts({one.id: one for one in chain}, [row(outcome="failed")])
    assert [found[name].verdict for name in "ABCD"] == ["failing", "failing", "failing", "open"]
    assert found["C"].reasons == ("uses B, which is failing",)


def test_evidence_of_an_unknown_claim_is_refused():
    with pytest.raises(LedgerError, match="is about 'A1', which the ledger does not have; near are A"):
        judged(row(claim="A1"))


NAMES = ["A0", "A1", "A2", "A3", "A4"]


@st.composite
def ledgers(draw):
    """Five claims of any kind; each uses some of those before it."""
    kinds = st.sampled_from(["theorem", "theorem", "extension", "definition", "cited"])
    steps = st.sampled_from([(), ("base",), ("base", "next")])
    claims = {}
    for name in NAMES:
        uses = tuple(draw(st.lists(st.sampled_from(list(claims)), unique=True, max_size=2))) if claims else ()
        repair = draw(st.sampled_from(["", "", "r"]))
        claims[name] = claim(name, draw(kinds), uses, draw(steps), repair)
    return claims


ROWS = st.lists(
    st.builds(
        Row,
        test=st.sampled_from(["t1", "t2", "t3"]),
        claim=st.sampled_from(NAMES),
        kind=st.sampled_from([*KINDS, CONTROL, CONTROL]),
        step=st.sampled_from([None, "base", "next"]),
        outcome=st.sampled_from(["passed"] * 12 + list(OUTCOMES)),
        instances=st.just(3),
    ),
    max_size=40,
)


def level(verdict):
    return -1 if verdict.verdict == "failing" else FIRMNESS.index(verdict.firmness)


@given(ledgers(), ROWS)
def test_law_no_claim_is_firmer_than_its_weakest_support(ledger, rows):
    found = verdicts(ledger, rows)
    for one in ledger.values():
        if one.kind not in ("definition", "cited"):
            assert all(level(found[one.id]) <= level(found[used]) for used in one.uses)


@given(ledgers(), ROWS)
def test_law_failing_means_a_fault_here_or_below(ledger, rows):
    found = verdicts(ledger, rows)
    for one in ledger.values():
        own = any(row.fault for row in rows if row.claim == one.id)
        below = any(found[used].verdict == "failing" for used in one.uses)
        assert (found[one.id].verdict == "failing") == (own or below)


@given(ledgers(), ROWS, st.randoms(use_true_random=False))
def test_law_the_order_of_rows_is_irrelevant(ledger, rows, random):
    shuffled = random.sample(rows, len(rows))
    assert {k: v.verdict for k, v in verdicts(ledger, rows).items()} == {
        k: v.verdict for k, v in verdicts(ledger, shuffled).items()
    }


@given(ledgers(), ROWS, st.sampled_from(NAMES), st.sampled_from([kind for kind in KINDS if kind != "formal"]))
def test_law_skipped_tests_change_no_verdict(ledger, rows, name, kind):
    more = [*rows, Row("new", name, kind, "base", "skipped")]
    assert {k: v.verdict for k, v in verdicts(ledger, rows).items()} == {
        k: v.verdict for k, v in verdicts(ledger, more).items()
    }


@given(ledgers(), ROWS)
def test_law_nothing_is_proved_or_verified_without_controls(ledger, rows):
    found = verdicts(ledger, [row for row in rows if row.kind != CONTROL])
    assert not {verdict.verdict for verdict in found.values()} & {
        "machine-proved",
        "proved",
        "verified",
        "repaired",
    }


@given(ledgers(), ROWS)
def test_law_a_firm_verdict_has_instances_and_no_failing_test(ledger, rows):
    for verdict in verdicts(ledger, rows).values():
        if verdict.verdict in ("machine-proved", "proved", "verified", "repaired"):
            assert verdict.instances > 0 or "formal" in verdict.kinds
            assert not verdict.failing
