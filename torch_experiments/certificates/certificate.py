"""The certificate of a network: on which manifold it is trapped, for which reason, and what would free it.

A certificate speaks of the weights as they are. Frozen units and exact copies hold weights: entries without
gradient, and entries that move together. What is left are the free dimensions; `optimizer` says whether the rule
that trains the network keeps all this, `stability` how soon rounding or noise would carry it away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.optim import Optimizer

from torch_experiments.certificates.display import copies, html, markdown, rendered, sentences, text
from torch_experiments.certificates.frozen.analysis import Bound, Frozen
from torch_experiments.certificates.near import Cluster
from torch_experiments.certificates.notes import notes_on
from torch_experiments.certificates.optimizer.verdicts import OptimizerVerdict
from torch_experiments.certificates.rounding import Rounding, contradicted
from torch_experiments.certificates.seen import Loss, Seen, count, entries
from torch_experiments.certificates.stability import Stability
from torch_experiments.certificates.stochastic import Minibatches
from torch_experiments.certificates.training_copy import of_output
from torch_experiments.certificates.unreached import Unreached, unreached
from torch_experiments.cloning.partition import Blocks
from torch_experiments.support.precision import in_float32
from torch_experiments.support.steps import inner
from torch_experiments.support.strict import strict
from torch_experiments.units.entry import Callee, calling, prepared, prepared_targets, unwrapped
from torch_experiments.units.inputs import Inputs, has_samples, not_finite, same_device
from torch_experiments.units.inputs import call as called

Part = Literal["frozen", "near", "optimizer", "stability"]
PARTS: tuple[Part, ...] = ("frozen", "near", "optimizer", "stability")


@dataclass(frozen=True, eq=False)
class Certificate:
    """What a network is trapped on.

    Attributes:
        model: name of its class.
        frozen: units without gradient, each with its reason and radius; None if not asked for.
        blocks: the coarsest partition into copies, scaled and signed ones included.
        boxed: whether units that are dead wherever inputs lie in a box were looked for.
        near: clusters of near-clones on the batch; None if not asked for.
        parameters: entries of the trained parameters that the network reads.
        dimension: of the set on which gradients on the batch keep it: ``parameters`` less one for every entry that
            is frozen or moves with another.
        reached: how many of these directions a real backward pass reached.
        unreached: the entries that no backward pass reached and no certificate explains, with the likeliest reason.
        passes: which backward passes were run, or why none could be.
        optimizer: whether the rule keeps the network there; of gradient flow if no optimizer was given.
        stability: of the manifold, with the predicted escape; None without a loss, or if nothing is trapped.
        minibatches: what this state tells about near-copies under small batches, per sample; None without SGD, a
            loss or copies.
        rounding: what a few real steps on a copy showed: what this machine's arithmetic does to the promises, which
            are about exact arithmetic; None without an optimizer.
        notes: what was not looked at, or could not be judged, and why.
        seconds: that it took.
    """

    model: str
    frozen: Frozen | None
    boxed: bool
    blocks: Blocks
    near: tuple[Cluster, ...] | None
    parameters: int
    dimension: int
    reached: int
    unreached: tuple[Unreached, ...]
    passes: str
    optimizer: OptimizerVerdict | None
    stability: Stability | None
    minibatches: Minibatches | None
    rounding: Rounding | None
    notes: tuple[str, ...]
    seconds: float

    @property
    def free_fraction(self) -> float:
        """Share of the parameters that are free and reached: 1 where nothing traps and all is read."""
        return self.reached / max(self.parameters, 1)

    @property
    def unheld_fraction(self) -> float:
        """Share of the parameters that no frozen unit and no copy holds, whether this batch reaches them or not."""
        return self.dimension / max(self.parameters, 1)

    @property
    def trapped(self) -> bool:
        """Whether some weights cannot move, or move only together."""
        return self.dimension < self.parameters

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings, lists and dicts, for JSON; infinity is the string ``"inf"``."""
        found = {
            "model": self.model,
            "parameters": self.parameters,
            "dimension": self.dimension,
            "reached": self.reached,
            "free_fraction": self.free_fraction,
            "unreached": [asdict(part) for part in self.unreached],
            "passes": self.passes,
            "frozen": None if self.frozen is None else self.frozen.to_dict(),
            "boxed": self.boxed,
            "copies": copies(self.blocks),
            "near": None if self.near is None else [asdict(cluster) for cluster in self.near],
            "optimizer": None if self.optimizer is None else asdict(self.optimizer),
            "stability": None if self.stability is None else asdict(self.stability),
            "minibatches": None if self.minibatches is None else asdict(self.minibatches),
            "rounding": None if self.rounding is None else asdict(self.rounding),
            "said": sentences(self),
            "notes": list(self.notes),
            "seconds": self.seconds,
        }
        return {key: strict(value) for key, value in found.items()}

    def to_html(self) -> str:
        """Return the printed certificate as a page of HTML."""
        return html(self)

    def to_markdown(self, name: str = "") -> str:
        """Return the printed certificate as Markdown, to stand beside a model card, with what made it.

        >>> import torch
        >>> certify(nn.Linear(2, 1), torch.ones(1, 2)).to_markdown("a line").splitlines()[0]
        '# Certificate of a line'
        """
        return markdown(self, name)

    def __rich__(self) -> Any:
        """Return what `rich.print` shows."""
        return rendered(self)

    def __str__(self) -> str:
        """Return the certificate as plain text."""
        return text(self)


