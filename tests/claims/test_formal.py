from dataclasses import replace

import pytest

from claims import formal
from claims.evidence import CONTROL, EvidenceError, Row, write
from claims.formal import Formal, ProofError, audit, carried, compile_all, main, missing, stale, up_to_date
from claims.ledger import Claim, Step, verdicts
from lop import pages

needs_coq = pytest.mark.skipif(bool(missing()), reason=missing())
FIRST = """
Definition double (n : nat) := n + n.
Lemma helper n : n + 0 = n.
Proof. induction n; simpl; congruence. Qed.
"""
SECOND = """
From Lop Require Import first.
Theorem one_is_one : double 0 = 0.
Proof. reflexivity. Qed.
"""
PINNED = """What Coq prints.

(* double in first.v *)
double = fun n : nat => (n + n)%coq_nat
     : nat -> nat

(* one_is_one in second.v *)
one_is_one
     : double 0 = 0%N
"""


@pytest.fixture
def project(tmp_path):
    """A folder of proofs, with other texts where they are given."""

    def project(first=FIRST, second=SECOND, pinned=PINNED):
        (tmp_path / "_CoqProject").write_text("-Q . Lop\nfirst.v\nsecond.v\n")
        (tmp_path / "first.v").write_text(first)
        (tmp_path / "second.v").write_text(second)
        (tmp_path / "statements.txt").write_text(pinned)
        return Formal(tmp_path)

    return project


def found(proofs, build):
    compile_all(proofs, build, 60)
    return audit(proofs, build).faults("one_is_one")


@needs_coq
def test_a_proof_without_axioms_that_reads_as_pinned_has_no_fault(project, tmp_path):
    assert found(project(), tmp_path / "build") == []


@needs_coq
@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            {"second": SECOND.replace("reflexivity. Qed", "Admitted")},
            "rests on what is not proved:\nAxioms:\none_is_one",
        ),
        (
            {
                "second": SECOND.replace("reflexivity", "exact (cheat _)").replace(
                    "Theorem", "Axiom cheat : forall P, P.\nTheorem"
                )
            },
            "rests on what is not proved:\nAxioms:\ncheat",
        ),
        (
            {
                "first": FIRST.replace("induction n; simpl; congruence. Qed", "Admitted"),
                "second": SECOND.replace("reflexivity", "exact (helper 0)"),
            },
            "rests on what is not proved:\nAxioms:\nhelper",
        ),
        ({"second": SECOND.replace("double 0 = 0", "0 = double 0")}, "one_is_one reads other than pinned"),
        ({"first": FIRST.replace("n + n.", "n + 0.")}, "double reads other than pinned"),
        ({"pinned": ""}, "double reads other than pinned"),
    ],
)
def test_what_speaks_against_a_theorem_is_found(project, tmp_path, change, complaint):
    assert complaint in "\n".join(found(project(**change), tmp_path / "build"))


@needs_coq
def test_a_file_that_does_not_compile_is_named(project, tmp_path):
    with pytest.raises(ProofError, match=r"second\.v does not compile"):
        compile_all(project(second=SECOND.replace("double 0 = 0", "double 0 = 1")), tmp_path / "build")


@needs_coq
def test_a_file_has_a_time_limit(project, tmp_path):
    with pytest.raises(ProofError, match=r"second\.v takes longer than 3 seconds"):
        compile_all(
            project(second=SECOND.replace("reflexivity", "repeat pose proof I. reflexivity")), tmp_path / "b", 3
        )


@needs_coq
def test_coqchk_finds_an_axiom_and_is_content_without(project, tmp_path):
    for second, wrong in ((SECOND, False), (SECOND.replace("reflexivity. Qed", "Admitted"), True)):
        proofs = project(second=second)
        compile_all(proofs, tmp_path / "build")
        if wrong:
            with pytest.raises(ProofError, match=r"not content: Axioms"):
                formal.recheck(proofs, tmp_path / "build")
        else:
            assert "Axioms: <none>" in formal.recheck(proofs, tmp_path / "build")


def test_a_theorem_rests_on_its_file_and_on_what_that_needs(project):
    proofs = project()
    assert proofs.needed("one_is_one") == ["first.v", "second.v"]
    digest = proofs.digest("one_is_one")
    assert project(first=FIRST + "\n").digest("one_is_one") != digest
    assert project().digest("one_is_one") == digest


