"""One run of continual training: its settings, the loop, what it measures, and how it is saved and shared."""

from torch_experiments.lab.training.clock import PARTS
from torch_experiments.lab.training.configuration import Config, Settings, run_identity
from torch_experiments.lab.training.feed import make_stream
from torch_experiments.lab.training.keeping import Diverged, Keep, Stopped, finish
from torch_experiments.lab.training.loop import Run, run
from torch_experiments.lab.training.measures import WHOLE
from torch_experiments.lab.training.networks import build, head_of

__all__ = ["PARTS", "WHOLE", "Config", "Diverged", "Keep", "Run", "Settings", "Stopped", "build", "finish"]
__all__ += ["head_of", "make_stream", "run", "run_identity"]
