"""Reinforcement learning on streams of tasks: environments as arrays, PPO, DQN, and a run."""

from torch_experiments.lab.rl.configuration import SIZES, Config, ValueConfig
from torch_experiments.lab.rl.run import Run, ValueRun, begin, run

__all__ = ["SIZES", "Config", "Run", "ValueConfig", "ValueRun", "begin", "run"]
