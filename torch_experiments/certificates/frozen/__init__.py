"""Frozen units: which, for which reason, within which radius, and which weights they hold."""

from theory.firmness import Firmness
from torch_experiments.certificates.frozen.analysis import Frozen, FrozenUnit, Missing, frozen_units

__all__ = ["Firmness", "Frozen", "FrozenUnit", "Missing", "frozen_units"]
