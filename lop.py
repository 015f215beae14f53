"""The command line; `lop --help` lists its commands."""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional, arg

from claims.evidence import ClaimsError

app = tyro.extras.SubcommandApp()


@app.command
def claims(
    ids: Positional[tuple[str, ...]] = (),
    as_json: Annotated[bool, arg(name="json")] = False,
    write: bool = False,
    check: Path | None = None,
    evidence: Path | None = None,
) -> None:
    """What the project claims, and how firmly each claim stands.

    Args:
        ids: Print these in full, such as C9 P2; the table of all if none is given.
        as_json: Print one JSON object a claim.
        write: Write claims/CLAIMS.md and the README's table from the committed evidence.
        check: Exit with 1, and say where, if the verdicts from this evidence differ from the committed ones.
        evidence: Derive the verdicts from this file instead of claims/evidence.json.
    """
    from claims import ledger, render

    entries = ledger.load()
    found = ledger.verdicts(entries, evidence)
    if ids and (write or check):
        raise ClaimsError("ids: --write and --check are of all claims: leave the ids out")
    if write and evidence:
        raise ClaimsError("--write renders the committed evidence: leave --evidence out")
    if write:
        _write_pages()
    elif check is not None:
        _report(render.differences(found, ledger.verdicts(entries, check)))
    elif as_json:
        print(render.to_json(ledger.chosen(entries, ids), found))
    elif ids:
        print("\n".join(render.section(claim, found[claim.id]) for claim in ledger.chosen(entries, ids).values()))
    else:
        _show(render.table(entries, found))


def _write_pages() -> None:
    from claims import evidence, render

    for path, text in render.pages().items():
        evidence.write_text(path, text)
        print(f"wrote {path}")


def _report(lines: list[str]) -> None:
    print("\n".join(lines or ["the verdicts are the committed ones"]))
    if lines:
        sys.exit(1)


def _show(renderable: object) -> None:
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 100).print(renderable)


@app.command
def figures(
    names: Positional[tuple[str, ...]] = (),
    list_: Annotated[bool, arg(name="list")] = False,
    profile: Literal["quick", "full"] = "quick",
    out: Path = Path("paper_figures/out"),
    jobs: int = 1,
) -> None:
    """Compute, check and draw the figures.

    Args:
        names: Figures to draw; all of them if none is named.
        list_: List the figures instead of drawing them.
        profile: How much to compute.
        out: Folder for the PDF and PNG files.
        jobs: Figures made at once, each in a process of its own.
    """
    from paper_figures.support import registry

    registry.main(names=names, list_=list_, profile=profile, out=out, jobs=jobs)


@app.command
def simulate(
    what: Positional[Literal["bit-flipping"]],
    learner: str = "sgd",
    hidden: int = 5,
    steps: int = 1_000_000,
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4),
    bin_: Annotated[int, arg(name="bin")] = 20_000,
    stream: Literal["redraw", "flip-one"] = "redraw",
    threshold: Literal["code", "paper"] = "code",
    rate: float | None = None,
    out: Path | None = None,
    threads: int | None = None,
) -> None:
    """Train a small network on slowly changing regression and print how it ends.

    Args:
        what: bit-flipping, the slowly changing regression of Dohare et al. (2024) and JL25.
        learner: sgd, momentum, adam, l2, adamw, l2-init, shrink-perturb, redo, cbp, cbp-contribution, cbp-adam,
            escape or linear.
        hidden: ReLU units.
        steps: Samples, one a step.
        seeds: One run each, side by side.
        bin_: Steps over which losses are averaged and between two measurements; it has to divide the steps.
        stream: What changes every 10,000 steps: all slow bits are drawn anew (Dohare et al.) or one flips (JL25).
        threshold: Of the target's units, as in the published code or in its paper.
        rate: Learning rate instead of the learner's own.
        out: File for the result; a run that was interrupted goes on from beside it. By default below results/local.
        threads: Seeds computed at once; all cores if not given. It changes nothing but the time.
    """
    from simulate import bit_flipping, learners
    from simulate.streams import Stream

    try:
        chosen = learners.named(learner)
        chosen = chosen if rate is None else replace(chosen, rate=rate)
        config = bit_flipping.Config(chosen, hidden, steps, seeds, bin_, Stream(stream, threshold=threshold))
        file = out or Path("results/local") / f"bit_flipping-{bit_flipping.key(config)}.npz"
        result = bit_flipping.run(config, file, threads=threads, progress=True)
    except (OSError, ValueError) as error:
        print(f"lop: {error}", file=sys.stderr)
        sys.exit(2)
    _show(bit_flipping.summary(result, f"{learner}, {hidden} units, {steps:,} steps"))
    print(f"result: {file}")


