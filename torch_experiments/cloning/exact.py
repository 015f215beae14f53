"""Exact cloning of any network, and how far a network is from a cloned manifold (JL25 Theorems 2.1 and 2.2).

`clone` traces the model into feature axes (`torch_experiments.units`), copies every unit that may be copied, and
divides weights by the number of copies they sum over. Chains of Linear layers may have other numbers of copies and
scales, see `chains`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from theory.tolerances import TWINS, of_dtype
from torch_experiments.cloning.chains import chain_inputs, weights_layout
from torch_experiments.cloning.layouts import Layout, Profile, Residual, residuals_of
from torch_experiments.cloning.verification import sum_deviations
from torch_experiments.cloning.widen import SAMPLES, filled, planned
from torch_experiments.support.choices import choose
from torch_experiments.support.precision import in_float32
from torch_experiments.units.axes import ORDERS, Order
from torch_experiments.units.entry import Callee, calling, prepared, released, unwrapped
from torch_experiments.units.graph import TraceError, coarsest
from torch_experiments.units.groups import Attention
from torch_experiments.units.inputs import Inputs

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
    order: Order = "interleaved",
    call: Callee = None,
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
    Beside parameters, sizes that modules keep as integers are set; of a configuration object that came with the
    model (``model.config``) those alone that a forward reads: else it still describes the base.

    Args:
        model: any module; left as it is. Of `DistributedDataParallel`, `DataParallel` and `torch.compile` what is
            inside is cloned. Units that an operation without a rule reads are not copied, which a warning says.
        factor: copies of a unit, 2 or more.
        mode: as above.
        generator: of the random part.
        example_inputs: a tensor, a tuple of positional or a mapping of keyword arguments, or a list of such
            examples that together read all parameters, such as ``[(x, 0), (x, 1)]`` for two heads; may be left out
            for an ``nn.Sequential`` that starts with a Linear layer.
        attention: copy whole ``"heads"``, or the ``"features"`` of each head, with queries and keys rescaled.
        samples: how many samples to compare outputs on, or ``"all"``: a full pass of the wide network.
        order: where the ``k`` copies of unit ``i`` of ``n`` lie: at ``k·i, …, k·i + k − 1`` (``"interleaved"``), or
            at ``i, i + n, …`` (``"tiled"``). Both are one network with its units permuted; but sums over units
            are rounded in another order, so that in training one may part from its manifold before the other.
        call: what is called in the place of the forward, as in `certify`; the function that is kept is its.

    Raises:
        ValueError: for a factor below two, an unknown mode or order, or fewer than one sample.
        TraceError: (a ValueError) for a model that cannot be traced or cloned; it names the layer and the fix. Two
            parameters on one storage are refused: a clone of tied weights needs them as one. So are parameters that
            no example reads and that may belong to copied units.

    Source: JL25 Theorems 2.1 and 2.2 and the appendix on cloning experiments.

    >>> base, x = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).double(), torch.eye(2).double()
    >>> wide = clone(base)
    >>> wide[0].out_features, torch.allclose(wide(x), base(x))
    (6, True)
    """
    recipe = choose("mode", mode, MODES)
    model = unwrapped(model)  # type: ignore[assignment]  # a wrapper stays behind
    with calling(model, call), in_float32():
        inputs = _checked(model, factor, attention, order, example_inputs)
        _, found, twin = planned(model, factor, inputs, attention, samples, order)
    released(twin)
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
    order: Order = "interleaved",
    call: Callee = None,
) -> Layout:
    """Return where the copies lie in ``clone(model, factor, ...)``: for `residuals`, `deviations` and `verify`.

    Arguments and errors are those of `clone`.

    >>> place = layout(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)))
    >>> place.placements["0.bias"].profiles[0].block
    tensor([0, 0, 1, 1, 2, 2])
    """
    model = unwrapped(model)
    with calling(model, call), in_float32():
        inputs = _checked(model, factor, attention, order, example_inputs)
        return planned(model, factor, inputs, attention, samples, order)[1]


def residuals(
    model: nn.Module, axes: Layout | Sequence[Profile], start: Mapping[str, Tensor] | None = None
) -> list[Residual]:
    """Return, for every layer with copies, its distance to RE, to CE, and to the coset of ``start``.

    ``axes`` is the `layout` of a clone, or the profiles of a chain of Linear layers; then norms are left out. The
    formulas are those of `layouts.residuals_of`.

    >>> base = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).double()
    >>> [r.layer for r in residuals(clone(base), layout(base)) if max(r[1:]) < 1e-12]
    ['0', '2']
    """
    return residuals_of(model, axes if isinstance(axes, Layout) else weights_layout(model, axes), start)


def _same_sums(twin: nn.Module, model: nn.Module, found: Layout) -> None:
    tolerance = of_dtype(TWINS, coarsest(model.parameters()))
    for layer, off in sum_deviations(twin, model, found).items():
        if not off <= tolerance:
            raise TraceError(
                f"layer {layer!r}: its weights, summed over copies, differ from the base's by {off:.0e}; clone in "
                "a wider dtype, and check the rules of this layer's operations"
            )


def _checked(model: nn.Module, factor: int, attention: str, order: str, inputs: Inputs | None) -> Inputs:
    """Return the inputs, those of a chain if None, after a look at the other arguments."""
    choose("attention", attention, {"heads": 1, "features": 1})
    choose("order", order, ORDERS)
    if factor < 2:
        raise ValueError(f"factor: got {factor}; it has to be at least 2: one copy is the base itself")
    scripted = {torch.jit.RecursiveScriptModule}  # show nothing at all, which `entry` says of every tool
    if any(isinstance(m, torch.jit.ScriptModule) and type(m) not in scripted for m in model.modules()):
        raise TraceError(
            "model: a module of torch.jit.trace has its sizes written down, which cannot be widened; clone the one "
            "that it was made of"
        )
    return chain_inputs(model) if inputs is None else prepared(model, inputs)
