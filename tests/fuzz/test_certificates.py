"""Every sentence of a certificate is checked by real training, on networks that nobody wrote."""

from __future__ import annotations

import torch
from hypothesis import given, note

from tests.fuzz.networks import Draw, draws
from torch_experiments import TraceError, certify
from torch_experiments.certificates.audit import audit

STEPS = 60


def judged(draw: Draw):
    """Return the certificate and the audit of a draw; None where the network is refused by name."""
    try:
        model, x, y, optimizer = draw.make()
        found = certify(model, x, optimizer, targets=y, parts=("frozen", "optimizer"))
    except TraceError:  # it names the layer and the fix
        return None
    except ValueError as error:
        if "NaN or infinity" not in str(error):  # so it is where the past steps diverged
            raise
        return None
    seen = audit(model, x, optimizer, targets=y, steps=STEPS, certificate=found)
    if draw.copies > 1 and not draw.traps:
        assert found.dimension <= most(draw), f"planted copies were missed: {found}"
    return found, seen


def most(draw: Draw) -> int:
    """Return in how many directions a clone can move at most: that of its base, whatever happened to both since.

    Steps of training that keep copies keep the pattern; a rule that parts them (its past) frees directions.
    """
    model, x, _ = draw.base()
    if draw.past:
        return sum(p.numel() for p in draw.make()[0].parameters())
    return certify(model.train(draw.training), x, parts=()).parameters


@given(draws)
def test_no_sentence_of_a_certificate_is_contradicted_by_training(draw):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw.seed)
        both = judged(draw)
    if both is not None:
        note(f"{both[0]}\n{both[1]}")
        assert both[1].held, str(both[1])
