"""Activations that are spelled out: functions of one tensor, entry by entry, made of several operations.

``torch.maximum(h, 0)``, ``h * (h > 0)``, ``torch.where(h > 0, h, 0)``, ``(h + |h|) / 2``, ``h / (1 + |h|)`` and
``h (1 + tanh(…)) / 2`` are activations without a name. Every tensor of a trace has the tensors that it is such a
function of: those that it is computed from by pointwise operations alone, all its other arguments being constants.
The nearest one that no activation with a name hides is the pre-activation ``z``. What is read elsewhere, and bends
``z`` in a way that may be flat, is a composite activation; its slope is what torch.autograd makes of all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from torch_experiments.certificates.frozen.replay import as_tensors, changes, plain_name
from torch_experiments.support.torch_private import tree_map_only
from torch_experiments.units.graph import Graph, Step
from torch_experiments.units.inputs import flatten
from torch_experiments.units.reads import home

COMPARISONS = frozenset({"gt", "lt", "ge", "le", "eq", "ne"})
JUMPS = COMPARISONS | {"sign", "sgn", "heaviside", "logical_not", "bitwise_not", "logical_and", "bitwise_and"}
# With these alone a function is made of straight pieces: where its slope is zero, it is constant.
STRAIGHT = JUMPS | {"where", "masked_fill", "maximum", "minimum", "abs", "clamp", "clamp_min", "clamp_max", "relu",
                    "leaky_relu", "hardtanh", "threshold", "hardshrink", "softshrink", "hardsigmoid"}  # fmt: skip
SAME = frozenset({"alias", "detach", "clone", "contiguous", "_to_copy", "lift_fresh"})
SUMS = SAME | {"add", "sub", "rsub", "neg"}
UNTAGGED = frozenset({*SAME, "masked_fill", "hardswish", "where"})
CONSTANTS = frozenset({"zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full"})
EXPONENTIALS = frozenset({"exp", "expm1", "exp2"})


@dataclass(frozen=True, eq=False)
class Composite:
    """An activation ``f`` of several operations, or of one without a name.

    Attributes:
        argument: the tensor ``z`` of the trace.
        steps: its operations, in the order in which they ran; the last one returns ``f(z)``.
        bends: those of them in which ``z`` does not enter linearly.
        straight: whether ``f`` is made of straight pieces.
    """

    argument: Tensor
    steps: tuple[Step, ...]
    bends: tuple[Step, ...]
    straight: bool

    @property
    def name(self) -> str:
        """The operations that bend ``z``, and the last one."""
        return "·".join(dict.fromkeys(plain_name(step) for step in (*self.bends, self.steps[-1])))

    def value(self, ran: Mapping[int, Step], z: Tensor) -> Tensor:
        """Return ``f(z)``, for operations as they ``ran`` on other inputs, by number."""
        values = {id(self.found(ran)): z}
        y = z
        for step in self.steps:
            now = ran[step.number]
            args, kwargs = tree_map_only(Tensor, lambda t: values.get(id(t), t), (now.args, dict(now.kwargs)))
            y = as_tensors(now.func(*args, **kwargs))[0]
            values[id(as_tensors(now.result)[0])] = y
        return y

    def found(self, ran: Mapping[int, Step]) -> Tensor:
        """Return what stood for ``z`` when the operations ``ran``."""
        for step in self.steps:
            given = flatten([step.args, step.kwargs]), flatten([ran[step.number].args, ran[step.number].kwargs])
            for mine, theirs in zip(*given, strict=True):
                if mine is self.argument:
                    return theirs
        raise AssertionError("no operation of a composite reads its argument")


@dataclass(frozen=True)
class _From:
    """What a tensor is a function of, the nearest first: the other tensor's id, and the numbers of the steps."""

    roots: Mapping[int, frozenset[int]] = field(default_factory=dict)


CONSTANT = _From()


