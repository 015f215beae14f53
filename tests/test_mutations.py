"""Negative controls of the whole chain: a formula broken on purpose turns what rests on it to failing.

That is claims, whose verdicts are derived from the evidence of the broken code, and tests, by their names, where no
claim rests on a formula or two formulas serve one claim.
"""

from dataclasses import dataclass

import pytest

from claims import ledger
from tests.mutants import Broken, Mutants, broken_texts

CLONED, FROZEN, MODULES = "theory/test_cloned", "theory/test_frozen", "torch_experiments/cloning/test_modulewise"
CERTIFICATES, REMEDIES = "torch_experiments/certificates", "torch_experiments/remedies"
RECORDED, FINDINGS = "torch_experiments/lab/report/test_findings", "torch_experiments/lab/report/findings.py"
LOST = "torch_experiments/lab/report/lost.py"


@dataclass(frozen=True)
class Mutation:
    """What is broken, the tests that run by file, and what has to fail and to stand: claims, and tests by name."""

    broken: list[Broken]
    tests: dict[str, str]
    failing: str
    standing: str

    def nodes(self) -> list[str]:
        """Return the tests as arguments of pytest."""
        return [f"tests/{file}.py::{name}" for file, names in self.tests.items() for name in names.split()]


OF_CLONES = """
    test_row_equitable_weights_clone_activations
    test_equitable_weights_clone_errors_and_gradients
    test_the_dimension_is_the_number_of_connected_block_pairs
    test_between_sparse_blocks_the_rate_counts_edges_not_units
"""

