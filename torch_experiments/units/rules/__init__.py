"""Rules of operations and modules, one file a family. Importing a file registers its rules."""

from torch_experiments.units.rules import attention, convolution, embedding, linear, matrix, norm, pooling, shape
from torch_experiments.units.rules.elementwise import pointwise

__all__ = ["attention", "convolution", "embedding", "linear", "matrix", "norm", "pointwise", "pooling", "shape"]