@pytest.mark.parametrize(
    "line", ["From Lop\n  Require Export first.", "Require Import Lop.first.", "From Lop Require first."]
)
def test_however_a_file_is_required_it_is_needed(project, line):
    proofs = project(second=SECOND.replace("From Lop Require Import first.", line))
    assert proofs.needed("one_is_one") == ["first.v", "second.v"]


@pytest.mark.parametrize(
    "line", ["  Definition d := 0.", "#[local] Definition d := 0.", "Variant d := A.", "Canonical d := nat_eqType."]
)
def test_however_a_definition_is_written_it_is_pinned(project, line):
    assert project(first=f"{FIRST}{line}\n").definitions == {"double": "first.v", "d": "first.v"}


def test_a_file_that_nothing_would_check_is_refused(project, tmp_path):
    proofs = project()
    (tmp_path / "third.v").write_text("Theorem wrong : False. Admitted.\n")
    with pytest.raises(ProofError, match=r"third\.v not listed in _CoqProject"):
        proofs.digest("one_is_one")


def test_a_listed_file_that_is_missing_is_named(project, tmp_path):
    proofs = project()
    (tmp_path / "second.v").unlink()
    with pytest.raises(ProofError, match=r"second\.v listed in _CoqProject, but not there"):
        proofs.digest("one_is_one")


def test_one_name_for_two_theorems_is_refused(project):
    with pytest.raises(ProofError, match=r"one_is_one stands in first\.v and in second\.v"):
        project(first=FIRST + "Theorem one_is_one : True.\n").theorems  # noqa: B018


def test_an_unknown_theorem_is_refused(project):
    with pytest.raises(ProofError, match="theorem 'two' is unknown; there are one_is_one"):
        project().digest("two")


def test_without_coq_nothing_is_said_to_be_proved(monkeypatch, capsys):
    monkeypatch.setattr(formal, "missing", lambda: "Coq is not installed (apt-get install coq)")
    assert main(["--no-coqchk"]) == 1
    assert "nothing is proved: Coq is not installed" in capsys.readouterr().err


# ------------------------------------------------------------------------------------ stale and committed evidence

PROVED = Row("t::proof", "A", "formal", "all", instances=1, theorem="C3_train", digest=Formal().digest("C3_train"))
STALE = replace(PROVED, digest="of other files")
OLD = replace(PROVED, theorem="gone")
NAMELESS = replace(PROVED, theorem="")
CLAIM = Claim("A", "t", "s", "extension", "ours", "theorem", "l", (), proof=(Step("all", "says"),))
EXACT = [Row("t::exact", "A", "exact", "all", instances=5), Row("t::control", "A", CONTROL)]


@pytest.mark.parametrize("row", [STALE, OLD, NAMELESS])
def test_a_claim_whose_files_changed_loses_the_word_and_says_why(tmp_path, row):
    for one, verdict in ((PROVED, "machine-proved"), (row, "proved")):
        write(tmp_path / "evidence.json", [one, *EXACT])
        assert verdicts({"A": CLAIM}, tmp_path / "evidence.json")["A"].verdict == verdict
    assert stale([row, *EXACT]) == [f"A: {formal.STALE.format(row.theorem)}"]
    [skipped] = up_to_date([row])
    assert (skipped.outcome, skipped.passed) == ("skipped", False)


def test_what_is_up_to_date_stays(tmp_path):
    assert up_to_date([PROVED, *EXACT]) == [PROVED, *EXACT]
    assert stale([PROVED, *EXACT]) == []


def test_only_a_skipped_proof_is_taken_from_the_committed_ones():
    skipped, failed = replace(PROVED, outcome="skipped", instances=0), replace(PROVED, outcome="failed")
    assert carried([skipped, *EXACT], [PROVED]) == [PROVED, *EXACT]
    assert carried([skipped], [STALE]) == [skipped]
    assert carried([failed], [PROVED]) == [failed]


@pytest.mark.parametrize("options", [{"write": True}, {"check": "evidence.json"}])
def test_stale_proofs_stop_writing_and_checking(monkeypatch, options):
    monkeypatch.setattr(pages.records_of_tests, "read", lambda *_: [replace(STALE, claim="C3")])
    with pytest.raises(ValueError, match=r"C3: the Coq files of C3_train changed"):
        pages.claims(**options)


def test_committed_proofs_are_up_to_date():
    try:
        rows = formal_rows()
    except EvidenceError as error:
        pytest.fail(str(error))
    assert stale(rows) == []
    assert {row.outcome for row in rows} == {"passed"}


def formal_rows():
    from claims.evidence import read

    return [row for row in read() if row.kind == "formal"]
