"""Parameters that share memory though they are different parameters, so that one entry is trained twice.

``load_state_dict(..., assign=True)`` makes such of tied weights: the tie by object is lost, that by memory stays.
Each then has a gradient and a state of its own, and every step of an optimizer moves the shared entries twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn


def shared_storages(model: nn.Module) -> dict[str, dict[str, int]]:
    """Return by parameter the earlier ones that lie on some of its memory, with the number of entries they share.

    Parameters tied as one object are one. Parts of one buffer that do not overlap, as recurrent layers on a GPU
    have them, share nothing.

    >>> pair = nn.ModuleList([nn.Linear(2, 3), nn.Linear(2, 3)])
    >>> pair[1].weight = nn.Parameter(pair[0].weight.detach())
    >>> shared_storages(pair)
    {'1.weight': {'0.weight': 6}}
    """
    found: dict[str, dict[str, int]] = {}
    seen: dict[int, list[tuple[str, Tensor]]] = {}
    for name, p in _stored(model):
        others = seen.setdefault(p.untyped_storage().data_ptr(), [])
        shared = {other: count for other, q in others if (count := _common(q, p))}
        if shared:
            found[name] = shared
        others.append((name, p))
    return found


def sharing(shared: Mapping[str, Mapping[str, int]]) -> set[str]:
    """Return the names of all parameters that share memory.

    >>> sorted(sharing({"head.weight": {"embedding.weight": 8}}))
    ['embedding.weight', 'head.weight']
    """
    return {*shared, *(other for others in shared.values() for other in others)}


def told(shared: Mapping[str, Mapping[str, int]]) -> str:
    """Return which parameters share memory and how to mend it, in words; empty if none do.

    >>> told({"head.weight": {"embedding.weight": 8}})[:68]
    "'embedding.weight' and 'head.weight' are two parameters on one stora"
    """
    if not shared:
        return ""
    pairs = "; ".join(f"{other!r} and {name!r}" for name, others in shared.items() for other in others)
    return (
        f"{pairs} are two parameters on one storage, as load_state_dict(assign=True) leaves tied ones: each step "
        "moves it twice; tie them, as in head.weight = embedding.weight"
    )


def _stored(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters that have memory of their own kind: no meta tensors, sparse ones or wrappers."""
    for name, p in model.named_parameters():
        if p.layout == torch.strided and p.device.type != "meta" and p.numel():
            try:
                p.untyped_storage().data_ptr()
            except (RuntimeError, NotImplementedError):
                continue
            yield name, p.detach()


def _common(one: Tensor, other: Tensor) -> int:
    """Return how many elements of one storage both tensors hold."""
    (low, high), (start, end) = _range(one), _range(other)
    if one.element_size() != other.element_size() or high <= start or end <= low:
        return 0
    if one.is_contiguous() and other.is_contiguous():
        return min(high, end) - max(low, start)
    size = max(high, end)
    places = torch.zeros(size, dtype=torch.bool)
    places.as_strided(one.shape, one.stride(), one.storage_offset()).fill_(True)
    return int(places.as_strided(other.shape, other.stride(), other.storage_offset()).sum())


def _range(x: Tensor) -> tuple[int, int]:
    """Return the first element of the storage that a tensor holds, and the one behind the last."""
    last = sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    return int(x.storage_offset()), int(x.storage_offset() + last + 1)