@app.command
def kernel(
    name: Positional[str],
    rho: tuple[str, ...] = ("-1", "0", "0.5", "0.9", "1"),
    a: str = "1",
    b: str = "0",
    certify: bool = False,
    prec: int = 64,
) -> None:
    """The dual kernel K(ρ) = E φ(X)φ(Y) of an activation φ, standardised and raw, and its Gaussian moments.

    Args:
        name: An activation such as relu, gelu or tanh; a wrong name lists the near ones.
        rho: Correlations in [-1, 1]: 0.5, 1/3.
        a: Gain of the modulated activation φ(a z + b).
        b: Its shift.
        certify: Add a ball that provably contains K(ρ).
        prec: Bits of the ball.
    """
    from theory.activations import get, modulate
    from theory.kernels import report

    try:
        gain, shift, *correlations = (_rational(*pair) for pair in (("a", a), ("b", b), *(("rho", r) for r in rho)))
        phi = get(name) if (gain, shift) == (1, 0) else modulate(name, gain, shift)
        print(report(phi, *correlations, certify=certify, prec=prec))
    except (ArithmeticError, TypeError, ValueError) as error:
        print(f"lop: {error}", file=sys.stderr)
        sys.exit(2)


@app.command
def run(
    names: Positional[tuple[str, ...]] = (),
    list_: Annotated[bool, arg(name="list")] = False,
    arch: Literal["mlp", "cnn", "resnet18", "vit"] = "mlp",
    profile: Literal["quick", "text", "medium", "paper"] = "quick",
    seeds: str | None = None,
    data: str | None = None,
    protocol: Literal["corrected", "published"] | None = None,
    precision: Literal["float32", "float64", "tf32", "bf16"] | None = None,
    device: str | None = None,
    size: int | None = None,
    measure_every: int | None = None,
    settings: str = "{}",
    threads: int = 1,
    stack: bool = False,
    resume: bool = False,
    ddp: bool = False,
    out: Path = Path("results/local"),
) -> None:
    """Run experiments; finished runs are read, unfinished ones go on with --resume.

    Args:
        names: Experiments, such as e02. e01, of clones, has the profiles quick and paper and not all options.
        list_: List the experiments instead.
        arch: The network.
        profile: How long: quick on digits; text, medium, paper on Tiny ImageNet with 500, 2000, 10000 steps a task.
        seeds: 0..4, 3, or 0,2,5; the profile's own if not given.
        data: A folder or zip in one of the layouts of `lop data info`.
        protocol: As published, or corrected (the default).
        precision: Of the arithmetic; tf32 and bf16 on a GPU.
        device: Such as cuda.
        size: Edge in pixels to which images are reduced.
        measure_every: Steps between measurements.
        settings: Sizes of the network over those of the experiment, as JSON, such as '{"width": 64, "depth": 3}'.
        threads: For torch on the CPU.
        stack: Train all seeds at once.
        resume: Go on from the last checkpoint.
        ddp: Share every batch between the processes that torchrun has started:
            torchrun --standalone --nproc-per-node 2 -m lop run e02 --ddp.
        out: Folder of records and checkpoints.
    """
    from torch_experiments.lab.experiments import runner as experiments

    if list_ or not names:
        _show(experiments.listing())
        return
    changes = {"protocol": protocol, "precision": precision, "device": device}
    changes |= {"size": size, "measure_every": measure_every, "settings": settings}
    options = {"stack": stack, "resume": resume, "threads": threads, "ddp": ddp}
    _guarded(lambda: experiments.main(names, arch, profile, seeds, data, out, changes, **options))


