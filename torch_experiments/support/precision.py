"""In which precision is computed: float64 on every device, and float32 without the shortcuts that a device takes.

A GPU may round the factors of float32 products to TF32, 10 bits of mantissa instead of 23: torch allows it for
convolutions from the start and for matrix products when asked. Training may use it; what is measured may not, since
two networks that compute one function then differ by 1e-3. torch has two sets of switches for it, one flag for each
operation (``fp32_precision``) and older ones, which raise where the two disagree; both are set here together.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
cuda: Any = torch.backends.cuda  # modules with properties, which have no types
cudnn: Any = torch.backends.cudnn
mkldnn: Any = torch.backends.mkldnn
PLACES: tuple[tuple[Any, Any], ...] = (  # what has a flag, and whose flag counts while that is "none"
    (cuda.matmul, cudnn),
    (cudnn.conv, cudnn),
    (cudnn.rnn, cudnn),
    (mkldnn.matmul, mkldnn),
    (mkldnn.conv, mkldnn),
    (mkldnn.rnn, mkldnn),
)
ON_GPUS = (cuda.matmul, cudnn.conv, cudnn.rnn)
REDUCED = ("tf32", "bf16")


def exact(x: Tensor) -> Tensor:
    """Return ``x`` without its graph in float64, on the CPU where its device has no float64 (Apple's)."""
    return (x.cpu() if x.device.type == "mps" else x).detach().double()


class Switches(NamedTuple):
    """All that says how float32 products are computed.

    Attributes:
        products: of `torch.get_float32_matmul_precision`, None where that raises.
        convolutions: ``torch.backends.cudnn.allow_tf32``, None where that raises.
        flags: of `PLACES`.
    """

    products: str | None
    convolutions: bool | None
    flags: tuple[str, ...]

    @classmethod
    def now(cls) -> Switches:
        """Return them as they are."""
        products = _older(torch.get_float32_matmul_precision)
        return cls(products, _older(lambda: bool(cudnn.allow_tf32)), _flags())

    def put(self) -> None:
        """Set them; a flag that agrees with the one it would follow follows that one again."""
        self.put_older()
        for (place, source), value in zip(PLACES, self.flags, strict=True):
            place.fp32_precision = "none" if source.fp32_precision == value else value

    def put_older(self, tf32: bool | None = None) -> None:
        """Set the older switches that can be read, to what they are here, or so that they allow TF32 or do not."""
        if self.products is not None:
            torch.set_float32_matmul_precision(self.products if tf32 is None else "high" if tf32 else "highest")
        if self.convolutions is not None:
            _older(lambda: setattr(cudnn, "allow_tf32", self.convolutions if tf32 is None else tf32))


_given: list[Switches] = []  # what the caller of the outermost block that measures had


def reduced() -> bool:
    """Return whether float32 products may be computed from rounded factors now.

    >>> with in_float32():
    ...     reduced()
    False
    """
    return any(flag in REDUCED for flag in _flags())


@contextmanager
def in_float32() -> Iterator[None]:
    """Compute the float32 products of a block in float32; all switches are then as they were.

    For all that measures: certificates, clones and their verification, diagnostics, metrics.

    >>> with in_float32():
    ...     torch.backends.cudnn.conv.fp32_precision
    'ieee'
    """
    if not reduced():
        yield
        return
    before = Switches.now()
    _given.append(before)
    before.put_older(tf32=False)
    for place, _ in PLACES:
        if place in ON_GPUS or place.fp32_precision in REDUCED:
            place.fp32_precision = "ieee"
    try:
        yield
    finally:
        _given.pop()
        before.put()


@contextmanager
def training_precision(tf32: bool) -> Iterator[None]:
    """Allow TF32 in matrix products and convolutions of a block, or forbid it; all switches are then as they were.

    >>> with training_precision(tf32=True):
    ...     torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision
    ('tf32', 'tf32')
    """
    before = Switches.now()
    before.put_older(tf32)
    for place in ON_GPUS:
        place.fp32_precision = "tf32" if tf32 else "ieee"
    try:
        yield
    finally:
        before.put()


@contextmanager
def as_given() -> Iterator[None]:
    """Compute as the caller of what measures does, for steps of training that are looked at.

    >>> with training_precision(tf32=True), in_float32(), as_given():
    ...     reduced()
    True
    """
    if not _given:
        yield
        return
    now, given = Switches.now(), _given.pop()
    given.put()
    try:
        yield
    finally:
        _given.append(given)
        now.put()


def _flags() -> tuple[str, ...]:
    return tuple(place.fp32_precision for place, _ in PLACES)


def _older(use: Callable[[], T]) -> T | None:
    """Return what an older switch says, None where only the newer ones can say it; that it is older is no news."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return use()
    except RuntimeError:
        return None
