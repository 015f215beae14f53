"""Exact clones of any network: what is copied, how it is widened and verified, and which copies a network has."""

from torch_experiments.cloning.chains import chain_layout, cloned_residual, expand, profiles
from torch_experiments.cloning.exact import clone, layout, residuals
from torch_experiments.cloning.layouts import Layout, Placement, Profile, Residual, profile, residuals_of
from torch_experiments.cloning.modulewise import Deviation, deviations
from torch_experiments.cloning.partition import Blocks, coarsest_blocks
from torch_experiments.cloning.plan import Plan, make_plan
from torch_experiments.cloning.verification import Verification, verify

__all__ = [
    "Blocks",
    "Deviation",
    "Layout",
    "Placement",
    "Plan",
    "Profile",
    "Residual",
    "Verification",
    "chain_layout",
    "clone",
    "cloned_residual",
    "coarsest_blocks",
    "deviations",
    "expand",
    "layout",
    "make_plan",
    "profile",
    "profiles",
    "residuals",
    "residuals_of",
    "verify",
]