def certify(
    model: nn.Module,
    inputs: Inputs,
    optimizer: Optimizer | None = None,
    *,
    targets: Tensor | None = None,
    loss: Loss | None = None,
    box: tuple[Bound, Bound] | None = None,
    parts: Collection[Part] = PARTS,
    tolerance: float | None = None,
    near: float = 0.1,
    iterations: int = 30,
    batch: int | None = None,
    call: Callee = None,
) -> Certificate:
    """Return the certificate of ``model``: frozen units, copies, and whether training can leave them.

    The partition reads the weights alone and costs ``O(parameters)`` a round; frozen and near-cloned units cost a
    few forward passes of ``inputs``; the stability about ``4 · iterations`` passes forward and back, and is looked
    at only where there are copies or frozen entries and a loss. With an optimizer a copy takes two real steps.

    Args:
        model: any module that can be traced; left as it is. Of `DistributedDataParallel`, `DataParallel` and
            `torch.compile` the module inside is judged, under its own names.
        inputs: a batch: a tensor, a sequence of positional or a mapping of keyword arguments, or a list of such
            examples, see `units.inputs`. NumPy's arrays become tensors; real numbers of a dtype that no parameter
            has are cast. Statements that are ``observed`` are about these samples.
        optimizer: that trains the model, with its state; gradient flow if None.
        targets: of the samples, for the stability: class numbers (cross entropy) or numbers (squared error).
        loss: of the model's output, instead of ``targets``.
        box: lower and upper bound of all inputs, for units that are frozen wherever the inputs lie in it.
        parts: what to look at besides copies.
        tolerance: relative, of sums of copies' weights; by dtype 1e-9 (float64), 1e-5 (float32), 2e-2 (bfloat16).
        near: the distance of activations up to which units are near-clones.
        iterations: of Lanczos' method.
        batch: samples a step of training, for what small batches do to copies; all of ``inputs`` if None.
        call: what is called in the place of the forward: the name of a method (``"get_action_and_value"``), a
            method, or a function of the model and its inputs. ``loss`` gets what it returns.

    Raises:
        TraceError: (a ValueError) for a model that cannot be traced; it names the layer and the fix.
        TypeError: for an optimizer that is none.
        ValueError: for unknown parts, NaN activations, targets that do not fit, or arguments out of range.

    Source: claims F1 to F2d, C1 to C11, M1, M2.

    >>> import torch
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))  # with all weights 1 three copies of one
    >>> nn.utils.vector_to_parameters(torch.ones(13), model.parameters())
    >>> found = certify(model, torch.eye(4, 2))
    >>> found.parameters, found.dimension, found.optimizer.clones
    (13, 5, 'kept')
    """
    start = time.perf_counter()
    _check_parts(parts)
    optimizer = None if optimizer is None else checked(optimizer)
    model = unwrapped(model)
    with calling(model, call), in_float32():
        inputs, targets = prepared(model, inputs), prepared_targets(targets)
        _check_finite(model, inputs)  # first: all comparisons with NaN are false, which would look like evidence
        seen = Seen.of(model, inputs, tolerance, of_output(targets, loss))
        frozen = seen.frozen(box) if "frozen" in parts else None
        parameters, dimension = count(model, seen.known, seen.layout, entries(frozen))
        mean = _loss_of(model, inputs, targets, loss)
        rule = seen.verdict(optimizer, frozen) if "optimizer" in parts else None
        silent = unreached(model, seen.known.graph, seen.reach, entries(frozen))
        wanted = "stability" in parts and dimension < parameters
        held = None
        stopped = wanted and seen.stopped(frozen)
        if mean is not None and wanted and not stopped:
            held = seen.stability(mean, optimizer, frozen, iterations)
        small = None if held is None else seen.minibatches(of_output(targets, loss), optimizer, batch)
        tried = None
        if optimizer is not None and rule is not None:
            tried = seen.rounding(optimizer, targets, loss, frozen, rule, held)
            rule = contradicted(rule, tried)
        clusters = seen.near(near) if "near" in parts else None
    return Certificate(
        model=type(model).__name__,
        frozen=frozen,
        boxed=box is not None,
        blocks=seen.blocks,
        near=clusters,
        parameters=parameters,
        dimension=dimension,
        reached=dimension - seen.silent(frozen),
        unreached=silent,
        passes=seen.reach.refused or seen.reach.passes,
        optimizer=rule,
        stability=held,
        minibatches=small,
        rounding=tried,
        notes=tuple(
            notes_on(
                seen,
                frozen,
                silent,
                [part for part in PARTS if part not in parts],
                near="near" in parts,
                without_loss=wanted and mean is None,
                stopped=stopped and mean is not None,
            )
        ),
        seconds=time.perf_counter() - start,
    )


