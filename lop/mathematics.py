"""`lop kernel` and `lop simulate`: numbers of the theory, and of small networks in NumPy."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from lop.deferred import Deferred

if TYPE_CHECKING:
    from lop import printing
    from simulate import bit_flipping, learners, streams
    from theory import activations, kernels
else:
    bit_flipping, learners, streams = map(
        Deferred, ("simulate.bit_flipping", "simulate.learners", "simulate.streams")
    )
    activations, kernels = Deferred("theory.activations"), Deferred("theory.kernels")
    printing = Deferred("lop.printing")


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
    gain, shift, *correlations = (_rational(*pair) for pair in (("a", a), ("b", b), *(("rho", r) for r in rho)))
    phi = activations.get(name) if (gain, shift) == (1, 0) else activations.modulate(name, gain, shift)
    print(kernels.report(phi, *correlations, certify=certify, prec=prec))


def _rational(name: str, text: str) -> Fraction:
    """Return the rational that a decimal or a fraction stands for.

    Raises:
        ValueError: It is neither.
    """
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{name} is {text!r}; allowed are decimals and fractions such as 0.5 and 1/3") from None


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
    activation: str | None = None,
    switch: str | None = None,
    out: Path | None = None,
    threads: int | None = None,
) -> None:
    """Train a small network on slowly changing regression and print how it ends.

    Args:
        what: bit-flipping, the slowly changing regression of Dohare et al. (2024) and JL25.
        learner: sgd, momentum, adam, l2, adamw, l2-init, shrink-perturb, redo, cbp, cbp-contribution, cbp-adam,
            escape or linear.
        hidden: Hidden units.
        steps: Samples, one a step.
        seeds: One run each, side by side.
        bin_: Steps over which losses are averaged and between two measurements; it has to divide the steps.
        stream: What changes every 10,000 steps: all slow bits are drawn anew (Dohare et al.) or one flips (JL25).
        threshold: Of the target's units, as in the published code or in its paper.
        rate: Learning rate instead of the learner's own.
        activation: relu, leaky_relu, elu, tanh, sigmoid or swish; ReLU if not given.
        switch: KIND@STEP adds what keeps a learner plastic (cbp, redo or escape) from that step on: cbp@2500000.
        out: File for the result; a run that was interrupted goes on from beside it. By default below results/local.
        threads: Seeds computed at once; all cores if not given. It changes nothing but the time.
    """
    chosen = learners.named(learner)
    given = {"rate": rate, "activation": activation} | _switched(switch, steps)
    chosen = replace(chosen, **{name: value for name, value in given.items() if value is not None})
    seen = streams.Stream(stream, threshold=threshold)
    config = bit_flipping.Config(chosen, hidden, steps, seeds, bin_, seen)
    file = out or Path("results/local") / f"bit_flipping-{bit_flipping.key(config)}.npz"
    result = bit_flipping.run(config, file, threads=threads, progress=True)
    printing.show(bit_flipping.summary(result, f"{learner}, {hidden} units, {steps:,} steps"))
    print(f"result: {file}")


def _switched(switch: str | None, steps: int) -> dict[str, Any]:
    """Return the settings of a learner that is kept plastic from a step on.

    Raises:
        ValueError: The text is not of the form, or the step is none of the run.
    """
    if switch is None:
        return {}
    kind, _, step = switch.partition("@")
    if not step.isdecimal() or not 0 <= int(step) < steps:
        raise ValueError(
            f"switch: got {switch!r}; give KIND@STEP with a step below {steps}, such as cbp@{steps // 2}"
        )
    return {"resets": learners.choose("switch", kind, learners.RESETS), "start": int(step)}
