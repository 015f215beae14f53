"""Changes of weights, of the optimizer's state and of a remedy's memory that happen together or not at all.

A remedy computes everything it wants to write first, as a list of edits, and `commit` writes them. If anything
interrupts it, a keyboard interrupt too, what was written is taken back, so weights never go without their moments.
Several commits in one `transaction` stand or fall together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol

from torch import Tensor

Undo = Callable[[], object]
_journal: ContextVar[list[Undo] | None] = ContextVar("journal", default=None)  # of the transaction that is open


class Edit(Protocol):
    """Something to write."""

    def prepare(self) -> Undo:
        """Return what takes it back; nothing is written yet."""

    def write(self) -> None:
        """Write it."""


class Slice(NamedTuple):
    """Write ``value`` to the indices ``at`` along a dimension of a tensor."""

    tensor: Tensor
    dim: int
    at: Tensor
    value: Tensor

    def prepare(self) -> Undo:
        """Keep the old entries."""
        return self._replace(value=self.tensor.detach().index_select(self.dim, self._place)).write

    def write(self) -> None:
        """Write the entries."""
        self.tensor.detach().index_copy_(self.dim, self._place, self.value.to(self.tensor))

    @property
    def _place(self) -> Tensor:
        return self.at.to(self.tensor.device)


class Whole(NamedTuple):
    """Write ``value`` to all of a tensor."""

    tensor: Tensor
    value: Tensor

    def prepare(self) -> Undo:
        """Keep the old tensor."""
        return self._replace(value=self.tensor.detach().clone()).write

    def write(self) -> None:
        """Write the tensor."""
        self.tensor.detach().copy_(self.value)


class Entries(NamedTuple):
    """Make the entries of a mapping those of ``new``, such as the memory of a remedy; the values are not copied."""

    mapping: MutableMapping[Any, Any]
    new: Mapping[Any, Any]

    def prepare(self) -> Undo:
        """Keep the old entries."""
        old = dict(self.mapping)
        return lambda: self._restore(old)

    def write(self) -> None:
        """Write the entries."""
        self.mapping.clear()
        self.mapping.update(self.new)

    def _restore(self, old: Mapping[Any, Any]) -> None:
        for key in [key for key in self.mapping if key not in old]:
            del self.mapping[key]
        for key, value in old.items():  # put back one by one: an update keeps the new order
            self.mapping.pop(key, None)
            self.mapping[key] = value


class Forget(NamedTuple):
    """Empty the memory of an optimizer."""

    memory: MutableMapping[Any, Any]

    def prepare(self) -> Undo:
        """Keep what is remembered."""
        return Entries(self.memory, {}).prepare()

    def write(self) -> None:
        """Forget."""
        self.memory.clear()


class Attribute(NamedTuple):
    """Set an attribute of an object, such as a counter."""

    owner: Any
    name: str
    value: Any

    def prepare(self) -> Undo:
        """Keep the old value."""
        return self._replace(value=getattr(self.owner, self.name)).write

    def write(self) -> None:
        """Set it."""
        setattr(self.owner, self.name, self.value)


def commit(edits: Sequence[Edit]) -> None:
    """Write all edits, in order, or none: whatever interrupts it, what was written is taken back.

    >>> import torch
    >>> x, counts = torch.zeros(2), {}
    >>> commit([Whole(x, torch.ones(2)), Entries(counts, {"steps": 1})])
    >>> x.tolist(), counts
    ([1.0, 1.0], {'steps': 1})
    """
    with transaction() as undos:
        undos += [edit.prepare() for edit in edits]
        for edit in edits:
            edit.write()


@contextmanager
def transaction() -> Iterator[list[Undo]]:
    """Let what is committed inside stand together: if the block is left by an exception, all of it is taken back.

    Yields:
        What takes back what was written so far, the oldest first.

    >>> import torch
    >>> x = torch.zeros(2)
    >>> with transaction():
    ...     commit([Whole(x, torch.ones(2))])
    ...     raise OSError
    Traceback (most recent call last):
    OSError
    >>> x.tolist()
    [0.0, 0.0]
    """
    outer, undos = _journal.get(), list[Undo]()
    token = _journal.set(undos)
    try:
        yield undos
        if outer is not None:
            outer += undos
    except BaseException:
        for undo in reversed(undos):
            undo()
        raise
    finally:
        _journal.reset(token)


def zeroed(tensor: Tensor, dim: int, index: Tensor) -> Slice:
    """Return the edit that sets entries to zero.

    >>> import torch
    >>> x = torch.ones(2, 2)
    >>> zeroed(x, 1, torch.tensor([0])).write(), x.tolist()
    (None, [[0.0, 1.0], [0.0, 1.0]])
    """
    shape = list(tensor.shape)
    shape[dim] = len(index)
    return Slice(tensor, dim, index, tensor.new_zeros(shape))