class _Lineages:
    """The lineages of all tensors of a trace."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.known: dict[int, _From] = {}
        self.tensors: dict[int, Tensor] = {}
        self.sources = {id(t) for t, _ in graph.values.values() if isinstance(t, nn.Parameter)}
        self.sources |= {id(t) for t in graph.given}
        self.changed = {home(t) for step in graph.steps for t in step.written}
        self.readers: dict[int, list[Step]] = {}
        for step in graph.steps:
            self._follow(step)

    def of(self, tensor: Tensor) -> _From:
        """Return the lineage of a tensor; one from outside the trace is a parameter, an input or a constant."""
        if id(tensor) not in self.known:
            self._new(tensor, _source(tensor) if id(tensor) in self.sources else CONSTANT)
        return self.known[id(tensor)]

    def _new(self, tensor: Tensor, lineage: _From) -> None:
        self.known[id(tensor)], self.tensors[id(tensor)] = lineage, tensor

    def _follow(self, step: Step) -> None:
        given = {id(t): t for t in flatten([step.args, step.kwargs])}.values()
        for tensor in given:
            self.readers.setdefault(id(tensor), []).append(step)
        results = as_tensors(step.result)
        lineage = self._lineage(step, given, results)
        for k, tensor in enumerate([*results, *step.written]):
            self._new(tensor, _source(tensor) if lineage is None or k else lineage)

    def _lineage(self, step: Step, given: Collection[Tensor], results: list[Tensor]) -> _From | None:
        """Return the lineage of a result; None if it is a tensor of its own."""
        name = plain_name(step)
        random = torch.Tag.nondeterministic_seeded in step.func.tags
        if name in CONSTANTS or not given:
            return None if random or changes(step) else CONSTANT
        pointwise = torch.Tag.pointwise in step.func.tags or name in UNTAGGED
        found = [lineage.roots for t in given if (lineage := self.of(t)) is not CONSTANT]
        if random or changes(step) or not results:
            return None
        if not found:
            return CONSTANT
        if not pointwise:
            return None
        common = [root for root in found[0] if all(root in roots for roots in found)]
        shape = results[0].shape
        kept = [root for root in common if self.tensors[root].shape == shape and self._is_kept(root)]
        if not kept:
            return None
        merged = {root: frozenset({step.number}).union(*(roots[root] for roots in found)) for root in kept}
        itself: dict[int, frozenset[int]] = {id(results[0]): frozenset()} if step.activation is not None else {}
        return _From(itself | merged)

    def _is_kept(self, root: int) -> bool:
        """Return whether a tensor stays what it is: none that shares its memory is changed in place."""
        return home(self.tensors[root]) not in self.changed


_KNOWN: WeakKeyDictionary[Graph, list[Composite]] = WeakKeyDictionary()  # a graph does not change once it is traced


def composites(graph: Graph) -> list[Composite]:
    """Return the composite activations of a trace, in order; none of them is a part of another one alone.

    >>> from torch_experiments.units import trace
    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.a, self.b = nn.Linear(2, 3), nn.Linear(3, 1)
    ...     def forward(self, x):
    ...         h = self.a(x)
    ...         return self.b(h * (h > 0))
    >>> [f.name for f in composites(trace(Net(), torch.ones(2, 2)))]
    ['gt·mul']
    """
    if graph not in _KNOWN:
        _KNOWN[graph] = _composites(graph)
    return _KNOWN[graph]


def _composites(graph: Graph) -> list[Composite]:
    lineages = _Lineages(graph)
    returned = {id(tensor) for tensor in graph.returned}
    covered: set[int] = set()
    found: list[Composite] = []
    for step in reversed(graph.steps):
        for tensor in as_tensors(step.result)[:1]:
            lineage = lineages.known[id(tensor)]
            alone = all(reader.number in covered for reader in lineages.readers.get(id(tensor), []))
            if (alone and id(tensor) not in returned) or not lineage.roots or not tensor.is_floating_point():
                continue
            root, numbers = next(iter(lineage.roots.items()))
            composite = _composite(graph, lineages.tensors[root], numbers) if step.number in numbers else None
            if composite is not None:
                covered |= numbers
                found.append(composite)
    return found[::-1]


def hidden_within(graph: Graph, found: Sequence[Composite]) -> set[int]:
    """Return the numbers of the steps within composites whose results nothing but composites reads."""
    covered = {step.number for f in found for step in f.steps}
    ends = {f.steps[-1].number for f in found}
    returned = {id(tensor) for tensor in graph.returned}
    read = {id(t) for s in graph.steps if s.number not in covered for t in flatten([s.args, s.kwargs])} | returned
    inner = (step for f in found for step in f.steps if step.number not in ends)
    return {step.number for step in inner if not any(id(t) in read for t in flatten([step.result]))}


def _composite(graph: Graph, argument: Tensor, numbers: Set[int]) -> Composite | None:
    """Return the function of some steps, None if it is nowhere flat for what is known of its operations."""
    steps = tuple(graph.steps[number] for number in sorted(numbers))
    bends = tuple(_bends(steps, argument))
    names = [plain_name(step) for step in bends]
    levels = any(name in STRAIGHT or step.activation is not None for name, step in zip(names, bends, strict=True))
    if not levels and not (len(bends) > 1 and EXPONENTIALS.intersection(names)):
        return None
    if not argument.is_floating_point() or (len(steps) == 1 and steps[0].activation is not None):
        return None
    jumps = _jumps(steps)
    if id(as_tensors(steps[-1].result)[0]) in jumps:  # whose gradient, if there is one, is a surrogate
        return None
    straight = all(
        plain_name(step) in STRAIGHT
        or (plain_name(step) == "mul" and any(id(t) in jumps for t in flatten([step.args])))
        for step in bends
    )
    return Composite(argument, steps, bends, straight)


def _bends(steps: Sequence[Step], argument: Tensor) -> Iterator[Step]:
    """Yield the steps that are not linear in those of their arguments that depend on ``argument``."""
    depends = {id(argument)}
    for step in steps:
        own = [id(t) in depends for t in step.args if isinstance(t, Tensor)]
        depends |= {id(t) for t in as_tensors(step.result)}
        name = plain_name(step)
        linear = (
            name in SUMS
            or (name == "mul" and sum(own) == 1)
            or (name == "div" and not own[-1] and step.arguments.get("rounding_mode") is None)
            or (name == "div" and len(own) == 1 and isinstance(step.args[0], Tensor))
            or (name == "where" and not own[0])
            or (name == "masked_fill" and not own[1])
        )
        if not linear:
            yield step


def _jumps(steps: Sequence[Step]) -> set[int]:
    """Return the ids of the results that are constant between jumps."""
    found: set[int] = set()
    for step in steps:
        name, given = plain_name(step), [t for t in step.args if isinstance(t, Tensor)]
        if name in JUMPS or (name in SUMS | {"mul"} and given and all(id(t) in found for t in given)):
            found |= {id(t) for t in as_tensors(step.result)}
    return found


def _source(tensor: Tensor) -> _From:
    return _From({id(tensor): frozenset()})
