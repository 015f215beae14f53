"""Exact clones of any network: what is copied, how it is widened and verified, and which copies a network has."""

from torch_experiments.cloning.exact import clone, expand, layout, profile, profiles, residuals
from torch_experiments.cloning.layouts import Layout, Placement, Profile, Residual, residuals_of
from torch_experiments.cloning.plan import Plan, make_plan

__all__ = [
    "Layout",
    "Placement",
    "Plan",
    "Profile",
    "Residual",
    "clone",
    "expand",
    "layout",
    "make_plan",
    "profile",
    "profiles",
    "residuals",
    "residuals_of",
]
