"""What the library answers to one architecture, and whether the answer is right."""

from __future__ import annotations

import signal
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from lop import certify, clone, diagnose, remedies
from tests.zoo.registry import Architecture
from theory.tolerances import APART, TWINS, of_dtype
from torch_experiments.certificates import Certificate
from torch_experiments.certificates.seen import entries
from torch_experiments.cloning import layout, residuals, widen
from torch_experiments.units.axes import atoms
from torch_experiments.units.graph import Graph, coarsest
from torch_experiments.units.hidden import HiddenLayer, observe, survey
from torch_experiments.units.inputs import call, flatten

Standing = Literal["works", "note", "refusal", "raised", "WRONG"]
STANDINGS: tuple[Standing, ...] = ("works", "note", "refusal", "raised", "WRONG")
ROOT = Path(__file__).resolve().parents[2]
STEPS, RATE, SECONDS, PLANTED = 20, 0.01, 240, 2
SAID = 320  # letters of a sentence that the page shows
DYING = ("relu", "gelu", "silu", "hardswish", "mish")
SILENT = -200.0  # a bias at which relu, gelu and silu return zero
# notes that say what was not asked for, or what was found on this batch
USUAL = ("stability:", "near-clones:", "no gradient:", "not read on this batch", "not trained")


class Answer(NamedTuple):
    """What a tool answered.

    Attributes:
        standing: ``"works"``; ``"note"``: it works and says what it does not cover; ``"refusal"``: it says by name
            why not; ``"raised"``: an error that is not the library's; ``"WRONG"``: a check of the answer failed.
        said: a sentence; empty if there is nothing to say.
    """

    standing: Standing
    said: str = ""


class Wrong(AssertionError):
    """An answer that a check refutes."""


@dataclass(frozen=True)
class Subject:
    """One architecture in the mode in which it is judged, with fresh copies for every tool."""

    architecture: Architecture

    def model(self) -> nn.Module:
        """Return the network, in eval mode, as training with dropout promises nothing."""
        return self.architecture.made().eval()

    def batch(self, seed: int = 1) -> Any:
        """Return a batch."""
        return self.architecture.batch(seed)


def loss_of(output: Any) -> Tensor:
    """Return the loss that an output carries, else the mean square of its real tensors from a fixed wave."""
    found = output.get("loss") if isinstance(output, Mapping) else None
    if found is not None:
        return found
    parts = [x for x in flatten(output) if x.is_floating_point() and x.requires_grad]
    waves = (torch.arange(x.numel()).to(x).sin().reshape(x.shape) for x in parts)
    return sum(((x - wave).square().mean() for x, wave in zip(parts, waves, strict=True)), torch.zeros(()))


def judged(architecture: Architecture) -> dict[str, Answer]:
    """Return the answers of all tools."""
    subject = Subject(architecture)
    return {name: answered(lambda tool=tool: tool(subject)) for name, tool in TOOLS.items()}


def answered(tool: Callable[[], str]) -> Answer:
    """Return what a tool answered; it returns a note, empty if there is none."""
    try:
        with warnings.catch_warnings(), limited(SECONDS):
            warnings.simplefilter("ignore")
            note = tool()
    except Wrong as error:
        return Answer("WRONG", one_line(error))
    except (ValueError, TypeError) as error:
        return Answer("refusal" if _is_ours(error) else "raised", one_line(error))
    except Exception as error:
        return Answer("raised", one_line(error))
    return Answer("note", note) if note else Answer("works")


def _is_ours(error: Exception) -> bool:
    """Return whether the library itself raised it, and not what it called."""
    where = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    return any(where.is_relative_to(ROOT / home) for home in ("torch_experiments", "lop", "theory"))


def one_line(error: BaseException) -> str:
    """Return kind and message of an error."""
    kind = "" if isinstance(error, Wrong) else f"{type(error).__name__}: "
    return " ".join(f"{kind}{error}".split())


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Raise a TimeoutError after some seconds."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"it took more than {seconds} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# ---------------------------------------------------------------------------------------------- the four tools


def certified(subject: Subject) -> str:
    """Certify a random network, then one with planted copies, and one with planted dead units."""
    model, x = subject.model(), subject.batch()
    found = certificate(model, x)
    if found.blocks.copied():
        raise Wrong(f"a random network is said to have copies: {found.blocks.copied()}")
    for layer in plantable(model, x):
        twin = subject.model()
        plant_copy(twin, layer)
        if not any(
            layer.name == name and _together(p.block) for name, p in certificate(twin, x).blocks.groups.items()
        ):
            raise Wrong(f"a copy that was planted in {layer.name!r} is not found")
    for layer in plantable(model, x):
        dying = subject.model()
        flat = plant_dead(dying, layer, x) and any(edge.parameter.endswith("bias") for edge in layer.group.own)
        if flat and not _are_held(certificate(dying, x), layer):  # at zero a unit is silent, and may have a slope
            raise Wrong(f"dead units that were planted in {layer.name!r} count as free")
    return "; ".join(note for note in found.notes if not note.startswith(USUAL))