MUTATIONS = {
    "the forward sum drops the weights": Mutation(
        [
            Broken(
                "theory/network.py",
                "z[units] = np.add.reduceat(w[edges, None] * h[",
                "z[units] = np.add.reduceat(h[",
            )
        ],
        {CLONED: OF_CLONES},
        failing="C1 C2 C3 C5 C7 C9",
        standing="C4",
    ),
    "the backward sum takes the edge's number for the slope": Mutation(
        [
            Broken(
                "theory/network.py",
                "w[edges, None] * (slopes[target] * delta[target])",
                "w[edges, None] * (edges[:, None] * delta[target])",
            )
        ],
        {CLONED: OF_CLONES},
        failing="C2 C3 C5 C7",
        standing="C1 C4",
    ),
    "ReLU gets a slope below zero": Mutation(
        [Broken("theory/catalogue.py", "return type(z)(z > 0)", "return type(z)(1)")],
        {
            FROZEN: """
                test_dead_units_have_no_gradient_on_any_dag
                test_a_chain_has_points_on_the_frozen_manifold_where_the_gradient_leaves_it
                test_while_a_unit_stays_dead_its_weights_stay
                test_a_unit_in_the_cone_stays_dead_whatever_happens_upstream
                test_inside_the_certified_radius_the_unit_stays_dead
            """,
            CLONED: "test_row_equitable_weights_clone_activations",
        },
        failing="F1 F2 F2a F2b F2c",
        standing="C1",
    ),
    "the quotient forgets the block sizes": Mutation(
        [Broken("simulate/quotient.py", "Fraction(int(d), int(n))", "Fraction(int(d), 1)")],
        {CLONED: f"{OF_CLONES} test_descent_never_leaves_the_coset"},
        failing="C7",
        standing="C1 C2 C3",
    ),
    "weights are not divided by the copies that they read": Mutation(
        [
            Broken(
                "torch_experiments/cloning/layouts.py",
                "return x / factor ** int(-exponent)",
                "return x",
            )
        ],
        {MODULES: "test_linear_layers test_a_view_by_strides_that_swaps_axes_is_reported"},
        failing="M1 M2 E3",
        standing="test_a_view_by_strides_that_swaps_axes_is_reported",
    ),
    "noise on clones sums to zero over inputs alone": Mutation(
        [
            Broken(
                "torch_experiments/cloning/layouts.py",
                "((in_dim, sides[0]), (out_dim, sides[1]))",
                "((in_dim, sides[0]), (out_dim, False))",
            )
        ],
        {MODULES: "test_linear_layers test_copied_heads_need_no_rescaling"},
        failing="M1",
        standing="test_copied_heads_need_no_rescaling",
    ),
    "layer norm asks for no equal numbers of copies": Mutation(
        [
            Broken(
                "torch_experiments/units/rules/norm.py",
                "for axis in x.axes[-count:]:",
                "for axis in ():",
            )
        ],
        {MODULES: "test_layer_and_rms_norm test_features_that_share_a_norm_with_inputs_are_not_copied"},
        failing="M2",
        standing="M1",
    ),
    "a product of matrices counts no copies": Mutation(
        [
            Broken(
                "torch_experiments/units/rules/linear.py",
                "return Value(axes, plus(x.gauge, y.gauge, copies(inner)))",
                "return Value(axes, plus(x.gauge, y.gauge))",
            )
        ],
        {
            MODULES: """
                test_a_tied_table_leaves_the_division_to_the_norm
                test_a_view_by_strides_that_swaps_axes_is_reported
            """
        },
        failing="M2",
        standing="test_a_view_by_strides_that_swaps_axes_is_reported",
    ),
    "signs see the weights upstream, and balls are half as large": Mutation(
        [
            Broken(
                "torch_experiments/certificates/frozen/signs.py",
                "if weight or plain_name(step) in LINEAR:",
                "if True:",
            ),
            Broken(
                "torch_experiments/certificates/frozen/analysis.py",
                "parameter_balls(self.parameters, radius)",
                "parameter_balls(self.parameters, radius / 2)",
            ),
        ],
        {
            f"{CERTIFICATES}/frozen/test_signs": "test_a_unit_that_a_dead_one_upstream_holds_has_no_sign",
            f"{CERTIFICATES}/frozen/test_analysis": """
                test_reasons_agree_with_ball_arithmetic_and_radii_up_to_the_grid
                test_smooth_activations_are_never_exactly_frozen
            """,
        },
        failing="""
            test_a_unit_that_a_dead_one_upstream_holds_has_no_sign
            test_reasons_agree_with_ball_arithmetic_and_radii_up_to_the_grid
        """,
        standing="test_smooth_activations_are_never_exactly_frozen",
    ),
    "Adam's reach is half as far, decay moves nothing, odd steps keep scales": Mutation(
        [
            Broken(
                "torch_experiments/certificates/optimizer/held_weights.py",
                "reach = rate - eps / decay",
                "reach = rate / 2",
            ),
            Broken(
                "torch_experiments/certificates/optimizer/held_weights.py",
                "if weights.decay and bool(",
                "if not weights.decay and bool(",
            ),
            Broken(
                "torch_experiments/certificates/optimizer/cloned_weights.py",
                '("odd", "scaled"): ("left", ',
                '("odd", "scaled"): ("kept", ',
            ),
        ],
        {
            f"{CERTIFICATES}/optimizer/test_held_weights": """
                test_adam_with_coupled_decay_carries_small_weights_past_zero
                test_decay_moves_frozen_weights
            """,
            f"{CERTIFICATES}/optimizer/test_cloned_weights": """
                test_the_verdict_on_every_optimizer_of_torch_is_what_training_shows
                test_of_two_copies_coupled_decay_keeps_the_equations_and_of_three_it_does_not
            """,
        },
        failing="F2b F2d C9",
        standing="test_of_two_copies_coupled_decay_keeps_the_equations_and_of_three_it_does_not",
    ),
    "the smaller root grows, and the Hessian is not the normal one": Mutation(
        [
            Broken(
                "torch_experiments/certificates/stability.py",
                "return (trace + math.sqrt(",
                "return (trace - math.sqrt(",
            ),
            Broken(
                "torch_experiments/certificates/stability.py",
                "return self.normal(self.whole.product(self.normal(v)))",
                "return self.whole.product(v)",
            ),
        ],
        {
            f"{CERTIFICATES}/test_stability": """
                test_the_ends_are_those_of_the_dense_normal_hessian
                test_the_growth_factor_is_the_spectral_radius_of_a_step
                test_zero_sum_changes_of_outgoing_weights_have_no_curvature
            """
        },
        failing="C10 test_the_growth_factor_is_the_spectral_radius_of_a_step",
        standing="test_zero_sum_changes_of_outgoing_weights_have_no_curvature",
    ),
    "near-clones: the balance of noise and the sign of steps are lost, rest keeps the gradient": Mutation(
        [
            Broken("simulate/stochastic.py", "cross = -C @ w / a", "cross = 0 * C @ w / a"),
            Broken("simulate/near_clones.py", "kept = m - np.outer(m @ c, c)", "kept = m - 0 * np.outer(m @ c, c)"),
            Broken(
                "torch_experiments/certificates/stochastic.py",
                "v = v - linear.rate * (slope",
                "v = v + linear.rate * (slope",
            ),
        ],
        {
            "simulate/test_stochastic": """
                test_as_many_exponents_are_negative_as_the_noise_has_directions
                test_constant_matrices_have_the_logarithms_of_their_eigenvalues
            """,
            "simulate/test_near_clones": "test_what_a_base_at_rest_keeps",
            f"{CERTIFICATES}/test_stochastic": "test_clones_of_a_real_network_part_at_that_rate",
        },
        failing="S2 C14 test_what_a_base_at_rest_keeps",
        standing="test_constant_matrices_have_the_logarithms_of_their_eigenvalues",
    ),
    "replaced units are heard and remembered, escapes change the sums, and closures undo edits": Mutation(
        [
            Broken(
                "torch_experiments/remedies/replacement.py",
                "yield zeroed(tensor, edge.dim, index)",
                "yield from ()",
            ),
            Broken(
                "torch_experiments/remedies/replacement.py",
                "yield from renewed(network, tensor, edge.dim, index, value, second)",
                "yield from ()",
            ),
            Broken("torch_experiments/remedies/escape.py", "return E - profile.project(E, dim)", "return E"),
            Broken(
                "torch_experiments/support/steps.py",
                "changed = with_edit(args, kwargs, self.edit)",
                "changed = None",
            ),
        ],
        {
            f"{REMEDIES}/test_attachment": "test_a_step_with_a_closure_is_a_step_of_the_plain_loop",
            f"{REMEDIES}/test_replacement": "test_a_replaced_unit_is_not_heard_and_its_neighbour_is",
            f"{REMEDIES}/test_moments": """
                test_all_state_of_a_replaced_unit_starts_anew_and_that_of_its_neighbours_is_kept
            """,
            f"{REMEDIES}/test_surgery": "test_edits_that_overlap_are_taken_back",
            f"{REMEDIES}/test_escape": "test_sums_over_blocks_of_any_size_are_kept",
        },
        failing="""
            test_a_replaced_unit_is_not_heard_and_its_neighbour_is
            test_a_step_with_a_closure_is_a_step_of_the_plain_loop
            test_all_state_of_a_replaced_unit_starts_anew_and_that_of_its_neighbours_is_kept
            test_sums_over_blocks_of_any_size_are_kept
        """,
        standing="test_edits_that_overlap_are_taken_back",
    ),
    "steepest splits go up, and as far as they like": Mutation(
        [
            Broken("torch_experiments/remedies/steepest.py", "ITERATIONS)[0].vector", "ITERATIONS)[1].vector"),
            Broken("torch_experiments/remedies/steepest.py", "size / total.norm()", "size"),
        ],
        {
            f"{REMEDIES}/test_steepest": """
                test_the_move_is_as_long_as_a_random_one_normal_and_downhill_to_second_order
                test_the_clones_of_one_relu_move_along_the_gradient_of_the_unit
                test_a_network_without_clones_is_left_alone
            """
        },
        failing="""
            test_the_move_is_as_long_as_a_random_one_normal_and_downhill_to_second_order
            test_the_clones_of_one_relu_move_along_the_gradient_of_the_unit
        """,
        standing="test_a_network_without_clones_is_left_alone",
    ),
    "what the records show is read the other way round": Mutation(
        [
            Broken(LOST, "(fresh[:, -tasks:] - own[:, -tasks:])", "(own[:, -tasks:] - fresh[:, -tasks:])"),
            Broken(FINDINGS, "lambda a, b: b > a + GROWN", "lambda a, b: b < a + GROWN"),
            Broken(FINDINGS, "lambda a, b: b < 0.95 * a", "lambda a, b: b > 0.95 * a"),
            Broken(FINDINGS, "(end(own) > end(bare))", "(end(own) < end(bare))"),
            Broken(FINDINGS, "means[cell] < means", "means[cell] > means"),
            Broken(FINDINGS, "lambda residual: residual <=", "lambda residual: residual >"),
            Broken(FINDINGS, "lambda residual: residual > APART", "lambda residual: residual < APART"),
            Broken(FINDINGS, "(values < 1).all()", "(values > 1).all()"),
            Broken(FINDINGS, "limits[0] > 0", "limits[0] < 0"),
        ],
        {
            RECORDED: """
                test_what_a_fresh_network_learns_no_better_is_not_lost
                test_what_layer_norm_keeps_is_set_against_a_fresh_network_with_it
                test_units_that_live_and_accuracy_that_is_lost_are_not_what_is_said_of_convolutions
                test_symptoms_the_other_way_round_are_seen
                test_a_norm_whose_rank_falls_holds_no_rank
                test_a_norm_with_less_rank_than_none_holds_no_rank
                test_a_norm_with_more_of_one_symptom_does_not_reduce_them
                test_equal_ranks_are_no_gain_of_continual_backprop
                test_every_finding_has_its_claim
            """,
            f"{RECORDED}_of_cloning": """
                test_clones_stay_under_momentum_and_adam
                test_clones_part_under_noise_and_dropout
                test_clones_that_part_use_their_width_and_others_do_not
            """,
        },
        failing="P1 P2 P3 P4 P5 P6 P7 P8 P9 P10 P11 P12 P13 P14 P15 P16 P17",
        standing="test_every_finding_has_its_claim",
    ),
    "what is lost in language is read the other way round, and the entropy of attention is no share": Mutation(
        [
            Broken("torch_experiments/lab/report/language.py", "(own - fresh).mean", "(fresh - own).mean"),
            Broken(
                "torch_experiments/metrics/attention.py",
                "entropy / most",
                "entropy * most",
            ),
        ],
        {
            "torch_experiments/lab/report/test_language": """
                test_records_the_other_way_round_show_the_contrary
                test_missing_records_and_too_few_seeds_are_never_a_finding
            """,
            "torch_experiments/metrics/test_attention": """
                test_it_is_the_mean_over_queries_of_the_share_of_the_largest_entropy
            """,
        },
        failing="Q1 Q2 Q3 Q4 Q5 Q7 Q8 Q9 test_it_is_the_mean_over_queries_of_the_share_of_the_largest_entropy",
        standing="test_missing_records_and_too_few_seeds_are_never_a_finding",
    ),
}


