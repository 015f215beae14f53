"""Exact cloning of any network, and how far a network is from a cloned manifold (JL25 Theorems 2.1 and 2.2).

`clone` traces the model into feature axes (`torch_experiments.units`), copies every unit that may be copied, and
divides weights by the number of copies they sum over. A chain of Linear layers is the special case in which
every axis has a `Profile` of its own: any number of copies a unit, with scales (`profiles`, `expand`).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from torch_experiments.cloning.layouts import Layout, Placement, Profile, Residual, identity, residuals_of
from torch_experiments.cloning.verification import sum_deviations
from torch_experiments.cloning.widen import SAMPLES, TOLERANCE, filled, planned, set_known
from torch_experiments.support.choices import choose
from torch_experiments.units.axes import Axis, find
from torch_experiments.units.graph import Graph, TraceError, Value, coarsest
from torch_experiments.units.groups import Attention
from torch_experiments.units.inputs import Inputs
from torch_experiments.units.trace import trace

Mode = Literal["equal", "equitable", "rows", "columns", "broken"]
Model = TypeVar("Model", bound=nn.Module)


class Recipe(NamedTuple):
    """Size of the random part of a clone's weights, and whether it keeps rows and columns equitable."""

    spread: float
    rows: bool
    columns: bool


MODES: Mapping[str, Recipe] = {
    "equal": Recipe(0.0, True, True),
    "equitable": Recipe(1.0, True, True),
    "rows": Recipe(1.0, True, False),
    "columns": Recipe(1.0, False, True),
    "broken": Recipe(1.0, False, False),
}


def clone(
    model: Model,
    factor: int = 2,
    mode: Mode = "equal",
    generator: torch.Generator | None = None,
    *,
    example_inputs: Inputs | None = None,
    attention: Attention = "heads",
    samples: int | Literal["all"] = SAMPLES,
) -> Model:
    """Return a copy of ``model`` with every hidden unit copied ``factor`` times that computes the same function.

    Inputs and outputs are not copied. ``"equal"`` gives all edges between the copies of two units one weight, the
    base's divided by the number of copies of the source; ``"equitable"`` adds to each pair of blocks a random
    matrix with zero sums of rows and of columns, a point of RE ∩ CE that is not block-constant. Three modes are
    broken on purpose: ``"rows"`` is row-equitable only (it computes the function, its errors are no copies),
    ``"columns"`` column-equitable only, ``"broken"`` neither. Norms, biases and statistics are copied.
    The result is in ``model``'s dtype, device and mode. Its function is verified in eval mode: outputs on the first
    ``samples`` of the inputs (of the equal clone, whatever the mode), and, where rows are equitable, the sums of
    all weights over copies, which holds for all inputs. `verify` tells it layer by layer, and on more samples.
    Beside parameters, sizes that modules keep as integers are set; a configuration object that came with the model
    (``model.config``) still describes the base.

    Args:
        model: any module whose operations have rules; left as it is.
        factor: copies of a unit, 2 or more.
        mode: as above.
        generator: of the random part.
        example_inputs: a tensor, a sequence of positional or a mapping of keyword arguments; may be left out for
            an ``nn.Sequential`` that starts with a Linear layer.
        attention: copy whole ``"heads"``, or the ``"features"`` of each head, with queries and keys rescaled.
        samples: how many samples to compare outputs on, or ``"all"``: a full pass of the wide network.

    Raises:
        ValueError: for a factor below two, an unknown mode or fewer than one sample.
        TraceError: (a ValueError) for a model that cannot be traced or cloned; it names the layer and the fix.

    Source: JL25 Theorems 2.1 and 2.2 and the appendix on cloning experiments.
    """
    _at_least_two(factor)
    recipe = choose("mode", mode, MODES)
    choose("attention", attention, {"heads": 1, "features": 1})
    inputs = chain_inputs(model) if example_inputs is None else example_inputs
    _, found, twin = planned(model, factor, inputs, attention, samples)
    if recipe.spread:
        filled(model, twin, found, recipe.spread, (recipe.rows, recipe.columns), generator)
    if recipe.rows:
        _same_sums(twin, model, found)
    return twin


