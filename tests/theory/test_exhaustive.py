"""Proof by exhaustion: every DAG with up to five units and every partition, weights and activations left free."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from typing import Any

import pytest
import sympy

from claims.evidence import witness
from theory import exhaustive as ex

UNITS = (2, 3, 4, 5)


@dataclass(frozen=True)
class Facts:
    """What was found of one case, and how many cases it stands for."""

    cases: int
    activations_agree: bool
    errors_agree: bool
    gradients_agree: bool
    equitable_pattern: bool
    coset_equitable: bool
    irregular: bool
    independent: bool


def facts_of(case: ex.Case, cases: int = 1, **drop: bool) -> Facts:
    evaluation = ex.evaluate(case, ex.equitable_basis(case, **drop))
    return Facts(
        cases,
        ex.clones_agree(evaluation.trace.h[:, 0], case.labels),
        ex.clones_agree(evaluation.delta[:, 0], case.labels),
        ex.clones_agree(evaluation.gradient, case.pairs),
        ex.is_pattern_equitable(case),
        ex.coset_stays_equitable(case),
        ex.spans_depths(case) or ex.has_inner_edge(case),
        ex.coset_dimension(case) == len(set(case.pairs)),
    )


def connected_cases(units: int) -> Iterator[tuple[ex.Case, int]]:
    return ((case, cases) for case, cases in ex.widest_cases(units) if case.graph.edges)


def total(found: Iterable[Any]) -> int:
    return sum(one.cases for one in found)


@cache
def all_facts() -> tuple[Facts, ...]:
    return tuple(facts_of(*pair) for units in UNITS for pair in connected_cases(units)) + block_facts()


@cache
def block_facts() -> tuple[Facts, ...]:
    return tuple(facts_of(case) for case in ex.block_to_block_cases())


@pytest.mark.claim("C1", "symbolic", step="all-dags")
def test_row_equitable_weights_give_equal_activations_on_every_small_dag():
    """On the general solution of RE, columns left free."""
    for case, cases in (pair for units in UNITS for pair in connected_cases(units)):
        assert ex.clones_agree(ex.activations(case, ex.equitable_basis(case, columns=False)), case.labels)
        witness(instances=cases)


@pytest.mark.claim("C2", "symbolic", step="all-dags")
def test_equitable_weights_give_equal_errors_and_block_constant_gradients_on_every_small_dag():
    assert all(facts.errors_agree and facts.gradients_agree for facts in all_facts())
    witness(instances=total(all_facts()))


@pytest.mark.claim("C5", "symbolic", step="all-dags")
def test_blocks_that_span_depths_or_hold_edges_are_no_exception():
    irregular = [facts for facts in all_facts() if facts.irregular]
    assert all(f.activations_agree and f.errors_agree and f.gradients_agree for f in irregular)
    witness(instances=total(irregular))


@pytest.mark.claim("C6", "exact")
def test_the_coset_is_equitable_exactly_if_the_edge_pattern_is():
    assert all(facts.equitable_pattern == facts.coset_equitable for facts in all_facts())
    witness(instances=total(all_facts()))


@pytest.mark.claim("C3", "symbolic", step="coset-in-RE-CE")
@pytest.mark.claim("C3", "symbolic", step="gradient-tangent")
def test_where_the_pattern_is_equitable_the_coset_is_and_the_gradient_is_tangent_to_it():
    patterned = [facts for facts in all_facts() if facts.equitable_pattern]
    assert all(facts.coset_equitable for facts in patterned)
    assert all(facts.gradients_agree for facts in patterned)
    witness(instances=total(patterned))


@pytest.mark.claim("C5", "exact")
@pytest.mark.claim("C6", "exact")
def test_an_equitable_pattern_leaves_no_inner_edges_and_no_block_that_spans_depths():
    assert not any(facts.irregular for facts in all_facts() if facts.equitable_pattern)
    witness(instances=total(facts for facts in all_facts() if facts.equitable_pattern))


@pytest.mark.claim("C4", "symbolic", step="independence")
def test_a_combination_of_indicators_holds_each_factor_on_the_edges_of_its_pair():
    """`Σ_p t_p [p = q] = t_q`, for any number of pairs: so the combination is zero only if every factor is."""
    p, q, n = sympy.symbols("p q n", integer=True, positive=True)
    t = sympy.IndexedBase("t")
    entry = sympy.Sum(t[p] * sympy.KroneckerDelta(p, q), (p, 1, n)).doit()
    assert entry.subs(n, q + 3).simplify() == t[q]
    witness()


@pytest.mark.claim("C4", "exact")
def test_the_dimension_is_the_number_of_connected_pairs_on_every_small_dag():
    patterned = [facts for facts in all_facts() if facts.equitable_pattern]
    assert all(facts.independent for facts in patterned)
    witness(instances=total(patterned))


@dataclass(frozen=True)
class DeadUnit:
    """What was found of one unit with zero slope, and in how many graphs."""

    cases: int
    gradient_vanishes: bool
    depends_upstream_only: bool


@cache
def all_dead_units() -> tuple[DeadUnit, ...]:
    return tuple(
        found
        for units in UNITS
        for case, graphs in ex.widest_graphs(units)
        if case.graph.edges
        for found in dead_units(case, graphs)
    )


def dead_units(case: ex.Case, graphs: int) -> Iterator[DeadUnit]:
    """Yield what is true of each unit where its slope is zero: of one free evaluation, where `d_v = 0`."""
    evaluation = ex.evaluate(case, ex.equitable_basis(case))
    for unit in range(case.graph.inputs, case.graph.units):
        into = [k for k, (_, v) in enumerate(case.graph.edges) if v == unit]
        left = [evaluation.without(evaluation.gradient[k], evaluation.slope_of(unit)) for k in into]
        yield DeadUnit(
            graphs,
            not any(left),
            ex.weights_behind(case, evaluation, unit) <= ex.edges_upstream(case, unit),
        )


def test_a_generator_set_to_zero_is_a_unit_without_slope_or_no_output():
    """What lets one evaluation stand for many, against evaluations of each: all graphs with three or four units."""
    for case in (case for units in (3, 4) for case, _ in ex.widest_graphs(units) if case.graph.edges):
        basis, rest = ex.equitable_basis(case), range(case.graph.inputs, case.graph.units)
        free = ex.evaluate(case, basis)
        for unit in rest:
            dead = ex.evaluate(case, basis, dead=unit)
            without_slope = [free.without(g, free.slope_of(unit)) for g in free.gradient]
            assert list(dead.gradient) == without_slope
        fewer = ex.evaluate(ex.Case(replace(case.graph, outputs=(rest[-1],)), case.labels), basis)
        silent = [f"l{v}" for v in rest[:-1]]
        assert [d for (d,) in fewer.delta] == [free.without(d, *silent) for (d,) in free.delta]


@pytest.mark.claim("F1", "symbolic", step="all-dags")
def test_zero_slope_gives_zero_gradient_on_every_small_dag():
    assert all(unit.gradient_vanishes for unit in all_dead_units())
    witness(instances=total(all_dead_units()))


@pytest.mark.claim("F2a", "symbolic", step="upstream")
def test_a_preactivation_holds_the_weights_of_its_ancestors_only_on_every_small_dag():
    assert all(unit.depends_upstream_only for unit in all_dead_units())
    witness(instances=total(all_dead_units()))


@pytest.mark.control("F1")
def test_a_live_unit_has_a_gradient():
    graph = ex.Graph(3, 1, (2,), ((0, 1), (1, 2)))
    case = ex.Case(graph, (0, 1, 2))
    assert all(g != 0 for g in ex.evaluate(case, ex.equitable_basis(case)).gradient)


@pytest.mark.control("C1")
@pytest.mark.control("C5")
def test_columns_alone_do_not_give_equal_activations():
    assert not all(facts_of(case, rows=False).activations_agree for case, _ in connected_cases(4))


@pytest.mark.control("C2")
@pytest.mark.control("C3")
@pytest.mark.control("C5")
def test_rows_alone_do_not_give_equal_errors_nor_block_constant_gradients():
    found = [facts_of(case, columns=False) for case, _ in connected_cases(4)]
    assert all(facts.activations_agree for facts in found)
    assert not all(facts.errors_agree for facts in found)
    assert not all(facts.gradients_agree for facts in found)


@pytest.mark.control("C6")
def test_an_uneven_pattern_breaks_the_equations():
    uneven = [facts for facts in all_facts() if not facts.equitable_pattern]
    assert uneven
    assert not any(facts.coset_equitable for facts in uneven)


@pytest.mark.claim("C3", "symbolic", step="gradient-tangent")
def test_the_gradient_is_tangent_between_blocks_of_two():
    assert len(block_facts()) > 200
    assert all(facts.gradients_agree and facts.coset_equitable and facts.independent for facts in block_facts())
    witness(instances=len(block_facts()))


@pytest.mark.claim("C3", "symbolic", step="coset-in-RE-CE")
@pytest.mark.claim("C6", "symbolic", step="pattern-iff")
@pytest.mark.claim("C12", "symbolic", step="contains")
def test_a_block_constant_sums_to_itself_times_the_number_of_edges():
    """A constant `c` on the `d` edges from a block adds `c d` to the row sum, equal for all units iff `d` is."""
    k = sympy.Symbol("k", integer=True)
    d = sympy.Symbol("d", integer=True, nonnegative=True)
    c = sympy.Symbol("c", nonzero=True)
    assert sympy.Sum(c, (k, 1, d)).doit() == c * d
    other = sympy.Symbol("e", integer=True, nonnegative=True)
    assert sympy.solve(sympy.Eq(c * d, c * other), d) == [other]
    witness()


def test_the_number_of_cases_is_that_of_a_direct_count():
    """Graphs with `a` inputs: every set of edges into the rest, times every non-empty set of outputs among it."""
    for units in (2, 3, 4):
        expected = sum(
            2 ** (a * (units - a) + (units - a) * (units - a - 1) // 2) * (2 ** (units - a) - 1)
            for a in range(1, units)
        )
        assert sum(1 for _ in ex.graphs(units)) == expected
        assert sum(graphs for _, graphs in ex.widest_graphs(units)) == expected


@pytest.mark.parametrize("units", UNITS)
def test_the_widest_cases_stand_for_all(units):
    """Each of `cases` is a widest case with some of its outputs left out, and all are met."""
    narrowed = {
        ex.Case(replace(case.graph, outputs=outputs), case.labels)
        for case, _ in ex.widest_cases(units)
        for k in range(1, len(case.graph.outputs) + 1)
        for outputs in combinations(case.graph.outputs, k)
    }
    assert narrowed == set(ex.cases(units))
    assert sum(cases for _, cases in ex.widest_cases(units)) == len(narrowed)
