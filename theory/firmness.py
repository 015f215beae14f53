"""What a certificate of a frozen unit rests on; a file of its own, as networks of torch need it without SymPy."""

from __future__ import annotations

from enum import StrEnum


class Firmness(StrEnum):
    """What a certificate of a frozen unit rests on, the firmest first.

    >>> [str(kind) for kind in Firmness]
    ['sign', 'interval', 'observed']
    """

    SIGN = "sign"
    INTERVAL = "interval"
    OBSERVED = "observed"
