"""Closures of optimizers: where the gradients of a step are computed inside of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def with_edit(args: tuple[Any, ...], kwargs: dict[str, Any], edit: Callable[[], object]) -> Arguments | None:
    """Return the arguments of ``step`` with a closure that calls ``edit`` after every evaluation; None without one.

    A pre-hook of a step runs before the closure, which clears and computes the gradients. So whoever edits
    gradients there has to edit behind the closure, and may return this.

    Args:
        args: positional arguments, the optimizer first.
        kwargs: the others.
        edit: changes gradients.

    >>> calls = []
    >>> args, _ = with_edit(("optimizer", lambda: calls.append("closure")), {}, lambda: calls.append("edit"))
    >>> args[1](), calls
    (None, ['closure', 'edit'])
    >>> with_edit(("optimizer",), {}, print) is None
    True
    """
    closure = args[1] if len(args) > 1 else kwargs.get("closure")
    if not callable(closure):
        return None
    given = closure

    def edited() -> Any:
        loss = given()
        edit()
        return loss

    return ((args[0], edited, *args[2:]), kwargs) if len(args) > 1 else (args, kwargs | {"closure": edited})
