"""The front door: what users import, and the command line.

Names are imported when they are first used, so that ``import lop`` takes no torch and no SymPy:

>>> import lop
>>> round(lop.dual_kernel("relu", 0.5), 6)
0.426422
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lop import extras

if TYPE_CHECKING:
    from lop.application import main
    from theory.kernels import dual_kernel
    from torch_experiments import remedies
    from torch_experiments.certificates.audit import audit
    from torch_experiments.certificates.certificate import certify
    from torch_experiments.cloning.exact import clone
    from torch_experiments.cloning.verification import verify
    from torch_experiments.diagnostics import PlasticityMonitor, diagnose
    from torch_experiments.remedies.agents import SB3Plasticity
    from torch_experiments.remedies.recovery import Recovery

    __version__: str

__all__ = [
    "PlasticityMonitor",
    "Recovery",
    "SB3Plasticity",
    "audit",
    "certify",
    "clone",
    "diagnose",
    "dual_kernel",
    "main",
    "remedies",
    "verify",
]

HOMES = {**dict.fromkeys(__all__, "torch_experiments"), "dual_kernel": "theory.kernels", "main": "lop.application"}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("lop-companion")
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    try:
        return getattr(import_module(HOMES[name]), name)
    except ModuleNotFoundError as error:
        raise extras.named(error) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
