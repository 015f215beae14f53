"""Every sentence of a certificate is checked by real training, on networks that nobody wrote."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from hypothesis import given, note

from tests.fuzz.networks import TOKENS, Block, Draw, Trap, draws, first, place
from torch_experiments import TraceError, certify, clone
from torch_experiments.certificates.audit import Audit, audit
from torch_experiments.certificates.certificate import Certificate

STEPS = 60


class Judged(NamedTuple):
    """What was said of a draw, what training showed, and the planted traps that silence a unit, told or not."""

    certificate: Certificate
    audit: Audit
    traps: list[tuple[str, bool]]


def judged(draw: Draw) -> Judged | None:
    """Return what became of a draw; None where the network is refused by name."""
    with torch.autocast("cpu", torch.bfloat16, enabled=draw.casts):
        try:
            model, x, y, optimizer = draw.make()
            descended = (
                {"loss": lambda output: (first(output) - y).square().mean()} if draw.returns else {"targets": y}
            )
            found = certify(model, x, optimizer, parts=("frozen", "optimizer"), **descended)
        except TraceError:  # it names the layer and the fix
            return None
        except ValueError as error:
            if "NaN or infinity" not in str(error):  # so it is where the past steps diverged
                raise
            return None
        seen = audit(model, x, optimizer, steps=STEPS, certificate=found, **descended)
        silent = told_or_listed(model, found, lambda: (first(model(x)) - y).square().mean())
        if seen.steps < STEPS:  # it exploded, and copies of numbers near the largest one part by rounding at once
            return None
    if draw.copies > 1 and not draw.traps and not found.blocks.unjudged:  # else a note says where it did not look
        assert found.dimension <= most(draw), f"planted copies were missed: {found}"
    return Judged(found, seen, sprung(draw, model, found, silent))


def sprung(draw, model, found, silent):
    """Return the planted traps whose unit gets no gradient at all, and whether the certificate tells all of it."""
    where = [(trap, place(model, trap)) for trap in draw.traps if trap.kind in ("dead", "saturated", "sign")]
    return [
        (trap.kind, told(f"{at[0]}.weight", at[1], found, silent))
        for trap, at in where
        if at is not None and f"{at[0]}.weight" in silent and bool(silent[f"{at[0]}.weight"][at[1]].all())
    ]


def told(name, unit, found, silent):
    """Return whether all weights of a silent unit are held, or listed with the others of their parameter."""
    held = found.frozen.entries.get(name)
    left = int(silent[name].sum()) - (0 if held is None else int((silent[name] & held).sum()))
    listed = sum(part.entries for part in found.unreached if part.parameter == name)
    return (held is not None and bool(held[unit].all())) or listed >= left


def told_or_listed(model, found, loss):
    """Check that every entry without gradient is held, or listed with a reason; return these entries by name.

    In float64 alone, as in fewer bits a sum is zero by chance, and not in each of two passes; and in a network that
    draws nothing. Elsewhere none is returned.
    """
    if model.training or any(p.dtype != torch.float64 for p in model.parameters()):
        return {}
    with torch.enable_grad():
        trained = dict(model.named_parameters())
        grads = torch.autograd.grad(loss(), list(trained.values()), allow_unused=True)
    silent = {
        name: torch.ones_like(p, dtype=torch.bool) if g is None else g == 0
        for (name, p), g in zip(trained.items(), grads, strict=True)
    }
    for name, mask in silent.items():
        held = found.frozen.entries.get(name, torch.zeros_like(mask))
        listed = sum(part.entries for part in found.unreached if part.parameter == name)
        left = int((mask & ~held).sum())
        assert left <= listed, f"{name}: {left} entries have no gradient and are not held, {listed} are listed"
    return silent


def longer(draw: Draw):
    """Return how far a clone is from its base on longer inputs than its example; None where it has none."""
    if draw.form != "tokens" or draw.copies == 1:
        return None
    try:
        base, x, _ = draw.base()
        wide = clone(base.eval(), draw.copies, example_inputs=x).eval()
    except TraceError:
        return None
    ids = torch.randint(0, 6, (5, 2 * TOKENS))
    f, g = (first(net(ids)).detach() for net in (base, wide))
    return float((f - g).abs().max() / f.abs().max().clamp_min(1e-30))


def most(draw: Draw) -> int:
    """Return in how many directions a clone can move at most: that of its base, whatever happened to both since.

    Steps of training that keep copies keep the pattern; a rule that parts them (its past) frees directions.
    """
    model, x, _ = draw.base()
    if draw.past:
        return sum(p.numel() for p in draw.make()[0].parameters())
    return certify(model.train(draw.training), x, parts=()).parameters


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # RMSNorm under autocast
@given(draws)
def test_no_sentence_of_a_certificate_is_contradicted_by_training(draw):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw.seed)
        both = judged(draw)
    if both is not None:
        note(f"{both.certificate}\n{both.audit}")
        assert both.audit.held, str(both.audit)
        assert all(told for _, told in both.traps), both.traps


THRESHOLD, CLAMP = ("threshold", 0.0, 0.0), ("spelled", "clamp")
ONCE_FALSE = {
    "a sample between the kinks of two copies": Draw(
        "vector", [Block("rms_norm", THRESHOLD), Block("attention", THRESHOLD), Block("attention", THRESHOLD)],
        [], "nadam", 3, True, torch.float64, 8259, copies=2, mode="equitable",
    ),
    "a bias before batch norm, whose gradient is rounding": Draw(
        "vector", [Block("attention", CLAMP, 0.5), Block("batch_norm", CLAMP, 0.5)],
        [], "adam", 0, True, torch.float32, 84, copies=2, mode="equitable", returns=True,
    ),
    "gradients of a later evaluation in the same step": Draw(
        "vector", [Block("gated", ("rrelu", 0.52, -2.0)), Block("gated", ("threshold", -0.53, -0.001))],
        [Trap("dead", 1, 0)], "lbfgs", 0, False, torch.float64, 3017, returns=True,
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
@pytest.mark.parametrize("name", ONCE_FALSE)
def test_what_was_once_a_contradiction_is_none(name):
    draw = ONCE_FALSE[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw.seed)
        both = judged(draw)
    assert both is not None
    assert both.audit.held, str(both.audit)


@given(draws)
def test_clones_of_drawn_networks_agree_on_longer_inputs(draw):
    off = longer(draw)
    assert off is None or off < (1e-10 if draw.dtype == torch.float64 else 1e-3)
