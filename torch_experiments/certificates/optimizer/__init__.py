"""Whether an optimizer keeps a network on its manifold: a verdict for each group of parameters."""

from torch_experiments.certificates.optimizer.sentences import Sentence
from torch_experiments.certificates.optimizer.update_rules import Facts, drift, facts_of
from torch_experiments.certificates.optimizer.verdicts import OptimizerVerdict, optimizer_verdict

__all__ = ["Facts", "OptimizerVerdict", "Sentence", "drift", "facts_of", "optimizer_verdict"]
