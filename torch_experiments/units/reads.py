"""Numbers that a forward pass reads out of tensors, where Python takes over, and what of a trace rests on them.

What is read out of inputs and constants alone is the same whatever the weights: the trace follows the path of its
inputs. A number that weights have made may send training another way than the trace, so it is refused, but for a
yes or no that decides nothing: an argument check of `torch.distributions`, an ``assert``, a warning. Those are told
by giving the other answer: the pass then ends in an error, or runs the same operations to the same outputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from inspect import currentframe
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from torch_experiments.support.draws import seeded
from torch_experiments.support.torch_private import TorchDispatchMode, schema
from torch_experiments.units.graph import TraceError
from torch_experiments.units.inputs import Inputs, call, flatten, inspecting

NUMBERS = ("aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal", "aten::item")
PACKED = ("aten::_pack_padded_sequence", "aten::_pad_packed_sequence")  # later results are made of lengths alone
SKIPPED = (str(Path(torch.__file__).parent), str(Path(__file__).parent))
CHECKS = str(Path(torch.distributions.__file__).parent)
ARGUMENTS = tuple(str(Path(CHECKS, name)) for name in ("distribution.py", "constraints.py"))  # that check
LONGER = 1000  # operations by which a run may be longer: to write an error's message, say
MOST = 16  # places in the code that are asked for the other answer, each of which costs a forward pass


def is_read(func: Any) -> bool:
    """Return whether an operation hands a number to Python, whose path could then depend on it.

    >>> is_read(torch.ops.aten._local_scalar_dense.default), is_read(torch.ops.aten.sum.default)
    (True, False)
    """
    return schema(func).name in NUMBERS


class Origins:
    """Which tensors of a run were made of weights, and which of inputs, told by where they lie in memory."""

    def __init__(self, learnt: Iterable[Tensor], given: Iterable[Tensor]) -> None:
        self._learnt = {home(tensor) for tensor in learnt}
        self._given = {home(tensor) for tensor in given}
        self._met: dict[int, set[int]] = {}

    def learnt(self, arguments: Any) -> bool:
        """Return whether weights or real buffers are a part of one of the tensors in ``arguments``."""
        return any(home(tensor) in self._learnt for tensor in flatten(arguments))

    def given(self, arguments: Any) -> bool:
        """Return whether inputs are."""
        return any(home(tensor) in self._given for tensor in flatten(arguments))

    def follow(self, name: str, arguments: Any, result: Any) -> None:
        """Note of what an operation made its results; what it changed in place may be a view of another tensor."""
        if isinstance(result, tuple) and name in PACKED:
            self.follow("", [arguments[0][1:], arguments[1]], result[1:])
            result = result[:1]
        made = [home(tensor) for tensor in flatten([result, arguments[0][:1]])]
        for homes, has in ((self._learnt, self.learnt), (self._given, self.given)):
            if has(arguments):
                homes.update(made)
        for tensor in flatten([arguments, result]):
            self._met.setdefault(home(tensor), set()).add(id(tensor))

    def is_shared(self, tensor: Tensor) -> bool:
        """Return whether operations have met another tensor on the memory of this one."""
        return bool(self._met.get(home(tensor), set()) - {id(tensor)})


def home(tensor: Tensor) -> int:
    """Return where a tensor lies in memory, the same for its views."""
    return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else id(tensor)


def where() -> str:
    """Return the lines of code that are running below `call`, but for those of torch and of traces, as one key."""
    lines, frame = [], currentframe()
    while frame is not None and frame.f_code is not call.__code__:
        lines.append((frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back
    return " ".join(f"{file}:{line}" for file, line in lines if CHECKS in file or not file.startswith(SKIPPED))


def data_dependent(layer: str, name: str) -> TraceError:
    """Return the error for a number that may decide the path."""
    return TraceError(
        f"layer {layer or '(top level)'!r}: {name} reads a number out of a tensor, so the path may depend on the "
        "data; take the number from a shape or an argument, or use torch.where"
    )


def deciding(model: nn.Module, inputs: Inputs, asked: Mapping[str, str]) -> dict[str, str]:
    """Return the layers where the answers that ``model`` read decide something, with the operation that reads.

    Costs a forward pass for each place in the code.

    Args:
        model, inputs: as in `trace`.
        asked: by `where` a yes or no was read that weights have a part in, the layer that was running.
    """
    places = [(place, layer) for place, layer in asked.items() if not place.startswith(ARGUMENTS)]
    if not places:
        return {}
    wanted = _Answers.of(model, inputs)
    wrong = [layer for k, (place, layer) in enumerate(places) if k >= MOST or not wanted.same(model, inputs, place)]
    return dict.fromkeys(wrong, NUMBERS[0])


def run_alike(model: nn.Module, inputs: Inputs, others: Inputs) -> bool:
    """Return whether a network runs the same operations on two batches, in eval mode.

    >>> run_alike(nn.Linear(2, 1), torch.ones(1, 2), torch.ones(5, 2))
    True
    """
    return _Answers.of(model, inputs).ran == _Answers.of(model, others).ran


class _AstrayError(BaseException):
    """A run that goes on for too long: no class of `Exception`, which the network might catch."""


class _Answers(TorchDispatchMode):
    """Turns the answers that are read at one place of the code around, and follows which operations run."""

    def __init__(self, place: str | None, expected: list[str] | None) -> None:
        super().__init__()
        self.place, self.expected = place, expected
        self.ran: list[str] = []
        self.outputs: list[Tensor] = []

    @classmethod
    def of(
        cls, model: nn.Module, inputs: Inputs, place: str | None = None, expected: list[str] | None = None
    ) -> Self:
        """Run a network."""
        answers = cls(place, expected)
        with inspecting(model), seeded(model, 0), answers:
            answers.outputs = list(flatten(call(model, inputs)))
        return answers

    def same(self, model: nn.Module, inputs: Inputs, place: str) -> bool:
        """Return whether the other answer at ``place`` ends in an error, or in what this run ended in."""
        try:
            other = self.of(model, inputs, place, self.ran)
        except _AstrayError:
            return False
        except Exception:
            return True
        pairs = zip(self.outputs, other.outputs, strict=True)
        return other.ran == self.ran and all(bool(((a == b) | ((a != a) & (b != b))).all()) for a, b in pairs)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run ``func``; turn its answer around where it is asked for at the place."""
        if is_read(func):
            answer = func(*args, **(kwargs or {}))
            return not answer if isinstance(answer, bool) and where() == self.place else answer
        self.ran.append(schema(func).name)
        if self.expected is not None and len(self.ran) > len(self.expected) + LONGER:
            raise _AstrayError
        return func(*args, **(kwargs or {}))