def layout(
    model: nn.Module,
    factor: int = 2,
    *,
    example_inputs: Inputs | None = None,
    attention: Attention = "heads",
    samples: int | Literal["all"] = SAMPLES,
) -> Layout:
    """Return where the copies lie in ``clone(model, factor, ...)``: for `residuals`, `deviations` and `verify`."""
    _at_least_two(factor)
    inputs = chain_inputs(model) if example_inputs is None else example_inputs
    return planned(model, factor, inputs, attention, samples)[1]


def residuals(
    model: nn.Module, axes: Layout | Sequence[Profile], start: Mapping[str, Tensor] | None = None
) -> list[Residual]:
    """Return, for every layer with copies, its distance to RE, to CE, and to the coset of ``start``.

    ``axes`` is the `layout` of a clone, or the profiles of a chain of Linear layers; then norms are left out. The
    formulas are those of `units.layout.residuals_of`.
    """
    if isinstance(axes, Layout):
        return residuals_of(model, axes, start)
    pairs = zip(linears(model), axes[:-1], axes[1:], strict=True)
    placements: dict[str, Placement] = {}
    for (name, layer), source, target in pairs:
        placements[f"{name}.weight"] = Placement((target, source), frozenset({(0, 1)}))
        if layer.bias is not None:
            placements[f"{name}.bias"] = Placement((target,))
    return residuals_of(model, Layout(1, placements), start)


def profile(
    units: int, factor: int = 1, *, scales: str = "one", generator: torch.Generator | None = None
) -> Profile:
    """Return the profile of ``units`` base units cloned ``factor`` times, copies side by side.

    The copies of unit ``i`` are ``factor·i, …, factor·i + factor − 1``, so that flattening a cloned channel
    keeps its copies together. Scales are ``"one"``, ``"positive"`` (uniform on [1/2, 2]) or ``"sign"`` (±1;
    from the second copy on a block has both signs). With ``factor=1`` (inputs, outputs) all scales are one.
    """
    if factor < 1:
        raise ValueError(f"factor: got {factor}; it has to be at least 1")
    choose("scales", scales, {"one": 1, "positive": 1, "sign": 1})
    scale = torch.ones(units, factor, dtype=torch.float64)
    if factor > 1 and scales == "positive":
        scale.uniform_(0.5, 2, generator=generator)
    if factor > 1 and scales == "sign":
        scale[:, 2:] = torch.randint(2, (units, factor - 2), generator=generator).double() * 2 - 1
        scale[:, 1] = -1
    return Profile(torch.arange(units).repeat_interleave(factor), scale.flatten())


def profiles(
    model: nn.Module, factor: int = 2, *, scales: str = "one", generator: torch.Generator | None = None
) -> list[Profile]:
    """Return the profile of every feature axis of a chain: inputs, hidden layers, outputs.

    Inputs and outputs are blocks of their own; every hidden unit is cloned ``factor`` times.
    """
    layers = [layer for _, layer in linears(model)]
    hidden = [profile(layer.out_features, factor, scales=scales, generator=generator) for layer in layers[:-1]]
    return [profile(layers[0].in_features), *hidden, profile(layers[-1].out_features)]


def expand(
    model: Model,
    profiles: Sequence[Profile],
    *,
    spread: float = 0.0,
    generator: torch.Generator | None = None,
) -> Model:
    """Return a chain of Linear layers with its units copied and scaled as ``profiles`` say.

    Between blocks ``j → i`` the weights are ``w_ij s_i s_jᵀ / ‖s_j‖² + P``. The random ``P`` has ``P s_j = 0`` and
    ``s_iᵀ P = 0``; it is projected Gaussian noise of ``spread`` times the rms of the first term. Biases are
    ``s_v b_i``.
    The function is that of ``model`` when every module between two Linear layers is equivariant under the
    scales: any activation for 1, odd ones for ±1, positively homogeneous ones for ``s > 0``; BatchNorm for all
    of them (up to its ``eps``), LayerNorm for 1 only. It is not compared with the base's.

    Raises:
        TypeError: for a model that is no chain.
        ValueError: when the number of profiles is not that of the Linear layers plus one.
        TraceError: for an operation without a rule.
    """
    graph, own = _chain_axes(model, profiles)
    wide = copy.deepcopy(model)
    set_known(wide, graph, lambda axis: len(own[find(axis)].block) if find(axis) in own else axis.size)
    return filled(model, wide, _chain_layout(graph, own), spread, (True, True), generator)


