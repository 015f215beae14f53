"""`lop kernel` and `lop simulate`: what they print, and how they refuse."""

from fractions import Fraction

import pytest
from flint import arb

from simulate import bit_flipping
from simulate.learners import Learner
from theory.activations import modulate
from theory.enclosures import dual_kernel_enclosure
from theory.kernels import dual_kernel


def test_value_and_moments_are_printed(command):
    code, out, _ = command("kernel", "gelu", "--rho", "0.5")
    assert code == 0
    moments, values = out.splitlines()
    assert moments.startswith("gelu: E φ = 0.282094791774, Var φ = 0.345")
    assert values.startswith("K(0.5) = 0.42736873420218")
    assert "certified" not in out


def test_the_printed_ball_contains_the_enclosure(command):
    _, out, _ = command("kernel", "tanh", "--rho", "-0.1", "1/3", "--certify", "--prec", "80")
    balls = [line.split("∈ ")[1].split(", cert")[0] for line in out.splitlines() if "∈" in line]
    for ball, rho in zip(balls, (Fraction(-1, 10), Fraction(1, 3)), strict=True):
        assert arb(ball.replace("±", "+/-")).overlaps(dual_kernel_enclosure("tanh", rho))
        assert float(arb(ball.replace("±", "+/-")).rad()) < 1e-16


def test_gain_and_shift_modulate(command):
    _, out, _ = command("kernel", "relu", "--rho", "0.9", "--a", "2", "--b=-1/2")
    assert f"= {dual_kernel(modulate('relu', 2, Fraction(-1, 2)), 0.9):.16g}," in out
    assert out.startswith("relu(2·z + -1/2)")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rellu", "--rho", "0.5"], "activation 'rellu' is unknown; did you mean one of relu"),
        (["relu", "--rho", "1.1"], "rho contains 1.1; allowed are correlations in [−1, 1]"),
        (["relu", "--rho", "0.5", "-2"], "rho contains -2.0"),
        (["relu", "--rho", "nan"], "rho is 'nan'; allowed are decimals and fractions"),
        (["relu", "--rho", "0.5j"], "rho is '0.5j'"),
        (["relu", "--rho", "1/0"], "rho is '1/0'"),
        (["one", "--rho", "0.5"], "'one' is constant"),
        (["relu", "--rho", "0.5", "--a", "0"], "a is 0"),
        (["relu", "--rho", "0.5", "--certify", "--prec", "0"], "prec is 0"),
    ],
)
def test_a_kernel_that_cannot_be_ends_with_one_line(command, arguments, message):
    code, out, errors = command("kernel", *arguments)
    assert code == 2
    assert not out
    assert errors.startswith("lop: ")
    assert message in errors
    assert len(errors.splitlines()) == 1


def test_a_run_prints_its_end_and_goes_into_a_file(command, tmp_path):
    file = tmp_path / "run.npz"
    short = ("--hidden", 3, "--steps", 4_000, "--seeds", 0, 1, "--bin", 2_000)
    code, out, _ = command("simulate", "bit-flipping", "--learner", "cbp", *short, "--out", file)
    assert code == 0
    assert "cbp, 3 units, 4,000 steps" in out
    assert "loss" in out
    assert file.exists()


def test_a_switch_and_an_activation_are_those_of_the_learner(command, tmp_path):
    short = ("--hidden", 3, "--steps", 4_000, "--seeds", 0, 1, "--bin", 2_000)
    chosen = ("--activation", "tanh", "--switch", "redo@2000", "--rate", 0.003)
    assert command("simulate", "bit-flipping", *short, *chosen, "--out", tmp_path / "run.npz")[0] == 0
    learner = Learner(rate=0.003, activation="tanh", resets="redo", start=2000)
    assert bit_flipping.load(tmp_path / "run.npz", bit_flipping.Config(learner, 3, 4_000, (0, 1), 2_000))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--switch", "cpb@5"], "lop: switch: 'cpb' is unknown; did you mean cbp?"),
        (
            ["--switch", "cbp@1000000"],
            "lop: switch: got 'cbp@1000000'; give KIND@STEP with a step below 1000000, such as cbp@500000",
        ),
        (["--activation", "tan"], "lop: activation: 'tan' is unknown; did you mean tanh?"),
        (["--learner", "cpb"], "lop: learner: 'cpb' is unknown; did you mean cbp?"),
        (["--hidden", "-3"], "lop: hidden: got -3; it has to be at least 1"),
        (["--bin", "7"], "lop: bin: 7 does not divide the 1000000 steps; choose one that does"),
        (["--rate", "-1"], "lop: rate: got -1.0; it has to be finite, 0 or more"),
    ],
)
def test_a_run_that_cannot_be_ends_with_one_line(command, arguments, said):
    assert command("simulate", "bit-flipping", *arguments) == (2, "", f"{said}\n")