@app.command
def certify(
    model: Positional[str],
    input_: Annotated[str, arg(name="input")] = "",
    checkpoint: Path | None = None,
    settings: str = "{}",
    optimizer: str | None = None,
    optimizer_settings: str = "{}",
    batch: Path | None = None,
    samples: int = 64,
    tokens: int | None = None,
    seed: int = 0,
    dtype: Literal["float32", "float64", "bfloat16"] | None = None,
    box: tuple[float, float] | None = None,
    html: Path | None = None,
    as_json: Annotated[bool, arg(name="json")] = False,
) -> None:
    """Which units of a network are frozen or copies, and whether its optimizer can move them.

    Args:
        model: module:function that makes the network, such as my_package.models:make.
        input_: Shape of one input, such as 3,64,64; random inputs are used unless --batch is given.
        checkpoint: Weights: .safetensors, or a file of torch.save with tensors alone, such as a state dict or
            {"model": state dict, "optimizer": state dict}.
        settings: Keyword arguments of the function, as JSON, such as '{"width": 64}'.
        optimizer: That trains the network: a name of torch.optim in small letters, such as adamw; gradient flow if
            not given. Its state is read from a checkpoint that has it under "optimizer", and its settings with it.
        optimizer_settings: Its keyword arguments, as JSON, such as '{"lr": 0.001}'.
        batch: Your data: a .safetensors file with a tensor named inputs, and one named targets if there are any, or
            a .npy file of inputs.
        samples: Number of random inputs.
        tokens: Draw integers below this number instead of Gaussian inputs.
        seed: Seed of the random inputs.
        dtype: Convert the network first.
        box: Lower and upper bound of all inputs, to find units that are dead wherever inputs lie in it.
        html: Write the certificate to this file too, as a page of HTML.
        as_json: Print JSON.
    """
    from torch_experiments.lab import commands

    def act() -> None:
        subject = commands.Subject(
            model, settings, checkpoint, _shape(input_), samples, tokens, seed, batch, dtype, box
        )
        commands.run_certify(subject, optimizer, optimizer_settings, html, as_json)

    _guarded(act)


@app.command
def diagnose(
    model: Positional[str],
    input_: Annotated[str, arg(name="input")] = "",
    checkpoint: Path | None = None,
    settings: str = "{}",
    batch: Path | None = None,
    samples: int = 512,
    tokens: int | None = None,
    seed: int = 0,
    dtype: Literal["float32", "float64", "bfloat16"] | None = None,
    full: bool = False,
    as_json: Annotated[bool, arg(name="json")] = False,
) -> None:
    """How dead, duplicate, saturated and low in rank the units of a network are.

    Args:
        model: module:function that makes the network.
        input_: Shape of one input, such as 3,64,64; random inputs are used unless --batch is given.
        checkpoint: Weights: .safetensors, or a file of torch.save with tensors alone, such as a state dict or
            {"model": state dict, "optimizer": state dict}.
        settings: Keyword arguments of the function, as JSON, such as '{"width": 64}'.
        batch: Your data: a .safetensors file with a tensor named inputs, and one named targets if there are any, or
            a .npy file of inputs.
        samples: Number of random inputs.
        tokens: Draw integers below this number instead of Gaussian inputs.
        seed: Seed of the random inputs.
        dtype: Convert the network first.
        full: The metrics that cost many passes too: tangent kernel, sharpness, spectrum of the Hessian.
        as_json: Print JSON.
    """
    from torch_experiments.lab import commands

    def act() -> None:
        subject = commands.Subject(model, settings, checkpoint, _shape(input_), samples, tokens, seed, batch, dtype)
        commands.run_diagnose(subject, full, as_json)

    _guarded(act)


