"""Bounds on every tensor of a network, for all inputs in a box and all weights in a ball.

One rule an operation; where there is none, there is no bound (``unbounded`` says where), never a wrong one.

Source: interval bound propagation, Gowal et al. 2018; claim F2c.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from theory.tolerances import ULPS
from torch_experiments.certificates.frozen.intervals import (
    Interval,
    around,
    average,
    between,
    bilinear,
    everything,
    hull,
    magnitude,
    negative,
    outward,
    point,
    product,
    reciprocal,
    sanitised,
    total,
    widened,
)
from torch_experiments.certificates.frozen.replay import as_tensors, changes, plain_name
from torch_experiments.support.torch_private import tree_map_only
from torch_experiments.units.activations import Activation
from torch_experiments.units.graph import Step

Result = Interval | list[Interval]
Rule = Callable[[Step], Result]
RULES: dict[str, Rule] = {}
# Those that never decrease in any entry: their bounds are what they make of the bounds.
MOVES = (
    "alias", "clone", "contiguous", "detach", "lift_fresh", "t", "transpose", "permute", "unsqueeze", "squeeze",
    "expand", "repeat", "select", "unbind", "slice", "split", "unsafe_split", "split_with_sizes", "chunk", "cat",
    "stack", "pixel_shuffle", "channel_shuffle", "native_channel_shuffle", "flip", "roll", "index_select", "index",
    "gather", "tril", "triu", "reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d",
    "upsample_nearest1d", "upsample_nearest2d", "constant_pad_nd",
)  # fmt: skip
LARGEST = ("amax", "amin", "maximum", "minimum")
POOLS = (
    "max_pool2d_with_indices", "max_pool3d_with_indices", "adaptive_max_pool2d", "adaptive_max_pool3d",
)  # fmt: skip
SUMS = ("add", "sub", "rsub")
AVERAGES = ("sum", "mean", "avg_pool1d", "avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d")
CONTRACTIONS = ("mm", "bmm", "mv", "dot", "addmm", "baddbmm", "addmv", "linear", "convolution", "_convolution")
NORMS = ("native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm")


@dataclass
class Bounds:
    """The domain of intervals.

    Attributes:
        leaves: bounds of parameters and inputs by the ids of their tensors; other tensors are themselves.
        restless: layers that normalise by the statistics of the batch: nothing is known behind them.
        unbounded: operations without a rule that were met, by layer.
    """

    leaves: Mapping[int, Interval]
    restless: Set[str] = frozenset()
    unbounded: dict[str, set[str]] = field(default_factory=dict)

    def leaf(self, tensor: Tensor) -> Interval:
        """Return the bounds of a parameter or an input, else the tensor itself."""
        if id(tensor) in self.leaves:
            return self.leaves[id(tensor)]
        return point(tensor) if tensor.is_floating_point() else Interval(tensor, tensor)

    def unknown(self, tensor: Tensor) -> Interval:
        """Return no bounds."""
        return everything(tensor)

    def apply(self, step: Step) -> list[Interval]:
        """Return bounds of every result of an operation."""
        outputs = as_tensors(step.result)
        if _is_known(step):
            return [Interval(x, x) if not x.is_floating_point() else point(x) for x in as_tensors(_both(step)[0])]
        rule = None if _is_hopeless(step) else _rule(step)
        if rule is None or step.layer in self.restless:
            if not plain_name(step).startswith("empty") and not _is_hopeless(step):
                self.unbounded.setdefault(step.layer, set()).add(plain_name(step))
            return [everything(x) for x in outputs]
        found = rule(_with_floats(step))
        found = [found] if isinstance(found, Interval) else found
        found = [sanitised(x) for x in found]
        return found + [everything(x) for x in outputs[len(found) :]]


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register the rule of operations, named without namespace; it gets a step whose tensors are intervals."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def _rule(step: Step) -> Rule | None:
    if _is_lost(step):
        return None
    found = RULES.get(plain_name(step))
    return found or (activated if step.activation is not None and step.activation.shape != "neither" else None)


def _is_lost(step: Step) -> bool:
    """Return whether the result is random or left over in memory, or an index is not known."""
    random = torch.Tag.nondeterministic_seeded in step.func.tags and step.activation is None
    if random or plain_name(step).startswith(("empty", "new_empty")):
        return True
    return plain_name(step) in MOVES and any(not x.known for x in _intervals(step) if not _floats(step, x))


def _is_hopeless(step: Step) -> bool:
    """Return whether a linear map has no bounds on one of its factors."""
    if plain_name(step) not in CONTRACTIONS:
        return False
    factors = [x for x in step.args[:3] if isinstance(x, Interval)]
    return any(bool(((x.lo == -math.inf) & (x.hi == math.inf)).all()) for x in factors)


def _floats(step: Step, x: Interval) -> bool:
    return not _indexes(step) or x is step.args[0]


def _indexes(step: Step) -> bool:
    return plain_name(step) in ("index", "index_select", "gather")


def _is_known(step: Step) -> bool:
    """Return whether the result is a function of known integers, or of nothing."""
    return not _is_lost(step) and all(x.known for x in _intervals(step))


def _intervals(step: Step) -> list[Interval]:
    found: list[Interval] = []
    tree_map_only(Interval, found.append, (step.args, dict(step.kwargs)))
    return found


def _with_floats(step: Step) -> Step:
    if _indexes(step):
        return step
    args, kwargs = tree_map_only(Interval, lambda x: x.double(), (step.args, dict(step.kwargs)))
    return step._replace(args=args, kwargs=kwargs)


def _both(step: Step) -> tuple[Any, Any]:
    """Return what the operation makes of all lower and of all upper bounds."""
    return _side(step, "lo"), _side(step, "hi")


def _side(step: Step, side: str) -> Any:
    def bound(x: Interval) -> Tensor:
        found: Tensor = getattr(x, side)
        return found.clone() if changes(step) else found

    args, kwargs = tree_map_only(Interval, bound, (step.args, dict(step.kwargs)))
    return step.func(*args, **kwargs)


def _dtype(step: Step) -> torch.dtype:
    kind = as_tensors(step.result)[0].dtype
    return kind if kind.is_floating_point else torch.float64


def _interval(item: Any) -> Interval:
    return item if isinstance(item, Interval) else point(torch.tensor(float(item), dtype=torch.float64))


@rule(*MOVES, *LARGEST)
def moved(step: Step) -> Result:
    """Return bounds of an operation that moves or chooses entries, and never decreases in any of them."""
    low, high = _both(step)
    return [Interval(a, b) for a, b in zip(as_tensors(low), as_tensors(high), strict=True)]


@rule(*POOLS)
def pooled(step: Step) -> Result:
    """Return bounds of maxima over windows; their places are unknown."""
    low, high = _both(step)
    return Interval(low[0], high[0])


@rule("view", "_unsafe_view", "reshape", "_reshape_alias")
def reshaped(step: Step) -> Interval:
    """Return bounds of a view."""
    x, shape = step.args[0], step.result.shape
    return Interval(x.lo.reshape(shape), x.hi.reshape(shape))


@rule("_to_copy", "copy")
def converted(step: Step) -> Interval:
    """Return bounds of a copy, perhaps in another dtype."""
    x = _spread(step.args[1 if plain_name(step) == "copy" else 0], step.result)
    return widened(x, step.result.dtype) if step.result.dtype.is_floating_point else everything(step.result)


@rule("fill", "zero")
def filled(step: Step) -> Interval:
    """Return bounds of a tensor of one number."""
    return _spread(_interval(step.args[1] if len(step.args) > 1 else 0.0), step.result)


@rule("zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full")
def constant_like(step: Step) -> Interval:
    """Return bounds of a tensor of one number in the shape of another."""
    number = step.arguments.get("fill_value", float("ones" in plain_name(step)))
    return point(torch.full(step.result.shape, number, device=step.result.device, dtype=torch.float64))


@rule("neg")
def negated(step: Step) -> Interval:
    """Return bounds of ``−x``."""
    return negative(step.args[0])


@rule(*SUMS)
def added(step: Step) -> Interval:
    """Return bounds of ``x ± alpha y``."""
    one, other = _interval(step.arguments["self"]), _interval(step.arguments["other"])
    name, alpha = plain_name(step), step.arguments.get("alpha", 1)
    if name == "rsub":
        one, other = other, one
    if alpha != 1:
        other = product(other, _interval(alpha), _dtype(step))
    return total([one, negative(other) if name != "add" else other], 1, _dtype(step))


@rule("mul")
def multiplied(step: Step) -> Interval:
    """Return bounds of ``x y``."""
    return product(_interval(step.args[0]), _interval(step.args[1]), _dtype(step))


@rule("div")
def divided(step: Step) -> Interval:
    """Return bounds of ``x / y``; none where ``y`` may be zero."""
    if step.arguments.get("rounding_mode") is not None:
        return everything(step.result)
    under = reciprocal(_interval(step.args[1]), _dtype(step))
    return product(_interval(step.args[0]), under, _dtype(step))


@rule("square")
def squared(step: Step) -> Interval:
    """Return bounds of ``x²``."""
    return product(step.args[0], step.args[0], _dtype(step))


@rule("pow")
def power(step: Step) -> Result:
    """Return bounds of ``x`` to a constant positive integer or the power 1/2."""
    x, exponent = step.args[0], step.args[1]
    if exponent == 0.5:
        return root(step)
    if isinstance(exponent, Interval) or exponent != int(exponent) or exponent <= 0 or not isinstance(x, Interval):
        return everything(step.result)
    base = magnitude(x) if exponent % 2 == 0 else x
    return outward(_signs(base.hi**exponent), _signs(base.lo**exponent), int(exponent) + 8, _dtype(step))


def _signs(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.clamp_min(0), (-x).clamp_min(0)


@rule("abs")
def absolute(step: Step) -> Interval:
    """Return bounds of ``|x|``."""
    return magnitude(step.args[0])


@rule("exp", "expm1")
def increasing(step: Step) -> Interval:
    """Return bounds of an increasing function of all real numbers."""
    return widened(Interval(*_both(step)), _dtype(step))


@rule("sqrt", "log", "log1p")
def root(step: Step) -> Interval:
    """Return bounds of an increasing function that is not defined everywhere; none where it is not."""
    low, high = _both(step)
    found = widened(Interval(low, high), _dtype(step))
    safe = ~low.isnan()
    return Interval(torch.where(safe, found.lo, -math.inf), torch.where(safe, found.hi, math.inf))


@rule("rsqrt")
def inverse_root(step: Step) -> Interval:
    """Return bounds of ``1/√x``."""
    low, high = _both(step)
    safe = step.args[0].lo > 0
    return widened(Interval(torch.where(safe, high, -math.inf), torch.where(safe, low, math.inf)), _dtype(step))


@rule("reciprocal")
def inverse(step: Step) -> Interval:
    """Return bounds of ``1/x``."""
    return reciprocal(step.args[0], _dtype(step))


@rule("sin", "cos")
def wave(step: Step) -> Interval:
    """Return the range of a sine."""
    return widened(between(-1, 1, step.result), _dtype(step))


@rule("_softmax", "_safe_softmax")
def softmax(step: Step) -> Interval:
    """Return the range of a softmax."""
    return widened(between(0, 1, step.result), _dtype(step))


@rule("_log_softmax")
def log_softmax(step: Step) -> Interval:
    """Return the range of a log-softmax."""
    return between(-math.inf, 0, step.result)


@rule("_prelu_kernel")
def prelu(step: Step) -> Interval:
    """Return bounds of ``max(x, 0) + a min(x, 0)``."""
    x, slope = step.args
    right = Interval(x.lo.clamp_min(0), x.hi.clamp_min(0))
    left = Interval(x.lo.clamp_max(0), x.hi.clamp_max(0))
    return total([right, product(left, slope, _dtype(step))], 1, _dtype(step))


def activated(step: Step) -> Interval:
    """Return bounds of an activation of the table: from its ends, and from its minimum where that is inside."""
    f, x = step.activation, step.args[0]
    assert f is not None
    low, high = (as_tensors(side)[0] for side in _both(step))
    if f.shape == "monotone":
        return _within(f, Interval(low, high), x, _dtype(step))
    low, high = low.nan_to_num(0.0), high.nan_to_num(0.0, posinf=math.inf)
    inside = (x.lo <= f.turning) & (f.turning <= x.hi)
    least = torch.minimum(low, high).masked_fill(inside, f.low)
    return _within(f, Interval(least, torch.maximum(low, high)), x, _dtype(step))


def _within(f: Activation, bounds: Interval, x: Interval, dtype: torch.dtype) -> Interval:
    """Return bounds widened by rounding, within the range of a monotone activation."""
    if f.exact:
        return bounds
    wide = widened(bounds, dtype, x)
    if f.shape != "monotone":
        return wide
    unit = ULPS * torch.finfo(dtype).eps
    lowest = f.low - unit * abs(f.low) if f.low > -math.inf else f.low
    highest = f.high + unit * abs(f.high) if f.high < math.inf else f.high
    return Interval(wide.lo.clamp_min(lowest), wide.hi.clamp_max(highest))


@rule("where")
def chosen(step: Step) -> Result:
    """Return bounds of one of two tensors, of both where the condition is not known."""
    condition, one, other = (_interval(x) for x in step.args)
    both = hull(*(_spread(x, step.result) for x in (one, other)))
    yes, no = condition.lo > 0, condition.hi <= 0
    lo = torch.where(yes, one.lo, torch.where(no, other.lo, both.lo))
    return Interval(lo, torch.where(yes, one.hi, torch.where(no, other.hi, both.hi)))


@rule("masked_fill")
def masked(step: Step) -> Result:
    """Return bounds of a tensor that is one number where a mask is true."""
    return chosen(step._replace(args=(step.args[1], step.args[2], step.args[0])))


def _spread(x: Interval, like: Tensor) -> Interval:
    return Interval(x.lo.expand(like.shape), x.hi.expand(like.shape))


@rule("embedding")
def looked_up(step: Step) -> Interval:
    """Return bounds of rows of a table: of all rows, whichever are looked up."""
    table = step.args[0]
    return _spread(Interval(table.lo.amin(0), table.hi.amax(0)), step.result)


@rule(*AVERAGES)
def averaged(step: Step) -> Interval:
    """Return bounds of a sum or mean."""
    x, options = step.args[0], {k: v for k, v in step.kwargs.items() if k != "dtype"}
    return average(lambda t: step.func(t, *step.args[1:], **options), x, _window(step), _dtype(step))


def _window(step: Step) -> int:
    """Return at least the number of entries that one result is made of."""
    x, kernel = step.args[0].lo, step.arguments.get("kernel_size")
    if plain_name(step) in ("sum", "mean"):
        return x.numel() // max(step.result.numel(), 1)
    rank = int(plain_name(step)[-2])
    if kernel is not None:
        return math.prod(kernel) if len(kernel) == rank else kernel[0] ** rank
    return math.prod(-(-a // b) + 1 for a, b in zip(x.shape[-rank:], step.result.shape[-rank:], strict=True))


@rule("mm", "bmm", "mv", "dot")
def matrix_product(step: Step) -> Interval:
    """Return bounds of a product of matrices."""
    return bilinear(torch.matmul, step.args[0], step.args[1], step.args[0].lo.shape[-1], _dtype(step))


@rule("addmm", "baddbmm", "addmv")
def affine_product(step: Step) -> Interval:
    """Return bounds of ``b + x y``."""
    bias, x, y = step.args[:3]
    if {step.arguments["alpha"], step.arguments["beta"]} != {1}:
        return everything(step.result)
    return bilinear(torch.matmul, x, y, x.lo.shape[-1], _dtype(step), bias)


@rule("linear")
def linear(step: Step) -> Interval:
    """Return bounds of ``x Wᵀ + b``."""
    x, weight, bias = (step.arguments[k] for k in ("input", "weight", "bias"))
    return bilinear(torch.nn.functional.linear, x, weight, x.lo.shape[-1], _dtype(step), bias)


@rule("convolution", "_convolution")
def convolved(step: Step) -> Interval:
    """Return bounds of a convolution."""
    x, weight, bias = step.args[:3]
    inner = weight.lo.shape[0 if step.arguments["transposed"] else 1]
    terms = inner * math.prod(weight.lo.shape[2:])
    places = (-1, *[1] * (x.lo.ndim - 2))
    shift = None if bias is None else Interval(bias.lo.reshape(places), bias.hi.reshape(places))
    return bilinear(lambda a, b: step.func(a, b, None, *step.args[3:]), x, weight, terms, _dtype(step), shift)


@rule(*NORMS)
def normalised(step: Step) -> Interval:
    """Return bounds of BatchNorm with running statistics, ``α x − α μ + β`` with ``α = γ / √(σ² + ε)``."""
    given, dtype = step.arguments, _dtype(step)
    mean, variance = given["running_mean"], given["running_var"]
    if given.get("training") or mean is None or variance is None:
        return everything(as_tensors(step.result)[0])
    places = (1, -1, *[1] * (given["input"].lo.ndim - 2))
    scale = point((variance.lo + given.get("eps", given.get("epsilon"))).rsqrt())
    scale = scale if given["weight"] is None else product(scale, given["weight"], dtype)
    shift = [product(scale, negative(mean), dtype)] + ([given["bias"]] if given["bias"] is not None else [])
    shape = [Interval(p.lo.reshape(places), p.hi.reshape(places)) for p in (scale, *shift)]
    return total([product(given["input"], shape[0], dtype), *shape[1:]], 8, dtype)


def boxed(inputs: Sequence[Tensor], box: tuple[Any, Any]) -> list[Interval]:
    """Return the bounds of inputs: the box for real numbers, none for integers and truth values.

    Raises:
        ValueError: if the box is empty, holds NaN, or does not fit the inputs.

    >>> boxed([torch.ones(1, 2)], (-1, 1))[0].lo.tolist()
    [[-1.0, -1.0]]
    """
    reals = [x for x in inputs if x.is_floating_point()]
    if len(reals) > 1 and any(isinstance(bound, Tensor) and bound.ndim for bound in box):
        raise ValueError(f"box: the model has {len(reals)} real inputs; give two numbers, which bound all of them")
    return [_one_box(x, box) if x.is_floating_point() else everything(x) for x in inputs]


def _one_box(x: Tensor, box: tuple[Any, Any]) -> Interval:
    low, high = (torch.as_tensor(bound, dtype=torch.float64, device=x.device) for bound in box)
    try:
        low, high = low.expand(x.shape), high.expand(x.shape)
    except RuntimeError as error:
        shapes = f"{tuple(low.shape)} and {tuple(high.shape)}"
        raise ValueError(f"box: bounds of shapes {shapes} do not fit inputs of shape {tuple(x.shape)}") from error
    if not bool((low <= high).all()):
        raise ValueError("box: a lower bound exceeds its upper bound, or is NaN; give (low, high) with low ≤ high")
    return Interval(low, high)


def parameter_balls(parameters: Mapping[str, Tensor], radius: float) -> dict[int, Interval]:
    """Return ``[w − radius, w + radius]`` for every weight, by the ids of the parameters.

    >>> w = torch.ones(2)
    >>> parameter_balls({"w": w}, 0.0)[id(w)].hi.tolist()
    [1.0, 1.0]
    """
    return {id(p): around(p, radius) for p in parameters.values()}