@pytest.fixture(scope="module")
def mutants():
    with Mutants() as process:
        yield process


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_formula_turns_what_rests_on_it_to_failing(name, mutants, tmp_path):
    case, seen = MUTATIONS[name], tmp_path / "seen.json"
    result = mutants.run(case.broken, [*case.nodes(), "--evidence", str(seen)])
    assert result.code == pytest.ExitCode.TESTS_FAILED
    verdicts = ledger.verdicts(evidence=seen) if seen.exists() else {}
    failing = {id_ for id_, found in verdicts.items() if found.verdict == "failing"}
    standing = {id_ for id_, found in verdicts.items() if found.rows} - failing
    assert {*case.failing.split()} - (result.failed | failing) == set()
    assert {*case.standing.split()} - (result.passed | standing) == set()


def test_unbroken_code_fails_nothing(mutants, tmp_path):
    same = Broken("theory/network.py", "z[units] = np.add", "z[units] = np.add")
    result = mutants.run([same], MUTATIONS["the forward sum drops the weights"].nodes())
    assert result.code == pytest.ExitCode.OK
    assert result.passed == {*OF_CLONES.split()}


@pytest.mark.parametrize(
    ("formula", "message"), [("no such formula", "0 times, not once"), ("return", r"[0-9]+ times, not once")]
)
def test_a_formula_that_is_not_there_once_is_refused(formula, message):
    with pytest.raises(ValueError, match=message):
        broken_texts([Broken("theory/network.py", formula, "")])
