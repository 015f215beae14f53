"""What a certificate did not look at, did not count, or could not judge, and why."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from torch_experiments.certificates.frozen.analysis import Frozen
from torch_experiments.certificates.frozen.softmaxes import sentences
from torch_experiments.certificates.mode import DECIDES
from torch_experiments.certificates.oracle import Reach
from torch_experiments.certificates.seen import Seen
from torch_experiments.certificates.unreached import Unreached
from torch_experiments.support.storages import shared_storages, told
from torch_experiments.units.graph import Graph, in_words, unknown_operations


def notes_on(
    seen: Seen,
    frozen: Frozen | None,
    silent: Collection[Unreached],
    missing: Collection[str],
    *,
    near: bool,
    without_loss: bool,
    stopped: bool,
) -> list[str]:
    """Return one sentence for all that was not looked at, not counted, or could not be judged, with the reason.

    Args:
        seen: the network.
        frozen: its frozen units; None if not asked for.
        silent: entries that no pass reached.
        missing: parts that were not asked for.
        near: whether near-clones were.
        without_loss: whether the stability lacks a loss.
        stopped: whether no gradient leads to what holds the network.
    """
    model, known = seen.model, seen.known
    found = [f"{part}: not asked for" for part in missing]
    tied = told(shared_storages(model))
    if tied:
        found.append(f"{tied}; they count once, and what holds one of them is not counted, as the other moves it")
    unread = [name for name, _ in model.named_parameters() if name not in known.graph.used]
    still = [name for name, p in model.named_parameters() if name in known.graph.used and not p.requires_grad]
    if unread:
        found.append(f"not read on this batch, so not counted: {', '.join(unread)}")
    if still:
        found.append(f"not trained (requires_grad is False), so not counted: {', '.join(still)}")
    if frozen is not None:
        found += _grouped("frozen", {missing.layer: missing.why for missing in frozen.missing})
        found += _unexplained(silent, seen.reach)
        found += sentences(frozen.softmaxes)
    found += _grouped("copies", seen.blocks.unjudged)
    found += [
        f"copies: {said}: not looked for among the units that it reads" for said in unknown_operations(known.graph)
    ]
    found += _read(known.graph)
    if near:
        found += _grouped("near-clones", known.skipped)
    if without_loss:
        found.append("stability: needs a loss; give targets (on the command line, --batch FILE with targets)")
    if stopped:
        found.append(
            "stability: the loss passes no gradient to the cloned or frozen parameters, which nothing moves"
        )
    return found


def _read(graph: Graph) -> Iterator[str]:
    """Yield on which numbers the path of the trace rests."""
    if graph.read:
        yield f"path: {in_words(graph.read)}: reads numbers of inputs, so this holds where the answers are the same"
    if graph.decided:
        yield (
            f"path: {in_words(graph.decided)}: {DECIDES}, so this is about the path of this batch: copies and "
            "frozen units are promised to last on no other"
        )
    if graph.asked and not graph.decided:
        yield f"path: {in_words(graph.asked)}: asks for numbers that weights have made; the answers decide nothing"


def _unexplained(parts: Collection[Unreached], seen: Reach) -> Iterator[str]:
    if seen.refused:
        yield f"gradients: no backward pass was run: {seen.refused}"
    if seen.overflow:
        yield f"gradients: NaN or infinity on this batch, so nothing is told of {', '.join(seen.overflow)}"
    for part in parts:
        yield f"no gradient: {part.parameter}: {part.entries:,} of {part.size:,} entries: {part.why}"


def _grouped(part: str, reasons: Mapping[str, str]) -> list[str]:
    """Return one note a reason, with the layers that it is about."""
    layers: dict[str, list[str]] = {}
    for layer, why in reasons.items():
        layers.setdefault(why, []).append(layer)
    return [f"{part}: {', '.join(names)}: {why}" for why, names in layers.items()]
