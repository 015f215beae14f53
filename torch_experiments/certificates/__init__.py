"""What a trained network is trapped on, for how long, and under which optimizer: the parts of a certificate."""

from torch_experiments.certificates.certificate import Certificate, certify
from torch_experiments.certificates.display import copies
from torch_experiments.certificates.frozen import Frozen, frozen_units
from torch_experiments.certificates.manifold import Place, places
from torch_experiments.certificates.near import Cluster, near_clones
from torch_experiments.certificates.optimizer import OptimizerVerdict, optimizer_verdict
from torch_experiments.certificates.stability import Stability, growth_factor
from torch_experiments.certificates.stochastic import LongRun, Minibatches, UnitForecast, long_run

__all__ = [
    "Certificate",
    "Cluster",
    "Frozen",
    "LongRun",
    "Minibatches",
    "OptimizerVerdict",
    "Place",
    "Stability",
    "UnitForecast",
    "certify",
    "copies",
    "frozen_units",
    "growth_factor",
    "long_run",
    "near_clones",
    "optimizer_verdict",
    "places",
]
