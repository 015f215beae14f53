"""One run of continual training: its settings, the loop, what it measures, and how it is saved and shared."""

from torch_experiments.lab.training.configuration import Config, Settings, run_identity
from torch_experiments.lab.training.loop import (
    PARTS,
    Diverged,
    Keep,
    Run,
    Stopped,
    build,
    head_of,
    make_stream,
    run,
)
from torch_experiments.lab.training.measures import WHOLE, first_infinite

__all__ = ["PARTS", "WHOLE", "Config", "Diverged", "Keep", "Run", "Settings", "Stopped", "build", "first_infinite"]
__all__ += ["head_of", "make_stream", "run", "run_identity"]
