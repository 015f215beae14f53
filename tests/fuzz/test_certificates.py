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
    model, x, y, optimizer = draw.make()
    try:
        found = certify(model, x, optimizer, targets=y, parts=("frozen", "optimizer"))
    except TraceError:  # it names the layer and the fix
        return None
    except ValueError as error:
        if "NaN or infinity" not in str(error):  # so it is where the past steps diverged
            raise
        return None
    seen = audit(model, x, optimizer, targets=y, steps=STEPS, certificate=found)
    return found, seen


@given(draws)
def test_no_sentence_of_a_certificate_is_contradicted_by_training(draw):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw.seed)
        both = judged(draw)
    if both is not None:
        note(f"{both[0]}\n{both[1]}")
        assert both[1].held, str(both[1])
