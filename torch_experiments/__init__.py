"""The same checks on real networks: models, cloning, certificates, diagnostics, remedies and the experiments.

``from torch_experiments import certify`` works; torch is imported when a name is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch_experiments import remedies
    from torch_experiments.certificates.audit import audit
    from torch_experiments.certificates.certificate import certify
    from torch_experiments.cloning.exact import clone, layout, residuals
    from torch_experiments.cloning.modulewise import deviations
    from torch_experiments.cloning.partition import coarsest_blocks
    from torch_experiments.cloning.verification import verify
    from torch_experiments.diagnostics import PlasticityMonitor, diagnose
    from torch_experiments.lab import records
    from torch_experiments.lab.training import checkpoints
    from torch_experiments.remedies.agents import SB3Plasticity
    from torch_experiments.remedies.recovery import Recovery
    from torch_experiments.support import loading
    from torch_experiments.units import TraceError, trace

HOMES = {
    "PlasticityMonitor": "diagnostics",
    "Recovery": "remedies.recovery",
    "SB3Plasticity": "remedies.agents",
    "TraceError": "units",
    "audit": "certificates.audit",
    "certify": "certificates.certificate",
    "clone": "cloning.exact",
    "coarsest_blocks": "cloning.partition",
    "deviations": "cloning.modulewise",
    "diagnose": "diagnostics",
    "layout": "cloning.exact",
    "residuals": "cloning.exact",
    "trace": "units",
    "verify": "cloning.verification",
}
MODULES = {
    "checkpoints": "lab.training.checkpoints",
    "loading": "support.loading",
    "records": "lab.records",
    "remedies": "remedies",
}

__all__ = [
    "PlasticityMonitor",
    "Recovery",
    "SB3Plasticity",
    "TraceError",
    "audit",
    "certify",
    "checkpoints",
    "clone",
    "coarsest_blocks",
    "deviations",
    "diagnose",
    "layout",
    "loading",
    "records",
    "remedies",
    "residuals",
    "trace",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in MODULES:
        return import_module(f"{__name__}.{MODULES[name]}")
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