def _are_held(found: Certificate, layer: HiddenLayer) -> bool:
    """Return whether the weights into the planted units are certified as frozen, or listed as without gradient."""
    masks = entries(found.frozen)
    for edge in layer.group.incoming:
        mask = masks.get(edge.parameter)
        listed = sum(part.entries for part in found.unreached if part.parameter == edge.parameter)
        rows = None if mask is None else mask.movedim(edge.dim, 0)[:PLANTED]
        if not (rows is not None and bool(rows.all())) and not listed >= PLANTED:
            return False
    return True


def certificate(model: nn.Module, x: Any) -> Certificate:
    """Return the certificate under SGD, without the stability, which costs many passes."""
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    return certify(model, x, optimizer, loss=loss_of, parts=("frozen", "near", "optimizer"))


def cloned(subject: Subject) -> str:
    """Clone; compare functions on another batch, find the copies again, and train."""
    model, x = subject.model(), subject.batch()
    wide, place = clone(model, 2, example_inputs=x), layout(model, 2, example_inputs=x)
    other = subject.batch(2)
    off = widen.gap(outputs(model, other), outputs(wide, other))
    if not off <= of_dtype(TWINS, coarsest(model.parameters())):
        raise Wrong(f"on another batch the clone differs by {off:.0e}")
    verdict = certify(wide, x, torch.optim.SGD(wide.parameters(), lr=RATE), loss=loss_of, parts=("optimizer",))
    base = certify(model, x, parts=())
    missed = verdict.blocks.dimension - base.blocks.dimension
    if missed > 0 and not verdict.blocks.unjudged:
        raise Wrong(f"of the clone {missed} directions count as free that are held by its copies")
    train(wide, x)
    apart = max((max(r.rows, r.columns) for r in residuals(wide, place)), default=0.0)
    promised = verdict.optimizer is not None and verdict.optimizer.clones == "kept"
    if promised and not apart <= of_dtype(APART, coarsest(model.parameters())):
        raise Wrong(f"copies were to be kept, and are {apart:.0e} apart after {STEPS} steps")
    grown = verdict.parameters / max(base.parameters, 1)
    said = (
        ""
        if promised
        else f"that copies stay copies is not promised: {verdict.optimizer and verdict.optimizer.why}"
    )
    return said or ("" if grown > 1.5 else f"most units stay single: {grown:.2f} times the parameters")


def diagnosed(subject: Subject) -> str:
    """Diagnose a random network, and one with planted dead units."""
    model, x = subject.model(), subject.batch()
    found = diagnose(model, x)
    graph = survey(model, x).graph
    for layer in plantable(model, x):
        dying = subject.model()
        if _is_activated(graph, layer) and plant_dead(dying, layer, x):
            after = diagnose(dying, x)
            counts = [(_dead(found, name), _dead(after, name)) for name in after if name]
            if not any(new >= old and new * layer.units > PLANTED - 0.5 for old, new in counts):
                raise Wrong(f"dead units that were planted in {layer.name!r} are not found")
    return "; ".join(found.about.notes)


def _is_activated(graph: Graph, layer: HiddenLayer) -> bool:
    """Return whether an activation that diagnostics look at acts on a layer's units one by one."""
    named = layer.group.incoming[0].parameter
    results = [next(flatten(step.result)) for step in graph.steps if step.name.split("::")[1].rstrip("_") in DYING]
    own = next(atom for axis in graph.parameters[named].axes for atom in atoms(axis) if atom.size == layer.units)
    return any(own in set(atoms(axis)) for result in results for axis in graph.value(result).axes)


def _dead(found: Mapping[str, Mapping[str, float]], name: str) -> float:
    return found.get(name, {}).get("dead_fraction", 0.0)