@app.command
def clone(
    model: Positional[str],
    out: Path,
    input_: Annotated[str, arg(name="input")] = "",
    factor: int = 2,
    mode: Literal["equal", "equitable", "rows", "columns", "broken"] = "equal",
    checkpoint: Path | None = None,
    settings: str = "{}",
    batch: Path | None = None,
    samples: int = 8,
    tokens: int | None = None,
    seed: int = 0,
    dtype: Literal["float32", "float64", "bfloat16"] | None = None,
) -> None:
    """Widen a network so that every hidden unit has copies and the function stays the same; write its weights.

    Args:
        model: module:function that makes the network.
        out: File for the weights, .safetensors.
        input_: Shape of one input, such as 3,64,64; random inputs are used unless --batch is given.
        factor: Copies of a unit.
        mode: Equal weights, random equitable ones, or one of the kinds that are broken on purpose.
        checkpoint: Weights: .safetensors, or a file of torch.save with tensors alone, such as a state dict or
            {"model": state dict, "optimizer": state dict}.
        settings: Keyword arguments of the function, as JSON, such as '{"width": 64}'.
        batch: Your data: a .safetensors file with a tensor named inputs, or a .npy file of inputs.
        samples: Number of random inputs.
        tokens: Draw integers below this number instead of Gaussian inputs.
        seed: Seed of the random inputs and weights.
        dtype: Convert the network first.
    """
    from torch_experiments.lab import commands

    def act() -> None:
        subject = commands.Subject(model, settings, checkpoint, _shape(input_), samples, tokens, seed, batch, dtype)
        commands.run_clone(subject, factor, mode, out)

    _guarded(act)


def _shape(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(n) for n in text.split(",")) if text else ()
    except ValueError:
        raise ValueError(
            f"input: got {text!r}; write the sizes of one input with commas, such as 3,64,64"
        ) from None


@app.command
def grid(
    names: Positional[tuple[str, ...]],
    arch: tuple[Literal["mlp", "cnn", "resnet18", "vit"], ...] = ("mlp",),
    profile: Literal["quick", "text", "medium", "paper"] = "quick",
    seeds: str | None = None,
    over: tuple[str, ...] = (),
    data: str | None = None,
    protocol: Literal["corrected", "published"] | None = None,
    precision: Literal["float32", "float64", "tf32", "bf16"] | None = None,
    device: str | None = None,
    size: int | None = None,
    measure_every: int | None = None,
    settings: str = "{}",
    engine: Literal["local", "slurm", "ray"] = "local",
    workers: int | None = None,
    options: tuple[str, ...] = (),
    retries: int = 2,
    threads: int = 1,
    stack: bool = False,
    out: Path = Path("results/local"),
) -> None:
    """Run experiments on many processes or machines; the same command goes on where it was stopped.

    Args:
        names: Experiments, such as e03.
        arch: One or more networks.
        profile: How long, as for `lop run`.
        seeds: 0..4, 3, or 0,2,5; the union of the experiments' own if not given.
        over: More axes, such as lr=1e-3,1e-4 norm=none,layer remedy=l2,cbp.
        data: A folder or zip in one of the layouts of `lop data info`.
        protocol: As published, or corrected (the default).
        precision: Of the arithmetic; tf32 and bf16 on a GPU.
        device: Such as cuda.
        size: Edge in pixels to which images are reduced.
        measure_every: Steps between measurements.
        settings: Sizes of the networks over those of the experiments, as JSON, such as '{"width": 64}'.
        engine: Processes of this machine, a Slurm cluster, or a Ray cluster.
        workers: Runs at once; as many as there are cores if not given.
        options: Of the engine: slurm_partition=gpu gpus_per_node=1 timeout_min=720; address=auto num_gpus=0.25.
        retries: How often a failed run is tried again.
        threads: For torch on the CPU, in every run.
        stack: Train all seeds of a cell at once, where it has neither batch norm nor dropout.
        out: Folder of records, checkpoints and logs, which all machines see.
    """
    from torch_experiments.lab.campaign import grids

    changes = {"protocol": protocol, "precision": precision, "device": device}
    changes |= {"size": size, "measure_every": measure_every, "settings": settings}
    where = {"engine": engine, "workers": workers, "options": options, "retries": retries}
    where |= {"threads": threads, "stack": stack}
    _guarded(lambda: _all_well(grids.main(names, arch, profile, seeds, data, out, over, changes, **where)))


