"""The table of activations against torch: flat pieces by autograd, range, shape and symmetries by evaluation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from torch_experiments.certificates.frozen import observe
from torch_experiments.certificates.frozen.observe import steepest
from torch_experiments.units import trace
from torch_experiments.units.activations import Activation
from torch_experiments.units.graph import Step
from torch_experiments.units.symmetry import Scales, carried_by

MODULES = {
    "relu": nn.ReLU(),
    "relu6": nn.ReLU6(),
    "hardtanh": nn.Hardtanh(),
    "hardtanh, uneven": nn.Hardtanh(-0.5, 2.0),
    "hardsigmoid": nn.Hardsigmoid(),
    "hardswish": nn.Hardswish(),
    "leaky relu": nn.LeakyReLU(0.1),
    "leaky relu, flat": nn.LeakyReLU(0.0),
    "leaky relu, down": nn.LeakyReLU(-0.5),
    "rrelu": nn.RReLU(),
    "threshold": nn.Threshold(0.5, 0.25),
    "threshold, up": nn.Threshold(0.5, 2.0),
    "threshold at zero": nn.Threshold(0.0, 0.0),
    "softshrink": nn.Softshrink(0.75),
    "hardshrink": nn.Hardshrink(0.75),
    "sigmoid": nn.Sigmoid(),
    "log sigmoid": nn.LogSigmoid(),
    "softplus": nn.Softplus(),
    "tanh": nn.Tanh(),
    "elu": nn.ELU(0.7),
    "selu": nn.SELU(),
    "celu": nn.CELU(1.3),
    "gelu": nn.GELU(),
    "gelu by tanh": nn.GELU("tanh"),
    "silu": nn.SiLU(),
    "mish": nn.Mish(),
    "prelu": nn.PReLU(),
}


class Function(nn.Module):
    """A function without a module."""

    def __init__(self, f) -> None:
        super().__init__()
        self.f = f

    def forward(self, x: Tensor) -> Tensor:
        """Return ``f(x)``."""
        return self.f(x)


FUNCTIONS = {
    "clamp from below": lambda x: x.clamp(min=0),
    "clamp": lambda x: x.clamp(-1, 1),
    "clamp_min": lambda x: x.clamp_min(-0.5),
    "clamp_max": lambda x: x.clamp_max(0.5),
    "relu in place": lambda x: nn.functional.relu(x.clone(), inplace=True),
    "sin": torch.sin,
    "erf": torch.erf,
}
ALL = MODULES | {name: Function(f) for name, f in FUNCTIONS.items()}
GRID = grid = torch.linspace(-12, 12, 4801, dtype=torch.float64)


def activation_of(module: nn.Module) -> tuple[Step, Activation]:
    """Return the operation that a module runs, and the line of the table."""
    (step,) = [s for s in trace(module.double(), GRID[:, None]).steps if s.activation]
    return step, step.activation


def differentiated(step: Step, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return value and derivative at every ``z``, given as the column that was traced."""
    value, slope = observe.differentiated(step, z[:, None])
    return value[:, 0], slope[:, 0]


def flat_by_autograd(step: Step, z: Tensor) -> Tensor:
    """Return whether torch's derivative is zero."""
    return differentiated(step, z)[1] == 0


def in_pieces(f: Activation, z: Tensor) -> Tensor:
    """Return whether the table says that the activation is flat."""
    return torch.tensor([f.piece(x, x) is not None for x in z.tolist()])


def disagreements(f: Activation, step: Step) -> int:
    """Return at how many points the table's pieces are not where torch's derivative is zero."""
    ends = [e for p in f.flat for e in (p.low, p.high) if math.isfinite(e)]
    near = [math.nextafter(e, side) for e in ends for side in (-math.inf, math.inf)]
    z = torch.cat([GRID, torch.tensor([*ends, *near], dtype=torch.float64)])
    z = z[(z != f.turning) | (f.shape != "valley")]
    return int((flat_by_autograd(step, z) != in_pieces(f, z)).sum())


@pytest.mark.parametrize("name", [n for n, m in ALL.items() if n != "prelu"])
def test_an_activation_is_flat_where_autograd_says_so_up_to_the_ends(name: str) -> None:
    step, f = activation_of(ALL[name])
    if f.flat:
        assert disagreements(f, step) == 0
    elif name != "sin":
        assert flat_by_autograd(step, GRID)[GRID.abs() < 5].sum() <= (f.shape == "valley")
    for piece in f.flat:
        inside = grid[(grid >= piece.low) & (grid <= piece.high)]
        assert (differentiated(step, inside)[0] == piece.value).all()


def test_a_piece_that_is_too_long_is_noticed() -> None:
    step, f = activation_of(nn.ReLU())
    (piece,) = f.flat
    longer = Activation((piece._replace(high=0.1),), 0.0)
    assert disagreements(longer, step) > 0
    clamp, g = activation_of(Function(lambda x: x.clamp(min=0)))
    assert disagreements(Activation((piece,), 0.0), clamp) >= 1, "clamp passes gradients at zero"
    assert g.flat[0].high < 0


@pytest.mark.parametrize("name", ALL)
def test_range_and_shape_are_those_of_the_values(name: str) -> None:
    step, f = activation_of(ALL[name])
    value = differentiated(step, GRID)[0]
    assert (value >= f.low - 1e-15).all()
    assert (value <= f.high + 1e-15).all()
    if f.shape == "monotone":
        assert (value.diff() >= -1e-13).all()
    if f.shape == "valley":
        left, right = grid <= f.turning, grid >= f.turning
        assert (value[left].diff() <= 1e-13).all()
        assert (value[right].diff() >= -1e-13).all()
        assert value.min() - f.low < 1e-4


@pytest.mark.parametrize("name", ALL)
def test_symmetries_hold_exactly_when_the_table_says_so(name: str) -> None:
    step, f = activation_of(ALL[name])
    value = differentiated(step, GRID)[0]
    odd = bool((value + value.flip(0)).abs().max() < 1e-12)
    doubled = differentiated(step, 2 * GRID)[0]
    homogeneous = bool((doubled - 2 * value).abs().max() < 1e-12)
    assert (f.odd, f.homogeneous) == (odd, homogeneous)


@pytest.mark.parametrize(
    ("name", "scales"),
    [
        ("relu", Scales.POSITIVE),
        ("clamp from below", Scales.POSITIVE),
        ("hardtanh", Scales.SIGN),
        ("erf", Scales.SIGN),
        ("clamp_min", Scales.ONE),
        ("gelu", Scales.ONE),
    ],
)
def test_units_carry_the_scales_of_their_activation(name: str, scales: Scales) -> None:
    graph = trace(nn.Sequential(nn.Linear(3, 4), ALL[name], nn.Linear(4, 2)).double(), torch.ones(2, 3).double())
    (axis,) = graph.free()
    assert carried_by(graph)[axis] == scales


def test_the_steepest_slope_of_known_activations() -> None:
    expected = {"sigmoid": 0.25, "tanh": 1.0, "relu": 1.0, "gelu": 1.1289, "selu": 1.7581, "erf": 1.1284}
    for name, slope in expected.items():
        assert abs(steepest(activation_of(ALL[name])[0]) - slope) < 1e-4