def remedied(subject: Subject) -> str:
    """Free planted dead units without a change of the function, then train with ReDo at work."""
    model, x = subject.model(), subject.batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    given = {"example_inputs": x, "fresh": subject.architecture.made, "heads": True}
    found = survey(model, x, heads=True)
    left = _frees(model, optimizer, x, given) if found.layers else ""
    kind = remedies.ReDo(every=2) if found.layers else remedies.L2Init()
    bound = kind.on(model, optimizer, **given).attach()
    model.train()
    train(model, x, optimizer, steps=4)
    bound.remove()
    if bound.steps != 4 or not all(bool(p.isfinite().all()) for p in model.parameters()):
        raise Wrong(f"{type(kind).__name__} saw {bound.steps} of 4 steps, or weights are not finite")
    if not found.layers:
        return f"no units that can be replaced, so L2 Init: {_reasons(found.skipped)}"
    return left


def _frees(model: nn.Module, optimizer: torch.optim.Optimizer, x: Any, given: Mapping[str, Any]) -> str:
    """Let `Escape` free planted dead units; return what it says of those that it leaves."""
    escape = remedies.Escape().on(model, optimizer, loss=lambda: loss_of(call(model, x)), **given)
    layers = [layer for layer in plantable(model, x) if plant_dead(model, layer, x)]
    before = outputs(model, x)
    touched = escape.apply()
    off = widen.gap(before, outputs(model, x))
    if not off <= of_dtype(TWINS, coarsest(model.parameters())):
        raise Wrong(f"freeing dead units changed the function by {off:.0e}")
    unread = escape.network.survey.unread  # a dead unit that they may read stays, as a warning says
    for layer in () if unread else layers:
        if not set(range(PLANTED)) <= set(touched.get(layer.name, [])):
            raise Wrong(f"dead units that were planted in {layer.name!r} were not freed")
    return f"dead units stay that {len(unread)} unread parameters may read, as {unread[0]}" if unread else ""


def _reasons(skipped: Mapping[str, str]) -> str:
    first = next(iter(skipped.items()))
    more = len(skipped) - 1
    return f"{first[0]}: {first[1]}" + (f", and {more} more" if more else "")


TOOLS: Mapping[str, Callable[[Subject], str]] = {
    "certify": certified, "clone": cloned, "diagnose": diagnosed, "remedy": remedied,
}  # fmt: skip

# ------------------------------------------------------------------------------------------------------ planting


def plantable(model: nn.Module, x: Any) -> list[HiddenLayer]:
    """Return the first layer of units in which traps can be planted, in a list, which may be empty."""
    layers = (layer for layer in survey(model, x).layers if not layer.coupled and layer.units > 2 * PLANTED)
    found = next((layer for layer in layers if all(_simple(e.unit) for e in layer.group.incoming)), None)
    return [] if found is None else [found]


def _simple(unit: Tensor) -> bool:
    """Return whether every index belongs to one unit."""
    return torch.equal(unit, torch.arange(len(unit)))


def _together(block: Tensor) -> bool:
    return bool(block[0] == block[1])


@torch.no_grad()
def plant_copy(model: nn.Module, layer: HiddenLayer) -> None:
    """Make unit 1 of a layer a copy of unit 0: in-weights, own parameters, and equal out-weights."""
    named = dict(model.named_parameters()) | dict(model.named_buffers())
    for edge in (*layer.group.incoming, *layer.group.own, *layer.group.outgoing):
        tensor = named[edge.parameter]
        mine, other = ((edge.unit == u).nonzero().flatten() for u in (0, 1))
        tensor.index_copy_(edge.dim, other, tensor.index_select(edge.dim, mine))


@torch.no_grad()
def plant_dead(model: nn.Module, layer: HiddenLayer, x: Any) -> bool:
    """Silence the first units of a layer; return whether they are silent, which only some activations can be."""
    named = dict(model.named_parameters()) | dict(model.named_buffers())
    for edge in layer.group.incoming:
        named[edge.parameter].index_fill_(edge.dim, torch.arange(PLANTED), 0.0)
    for edge in layer.group.own:
        if edge.parameter.endswith("bias"):
            at = torch.isin(edge.unit, torch.arange(PLANTED)).nonzero().flatten()
            named[edge.parameter].index_fill_(edge.dim, at, SILENT)
    peaks, _ = observe(model, [layer], x, lambda _, h: h.abs().amax(dim=0))
    return bool((peaks[layer.name][:PLANTED] == 0).all())


# ----------------------------------------------------------------------------------------------------- measuring


def outputs(model: nn.Module, x: Any) -> list[Tensor]:
    """Return the real output tensors in eval mode, with one seed."""
    return [h for h in widen.outputs(model, x) if h.is_floating_point()]


def train(model: nn.Module, x: Any, optimizer: Any = None, steps: int = STEPS) -> None:
    """Train on one batch."""
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=RATE)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(call(model, x)).backward()
        optimizer.step()