@app.command
def evidence(
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
        names: Items of --list; all but cloning if none is named. cloning takes a folder of CIFAR-10, on its own.
        list_: List the items instead: what they are, runs done of planned, and roughly what they cost.
        data: Folder or zip of Tiny ImageNet (of CIFAR-10 for cloning), in one of the layouts of `lop data info`.
        seeds: 0..4, 3, or 0,2,5; the items' own if not given.
        workers: Runs at once on the CPU; as many as there are cores if not given.
        device: cpu, or cuda, where the runs take place one after the other; the items' own if not given.
        gpu: The items for a GPU, one run after the other, and their images a second against the roofline.
        budget: Seconds after which what runs is saved and the command ends, with exit code 75; it goes on later.
        out: Folder that has a folder of records for every item.
    """
    from torch_experiments.lab.campaign import campaign as runs

    if list_:
        _guarded(lambda: _show(runs.listing(names, out, gpu)))
        return
    order = {"data": data, "seeds": seeds, "device": device, "out": out}
    _guarded(lambda: _ended(runs.main(names, order, gpu=gpu, workers=workers, budget=budget)))


def _ended(code: int) -> None:
    if code:
        sys.exit(code)


def _all_well(answer: bool) -> None:
    if not answer:
        sys.exit(1)


@app.command
def results(write: bool = False, check: bool = False, folder: Path | None = None) -> None:
    """What the committed records show, beside what the paper published.

    Args:
        write: Write RESULTS.md instead of printing it.
        check: Exit with 1 if RESULTS.md is not what the records give.
        folder: Of the records, instead of results/.
    """
    from torch_experiments.lab.campaign import items as campaign
    from torch_experiments.lab.report import page

    if write and check:
        print("lop: --write and --check exclude each other", file=sys.stderr)
        sys.exit(2)
    if folder is not None and (fault := _no_records(folder, write or check)):
        print(f"lop: folder: {fault}", file=sys.stderr)
        sys.exit(2)
    code = 0

    def act() -> None:
        nonlocal code
        code = page.main(folder or campaign.RESULTS, save=write, check=check)

    _guarded(act)
    sys.exit(code)


def _no_records(folder: Path, page: bool) -> str:
    if not folder.is_dir():
        return f"there is no folder {folder}"
    if not any(folder.glob("*/*.parquet")):
        return f"there are no records below {folder}; `lop evidence --out` makes a folder an item"
    return "--write and --check are of the committed records; print the page of others" if page else ""


@app.command
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
    from torch_experiments.lab.experiments import runner as experiments

    if action == "fetch":
        _guarded(lambda: experiments.fetch_data(name or "", folder))
    else:
        _guarded(lambda: _show(experiments.data_info(name)))


def _guarded(act: Callable[[], None]) -> None:
    """Run ``act``; an error that says what to do ends the program with its message and exit code 2."""
    try:
        act()
    except BrokenPipeError:
        raise
    except (ArithmeticError, OSError, TypeError, ValueError) as error:
        print(f"lop: {error}", file=sys.stderr)
        sys.exit(2)


def _rational(name: str, text: str) -> Fraction:
    """Return the rational that a decimal or a fraction stands for.

    Raises:
        ValueError: It is neither.
    """
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{name} is {text!r}; allowed are decimals and fractions such as 0.5 and 1/3") from None


def main() -> None:
    """Run the command line; an error in the ledger or the evidence ends it with a message and exit code 2."""
    try:
        app.cli(prog="lop", description=__doc__, config=(tyro.conf.FlagCreatePairsOff,))
    except ClaimsError as error:
        print(f"lop: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("lop: interrupted; finished results are kept, the same command goes on", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
