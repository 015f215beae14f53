"""The manifold that a network is trapped on, as a place for each parameter: what may move, and what is normal.

A cloned parameter moves by multiples of ``s_i s_jᵀ`` on each pair of blocks (a *cell*); a frozen entry does not
move, and with it its whole cell; all else moves freely.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from theory.tolerances import EQUAL
from torch_experiments.cloning.layouts import Layout, Placement, Profile, identity, project, residuals_of

Masks = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Place:
    """Where a parameter lies on the manifold.

    On a cell, the entries between block ``I`` of its rows and ``J`` of its columns, it moves by ``a_IJ s_i s_jᵀ``:
    one direction; all others are normal.

    Attributes:
        parameter: of the model.
        placement: blocks and scales of its dimensions, and which of these are outputs and inputs.
        fixed: entries that cannot move: the cells that hold a frozen entry, bool; None if there are none.
    """

    parameter: nn.Parameter
    placement: Placement
    fixed: Tensor | None = None

    @property
    def profiles(self) -> tuple[Profile, ...]:
        """Blocks and scales along which it moves, one a dimension."""
        return self.placement.tangent

    @property
    def copied(self) -> bool:
        """Whether some dimension has copies."""
        return any(profile.copied for profile in self.profiles)

    @property
    def codimension(self) -> int:
        """Number of normal directions: entries, less cells that can move."""
        cells = prod(int(profile.block.max()) + 1 for profile in self.profiles)
        return self.parameter.numel() - cells + (0 if self.fixed is None else self._fixed_cells())

    def normal(self, x: Tensor) -> Tensor:
        """Return the part of ``x``, of the parameter's shape, that is orthogonal to all moves on the manifold."""
        moving = project(x, self.profiles)
        return x - (moving if self.fixed is None else moving.masked_fill(self.fixed, 0))

    def _fixed_cells(self) -> int:
        return int((_per_cell(self.fixed, self.profiles) > 0).sum()) if self.fixed is not None else 0


def places(model: nn.Module, layout: Layout | None, frozen: Masks | None = None) -> dict[str, Place]:
    """Return the place of every parameter of ``model`` that has a normal direction, by name.

    Args:
        model: the network.
        layout: where its copies lie; None or empty for none.
        frozen: by parameter, a bool mask of entries that do not move.

    Raises:
        ValueError: for a layout or masks that do not fit the parameters; it names them.

    >>> frozen = {"weight": torch.tensor([[True, False]])}
    >>> place = places(nn.Linear(2, 1), None, frozen)["weight"]
    >>> place.codimension, place.normal(torch.tensor([[3.0, 4.0]])).tolist()
    (1, [[3.0, 0.0]])
    """
    known = dict(model.named_parameters())
    placements = {} if layout is None else _placements(model, layout)
    masks = checked_masks(model, frozen, "frozen")
    found = {}
    for name, parameter in known.items():
        own = placements.get(name) or Placement(tuple(identity(n) for n in parameter.shape))
        mask = masks.get(name)
        fixed = None if mask is None or not bool(mask.any()) else _whole_cells(mask, own.profiles)
        place = Place(parameter, own, fixed)
        if fixed is not None or place.copied:
            found[name] = place
    return found


def checked_masks(model: nn.Module, masks: Masks | None, argument: str) -> dict[str, Tensor]:
    """Return bool masks on the device of their parameters.

    Raises:
        ValueError: for an unknown parameter, another shape, or a mask that is not bool.
    """
    known, found = dict(model.named_parameters()), {}
    for name, mask in (masks or {}).items():
        if name not in known:
            raise ValueError(f"{argument}: {name!r} is no parameter of the model; keys are its parameters' names")
        if mask.dtype != torch.bool or mask.shape != known[name].shape:
            raise ValueError(
                f"{argument}[{name!r}]: got {mask.dtype} of shape {tuple(mask.shape)}; it has to be a bool mask of "
                f"shape {tuple(known[name].shape)}, True where an entry is frozen"
            )
        found[name] = mask.to(known[name].device)
    return found


def check_on(model: nn.Module, layout: Layout, tolerance: float) -> None:
    """Raise a ValueError unless the layout fits and the weights satisfy RE and CE up to ``tolerance`` or 16 ε."""
    placed = _placements(model, layout)
    allowed = max([tolerance, *(rounding(p.dtype) for name, p in model.named_parameters() if name in placed)])
    for found in residuals_of(model, layout):
        worst = max(found.rows, found.columns)
        if not worst <= allowed:
            raise ValueError(
                f"layer {found.layer or '(top level)'!r}: its weights violate the equations of the layout by "
                f"{worst:.2g} (relative; allowed is {allowed:.2g}), so its units are no copies of each other; give "
                "the layout that this network has, or a larger tolerance"
            )


def rounding(dtype: torch.dtype) -> float:
    """Return 16 ε: how far entries that are equal but for rounding may lie apart, relative to their size.

    >>> rounding(torch.float32) / torch.finfo(torch.float32).eps
    16.0
    """
    return EQUAL * torch.finfo(dtype).eps


def _placements(model: nn.Module, layout: Layout) -> dict[str, Placement]:
    known, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    found = {}
    for name, place in layout.placements.items():
        shape = tuple(len(profile.block) for profile in place.profiles)
        tensor = known.get(name, buffers.get(name))
        if tensor is None or tuple(tensor.shape) != shape:
            given = "no such parameter" if tensor is None else f"shape {tuple(tensor.shape)}"
            raise ValueError(
                f"layout: it places {name!r} with shape {shape}, the model has {given}; give the layout of this "
                "very model (of the clone, not of its base)"
            )
        if name in known:
            found[name] = place
    return found


def _per_cell(mask: Tensor, profiles: tuple[Profile, ...]) -> Tensor:
    """Return how many entries of each cell are marked, an entry a cell."""
    count = mask.to(torch.float64)
    for dim, profile in enumerate(profiles):
        size = list(count.shape)
        size[dim] = int(profile.block.max()) + 1
        count = count.new_zeros(size).index_add(dim, profile.block.to(count.device), count)
    return count


def _whole_cells(mask: Tensor, profiles: tuple[Profile, ...]) -> Tensor:
    marked = _per_cell(mask, profiles) > 0
    for dim, profile in enumerate(profiles):
        marked = marked.index_select(dim, profile.block.to(marked.device))
    return marked
