"""Why entries of parameters that no certificate holds get no gradient on a batch.

The reason is the likeliest one, read off the trace: what reads the parameter (an embedding, an index, a mask), what
its inputs are on the batch, and what lies behind its units before the next linear map.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn

from torch_experiments.certificates.frozen.replay import plain_name
from torch_experiments.certificates.oracle import Reach
from torch_experiments.units.graph import Graph, Step
from torch_experiments.units.inputs import flatten

LOOKUPS = ("embedding", "_embedding_bag", "_embedding_bag_forward_only")
CHOICES = ("index", "index_select", "gather", "slice", "select", "narrow")
MOVED = ("t", "transpose", "permute", "view", "_unsafe_view", "reshape", "expand", "unsqueeze", "squeeze", "detach",
         "alias", "clone", "_to_copy", "unbind", "split", "split_with_sizes", "cat")  # fmt: skip
MAPS = ("mm", "addmm", "bmm", "baddbmm", "linear", "convolution", "_convolution", "mv", "addmv")
PLAIN = (*MOVED, "add", "sub", "sum", "mean", "div", "native_dropout", "dropout")


STOPPED = "its gradient is stopped on the way to the loss (detach, no_grad, or an output that is not used)"


@dataclass(frozen=True)
class Unreached:
    """Entries of one parameter without gradient, for one reason.

    Attributes:
        parameter: its name.
        entries: their number.
        size: entries of the parameter.
        why: the likeliest reason.
    """

    parameter: str
    entries: int
    size: int
    why: str


def unreached(
    model: nn.Module, graph: Graph, reach: Reach, certified: Mapping[str, Tensor]
) -> tuple[Unreached, ...]:
    """Return the entries that the oracle did not reach and no certificate holds, by parameter and reason.

    Args:
        model: the network.
        graph: of its trace.
        reach: what real backward passes reached.
        certified: by parameter, entries whose gradient is certified to be zero, bool.
    """
    if reach.refused:
        return ()
    found: list[Unreached] = []
    reasons = _Reasons(graph)
    for name, mask in reach.masks.items():
        open_ = ~mask if name not in certified else ~mask & ~certified[name].to(mask.device)
        if bool(open_.any()):
            for why, part in reasons.of(name, open_, name in reach.stopped):
                found.append(Unreached(name, int(part.sum()), open_.numel(), why))
    return tuple(found)


class _Reasons:
    """The reasons that a trace gives."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.readers: dict[int, list[Step]] = {}
        for step in graph.steps:
            for tensor in {id(t): t for t in flatten(step.arguments)}.values():
                self.readers.setdefault(id(tensor), []).append(step)
        whole = ((v.source[0], t) for t, v in graph.values.values() if v.source and _whole(t, v.source[1]))
        self.parameters = dict(reversed([*whole]))  # the first one is the parameter, later ones casts of it

    def of(self, name: str, entries: Tensor, stopped: bool) -> Iterator[tuple[str, Tensor]]:
        """Yield reasons with the entries that they are about; together they are ``entries``."""
        first = self.graph.aliases.get(name, name)
        if first not in self.graph.used:
            yield "not read on this batch", entries
            return
        if stopped:
            yield STOPPED, entries
            return
        rest = entries
        ways = (self._by_reader, self._by_input, self._by_output)
        for why, lines in chain.from_iterable(way(first, entries) for way in ways):
            part = lines & rest
            if bool(part.any()):
                rest = rest & ~part
                yield why, part
        if bool(rest.any()):
            yield "no sample gives it a gradient", rest

    def _by_reader(self, name: str, entries: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Look-ups, choices of rows, and masks, by the operations that read the parameter itself."""
        parameter = self.parameters.get(name)
        for step in self.readers.get(id(parameter), []) if parameter is not None else []:
            kind = plain_name(step)
            if kind in LOOKUPS:
                yield from _of_lookup(step, entries)
            elif kind == "mul":
                factor = next((t for t in flatten(step.args) if t is not parameter), None)
                if factor is not None and _is_constant(self.graph, factor):
                    yield "a mask multiplies it by zero", (factor == 0).to(entries.device).expand_as(entries)
            elif kind in CHOICES:
                rows = entries.flatten(1).all(1) if entries.ndim > 1 else entries
                yield "rows that no sample reads", rows.reshape(-1, *[1] * (entries.ndim - 1)).expand_as(entries)

    def _by_input(self, name: str, entries: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Columns whose input is zero on all samples."""
        parameter = self.parameters.get(name)
        if parameter is None or parameter.ndim < 2:
            return
        for step in self._maps(parameter):
            read = (t for t in flatten(step.args) if t.is_floating_point() and not self._leads_to(t, parameter))
            x = next(read, None)
            axis = 1 if plain_name(step) in ("convolution", "_convolution") else -1
            if x is None or x.ndim < 2 or parameter.ndim < 2 or x.shape[axis] != parameter.shape[1]:
                continue
            silent = (x == 0).movedim(axis, 0).flatten(1).all(1).to(entries.device)
            yield (
                "its input is zero on every sample (a constant feature, or a silent unit)",
                silent.reshape(1, -1, *[1] * (entries.ndim - 2)).expand_as(entries),
            )

    def _by_output(self, name: str, entries: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Rows behind whose units something passes no gradient back; it names what lies there."""
        parameter = self.parameters.get(name)
        rows = entries.flatten(1).all(1) if entries.ndim > 1 else entries
        if parameter is None or not bool(rows.any()):
            return
        behind = sorted(self._behind(parameter))
        said = "nothing passes a gradient back to these units"
        yield (
            f"{said}; behind them lie {', '.join(behind)}" if behind else said,
            rows.reshape(rows.shape + (1,) * (entries.ndim - rows.ndim)).expand_as(entries),
        )

    def _maps(self, parameter: Tensor) -> Iterator[Step]:
        """Yield the linear maps that read a parameter, directly or moved."""
        todo, seen = [parameter], set()
        while todo:
            tensor = todo.pop()
            for step in self.readers.get(id(tensor), []):
                if step.number in seen:
                    continue
                seen.add(step.number)
                if plain_name(step) in MAPS:
                    yield step
                elif plain_name(step) in MOVED:
                    todo += list(flatten([step.result]))

    def _leads_to(self, tensor: Tensor, parameter: Tensor) -> bool:
        known = self.graph.values.get(id(tensor))
        return tensor is parameter or (known is not None and known[1].source is not None)

    def _behind(self, parameter: Tensor) -> set[str]:
        """Return the nonlinear operations between the units that a parameter makes and the next linear map."""
        names: set[str] = set()
        todo, seen, entered = [parameter], set(), False
        while todo:
            tensor = todo.pop()
            for step in self.readers.get(id(tensor), []):
                kind = plain_name(step)
                beyond = kind in MAPS and entered and tensor is not parameter and self._is_unit(tensor)
                if step.number in seen or beyond:
                    continue
                seen.add(step.number)
                entered |= kind in MAPS
                if kind not in (*PLAIN, *MAPS):
                    names.add(kind)
                todo += [*flatten([step.result]), *step.written]
        return names

    def _is_unit(self, tensor: Tensor) -> bool:
        known = self.graph.values.get(id(tensor))
        return known is None or known[1].source is None


def _whole(tensor: Tensor, order: tuple[int, ...]) -> bool:
    return order == tuple(range(tensor.ndim))


def _is_constant(graph: Graph, tensor: Tensor) -> bool:
    known = graph.values.get(id(tensor))
    made = any(tensor is result for step in graph.steps for result in flatten([step.result]))
    return not made and (known is None or known[1].source is None or known[1].source[0] not in graph.matrices)


def _of_lookup(step: Step, entries: Tensor) -> Iterator[tuple[str, Tensor]]:
    given = step.arguments
    index = given.get("indices")
    read = torch.zeros(len(entries), dtype=torch.bool, device=entries.device)
    if isinstance(index, Tensor):
        read[index.flatten().to(entries.device)] = True
    padding = given.get("padding_idx", -1)
    if isinstance(padding, int) and padding >= 0:
        row = torch.zeros_like(read)
        row[padding] = True
        yield "the row of padding", row[:, None].expand_as(entries)
    yield "rows that no sample reads", (~read)[:, None].expand_as(entries)
