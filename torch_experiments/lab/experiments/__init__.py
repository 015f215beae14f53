"""The experiments, one file each, and how they are run."""

from torch_experiments.lab.experiments.runner import (
    CLONING,
    EXPERIMENTS,
    SEEDS,
    changed,
    chosen,
    computed,
    labelled,
    listing,
    load,
    main,
    over_tasks,
    progress_bar,
    run,
    seeds_of,
    summary,
)

__all__ = ["CLONING", "EXPERIMENTS", "SEEDS", "changed", "chosen", "computed", "labelled", "listing"]
__all__ += ["load", "main", "over_tasks", "progress_bar", "run", "seeds_of", "summary"]