def chain_layout(model: nn.Module, profiles: Sequence[Profile]) -> Layout:
    """Return where the copies lie in ``expand(model, profiles)``, norms with them.

    Raises:
        As `expand`.
    """
    return _chain_layout(*_chain_axes(model, profiles))


def cloned_residual(model: nn.Module, factor: int, start: Mapping[str, Tensor] | None = None) -> list[Residual]:
    """Return `residuals` of a chain that `clone` made with ``factor`` (all scales one).

    Raises:
        ValueError: when the width of a hidden layer is no multiple of ``factor``.
    """
    layers = [layer for _, layer in linears(model)]
    for layer in layers[:-1]:
        if layer.out_features % factor:
            raise ValueError(f"factor: got {factor}, which does not divide a width of {layer.out_features}")
    hidden = [profile(layer.out_features // factor, factor) for layer in layers[:-1]]
    axes = [profile(layers[0].in_features), *hidden, profile(layers[-1].out_features)]
    return residuals(model, axes, start)


def linears(model: nn.Module) -> list[tuple[str, nn.Linear]]:
    """Return the named Linear layers of a chain of modules, in order; a TypeError for anything else."""
    if not isinstance(model, nn.Sequential):
        raise TypeError(f"model: got {type(model).__name__}; a chain is an nn.Sequential with Linear layers")
    found = [(name, layer) for name, layer in model.named_children() if isinstance(layer, nn.Linear)]
    if not found:
        raise TypeError("model: got a chain without nn.Linear; there is no weight to clone")
    return found


def chain_inputs(model: nn.Module) -> Tensor:
    """Return two Gaussian inputs for an ``nn.Sequential`` whose first layer with parameters is Linear.

    Raises:
        TraceError: for any other model, which needs example inputs.
    """
    layers = (m for m in model.modules() if next(m.parameters(recurse=False), None) is not None)
    first = next(layers, None)
    if not isinstance(model, nn.Sequential) or not isinstance(first, nn.Linear):
        raise TraceError(
            f"example_inputs: is missing; pass a batch that {type(model).__name__} can be called with (only the "
            "shape of a chain that starts with nn.Linear can be guessed)"
        )
    x = torch.randn(2, first.in_features, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return x.to(first.weight)


def _chain_axes(model: nn.Module, profiles: Sequence[Profile]) -> tuple[Graph, dict[Axis, Profile]]:
    layers = linears(model)
    if len(profiles) != len(layers) + 1:
        raise ValueError(f"profiles: got {len(profiles)}; the model needs {len(layers) + 1}, see `profiles(model)`")
    graph = trace(model, chain_inputs(model))
    weights = [graph.parameters[f"{name}.weight"] for name, _ in layers]
    return graph, {find(weight.axes[0]): profile for weight, profile in zip(weights, profiles[1:], strict=True)}


def _chain_layout(graph: Graph, own: Mapping[Axis, Profile]) -> Layout:
    """Return a layout with profiles of single axes, where every input divides by the square norm of its block."""
    placements: dict[str, Placement] = {}
    for name in sorted(graph.used, key=list(graph.parameters).index):
        value, uses = graph.parameters[name], graph.matrices.get(name, set())
        places = _profiles_of(value, own)
        inputs = frozenset(in_dim for _, in_dim in uses)
        placements[name] = Placement(places, frozenset(uses), graph.powers.get(name, ""), uneven=inputs)
    outputs = {name: Placement(_profiles_of(value, own)) for name, value in graph.outputs.items()}
    return Layout(1, placements, outputs, graph.dropped)


def _profiles_of(value: Value, own: Mapping[Axis, Profile]) -> tuple[Profile, ...]:
    return tuple(own.get(find(axis)) or identity(axis.size) for axis in value.axes)


def _same_sums(twin: nn.Module, model: nn.Module, found: Layout) -> None:
    tolerance = TOLERANCE.get(coarsest(model.parameters()), 0.05)
    for layer, off in sum_deviations(twin, model, found).items():
        if not off <= tolerance:
            raise TraceError(
                f"layer {layer!r}: its weights, summed over copies, differ from the base's by {off:.0e}; clone in "
                "a wider dtype, and check the rules of this layer's operations"
            )


def _at_least_two(factor: int) -> None:
    if factor < 2:
        raise ValueError(f"factor: got {factor}; it has to be at least 2: one copy is the base itself")
