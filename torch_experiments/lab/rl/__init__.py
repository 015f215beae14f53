"""Reinforcement learning on streams of tasks: environments as arrays, proximal policy optimisation, and a run."""

from torch_experiments.lab.rl.configuration import SIZES, Config
from torch_experiments.lab.rl.run import Run, run

__all__ = ["SIZES", "Config", "Run", "run"]