def _loss_of(
    model: nn.Module, inputs: Inputs, targets: Tensor | None, loss: Loss | None
) -> Callable[[], Tensor] | None:
    """Return the loss of the model on the batch as a function of its weights; None if there is none."""
    measured = of_output(targets, loss)
    return None if measured is None else lambda: measured(called(model, inputs))


def _check_finite(model: nn.Module, inputs: Inputs) -> None:
    same_device(model, inputs)
    has_samples(inputs)
    layer = not_finite(model, inputs)
    if layer:
        raise ValueError(
            f"layer {layer!r}: its output holds NaN or infinity, of which nothing can be certified; check inputs "
            "and parameters (a learning rate that is too large is the usual cause)"
        )


def checked(optimizer: Any) -> Optimizer:
    """Return the optimizer, inside of the wrappers of Accelerate and Lightning.

    Raises:
        TypeError: for what is none, such as a name.

    >>> checked("adam")
    Traceback (most recent call last):
    TypeError: optimizer: got str; give the object that trains, such as torch.optim.Adam(model.parameters())
    """
    found = inner(optimizer)
    if not hasattr(found, "param_groups"):
        raise TypeError(
            f"optimizer: got {type(optimizer).__name__}; give the object that trains, such as "
            "torch.optim.Adam(model.parameters())"
        )
    return found


def _check_parts(parts: Collection[Part]) -> None:
    unknown = [part for part in parts if part not in PARTS]
    if isinstance(parts, str) or unknown:
        raise ValueError(f"parts: got {parts!r}; it has to be a collection of {', '.join(PARTS)}")
