"""Sizes that modules keep as integers, and how a clone finds which of them have to grow.

A layer that names a size in a view, a split or a slice keeps it somewhere: as an integer of its own, or in its
configuration (``module.config``). Two axes of one base size may become different, and an integer may have a size
by chance, so the values are tried. The layer at which the clone stops says which integers to try next, so that the
work grows with the number of layers and not exponentially.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn
from torch.utils.hooks import RemovableHandle

from torch_experiments.cloning.plan import Plan
from torch_experiments.units.axes import Axis
from torch_experiments.units.hooks import hooked
from torch_experiments.units.inputs import DOES_NOT_RUN

TRIES = 64  # choices of integers, six with two values each; a try costs a forward pass
RECENT = 8  # modules that returned last before a clone stops, whose integers are tried after those that run
CONFIGURATION = "config"
WRONG_SIZES = (*DOES_NOT_RUN, ZeroDivisionError)  # what sizes of two layers that do not fit raise
Setting = list[tuple[list[str], str, Any]]
Choice = dict[int, Any]  # by the place of an option, its value


class Option(NamedTuple):
    """An integer of some layers, or of their configuration, and the values to try, the likeliest first.

    Attributes:
        layers: their names.
        attribute: ``"heads"`` of the module, or ``"config.heads"``.
        values: one of them is the present one.
    """

    layers: list[str]
    attribute: str
    values: list[Any]


class Stop(NamedTuple):
    """Where a network did not run.

    Attributes:
        running: names of the modules that were running, the innermost last.
        returned: names of the modules that had returned, a name a call, the latest last.
        error: what was raised.
    """

    running: tuple[str, ...]
    returned: tuple[str, ...]
    error: Exception

    @property
    def suspects(self) -> dict[str, int]:
        """Modules whose integers may be wrong, the less likely ones with the larger number."""
        likely = [*reversed(self.running), *reversed(self.returned[-RECENT:])]
        return {name: k for k, name in reversed([*enumerate(likely)])}


def settings(wide: nn.Module, plan: Plan, run: Callable[[], object]) -> Iterator[Setting]:
    """Yield choices of the integers of ``wide``: one with which ``run()`` runs, then others near it.

    Whether the function is that of the base is for the caller to decide.
    """
    own = list(options(wide, plan))
    several = [*own, *configured(wide, plan), *compared(wide, plan)]
    found = running(wide, several, run)
    for changed in itertools.islice(_changes(own, range(len(own)), found), TRIES):
        yield [(o.layers, o.attribute, changed[k]) for k, o in enumerate(several)]


def running(wide: nn.Module, several: Sequence[Option], run: Callable[[], object]) -> Choice:
    """Return values with which ``run()`` gets through, or as far as can be; those of ``wide`` are set to them."""
    found: Choice = {k: option.values[0] for k, option in enumerate(several)}
    _set(wide, several, found)
    stop = stopped(wide, run)
    while stop is not None:
        places = stop.suspects
        near = [k for k, option in enumerate(several) if any(name in places for name in option.layers)]
        near.sort(key=lambda k: min(places.get(name, len(places)) for name in several[k].layers))
        for changed in itertools.islice(_changes(several, near, found), 1, TRIES):
            _set(wide, several, changed)
            after = stopped(wide, run)
            if after is None or len(after.returned) > len(stop.returned):
                found, stop = changed, after
                break
        else:
            _set(wide, several, found)
            return found
    return found


def stopped(model: nn.Module, run: Callable[[], object]) -> Stop | None:
    """Return where ``run()``, which calls ``model``, does not run; None if it does.

    >>> import torch
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3, 1))
    >>> stopped(model, lambda: model(torch.ones(2, 4)))[:2]
    (('', '1'), ('0',))
    """
    names: list[str] = []
    returned: list[str] = []
    with hooked(_following(model, names, returned)):
        try:
            run()
        except WRONG_SIZES as error:
            return Stop(tuple(names), tuple(returned), error)
    return None


def apply(wide: nn.Module, setting: Setting) -> None:
    """Set the integers of a choice."""
    for layers, attribute, value in setting:
        for layer in layers:
            home, _, own = attribute.rpartition(".")
            module = wide.get_submodule(layer)
            setattr(getattr(module, home) if home else module, own, value)


def _set(wide: nn.Module, several: Sequence[Option], choice: Choice) -> None:
    apply(wide, [(option.layers, option.attribute, choice[k]) for k, option in enumerate(several)])


def _changes(several: Sequence[Option], near: Sequence[int], start: Choice) -> Iterator[Choice]:
    """Yield choices that differ from ``start`` in none, one, two, … of the options ``near``."""
    for count in range(len(near) + 1):
        for some in itertools.combinations(near, count):
            others = [[value for value in several[k].values if value != start[k]] for k in some]
            for values in itertools.product(*others):
                yield start | dict(zip(some, values, strict=True))


def _following(model: nn.Module, names: list[str], returned: list[str]) -> Iterator[RemovableHandle]:
    """Keep the names of the modules that are running, the innermost last, and of those that returned."""

    def leave(*_: Any) -> None:
        returned.append(names.pop())

    for name, module in model.named_modules():
        yield module.register_forward_pre_hook(lambda *_, name=name: names.append(name))
        yield module.register_forward_hook(leave)


def options(wide: nn.Module, plan: Plan) -> Iterator[Option]:
    """Yield an option for every integer that a layer may have named, shared by the layers of one class."""
    groups: dict[tuple[type, str, Any, tuple[Any, ...]], list[str]] = {}
    for layer, sizes in named_sizes(plan).items():
        module, known = wide.get_submodule(layer), plan.graph.attributes.get(layer, {})
        for attribute, value in vars(module).items():
            named = attribute not in known and isinstance(
                value, int | tuple
            )  # tensors among them have no truth value
            found = tuple(_replacements(value, sizes)) if named else ()
            if any(new != value for new in found):
                groups.setdefault((type(module), attribute, value, found), []).append(layer)
    for (_, attribute, value, found), layers in groups.items():
        kept_first = value in found
        yield Option(layers, attribute, sorted({*found, value}, key=lambda new: (new == value) != kept_first))


def configured(wide: nn.Module, plan: Plan) -> Iterator[Option]:
    """Yield an option for every integer of a configuration that layers share and may have named.

    Most layers have copied what they need, so the present value comes first.
    """
    groups: dict[tuple[int, str], tuple[Any, list[str], dict[Any, None]]] = {}
    for layer, sizes in named_sizes(plan).items():
        configuration = vars(wide.get_submodule(layer)).get(CONFIGURATION)
        for attribute, value in getattr(configuration, "__dict__", {}).items():
            found = [new for new in _replacements(value, sizes) if new != value] if type(value) is int else []
            if found:
                group = groups.setdefault((id(configuration), attribute), (value, [], {}))
                group[1].append(layer)
                group[2].update(dict.fromkeys(found))
    for (_, attribute), (value, layers, found_) in groups.items():
        yield Option(layers, f"{CONFIGURATION}.{attribute}", [value, *found_])


def compared(wide: nn.Module, plan: Plan) -> Iterator[Option]:
    """Yield an option for every other integer of a layer that is a size within it.

    A check of a shape, or a slice that takes all, names no size to an operation. The present value comes first.
    """
    named = named_sizes(plan)
    for layer, sizes in _within(plan).items():
        module, known = wide.get_submodule(layer), plan.graph.attributes.get(layer, {})
        for attribute, value in vars(module).items():
            if type(value) is int and attribute not in known and value not in named.get(layer, {}):
                found = [new for new in sizes.get(value, []) if new != value]
                if found:
                    yield Option([layer], attribute, [value, *found])


def _within(plan: Plan) -> dict[str, dict[int, list[int]]]:
    """Return for every layer the sizes of what it returns and of parameters in it, each with what it becomes."""
    graph = plan.graph
    homes = [(name.rpartition(".")[0], graph.parameters[name].axes) for name in graph.used]
    around = [(home.rpartition(".")[0], axes) for home, axes in homes]
    beyond = [(home.rpartition(".")[0], axes) for home, axes in around]
    returned = ((name, value.axes) for name, value in graph.outputs.items())
    found = [*homes, *around, *beyond, *returned]
    return _becoming(plan, ((layer, axis) for layer, axes in found if layer for axis in axes))


def named_sizes(plan: Plan) -> dict[str, dict[int, list[int]]]:
    """Return for every layer the sizes that it named, each with what it becomes."""
    return _becoming(plan, plan.graph.sizes)


def _becoming(plan: Plan, axes: Iterable[tuple[str, Axis]]) -> dict[str, dict[int, list[int]]]:
    """Return by layer the sizes of axes in the base, each with those that it has in the clone."""
    found: dict[str, dict[int, list[int]]] = {}
    for layer, axis in axes:
        sizes = found.setdefault(layer, {}).setdefault(axis.size, [])
        if plan.size(axis) not in sizes:
            sizes.append(plan.size(axis))
    return found


def _replacements(value: Any, sizes: Mapping[int, list[int]]) -> list[Any]:
    if isinstance(value, int) and not isinstance(value, bool):
        return sizes.get(value, [value])
    if isinstance(value, tuple) and value and all(type(v) is int for v in value):
        return [tuple(max(sizes.get(v, [v])) for v in value)]
    return [value]
