"""JL25's statements on clones, on the committed records (claims P10 to P12)."""

from itertools import product

import numpy as np
import pytest

from claims.evidence import witness
from torch_experiments.lab.campaign import items
from torch_experiments.lab.report import findings, published, series
from torch_experiments.lab.report.series import Clones


def arches(claim, regimes, holds):
    """Check every architecture that there are records of, and witness its runs."""
    clones = series.clones()
    done = [arch for arch in items.CLONING.configs("") if any(clones.seeds(arch, r) for r in regimes)]
    assert {"mlp", "cnn", "vit"} <= set(done), f"{claim}: records of experiment 1 are gone"
    for arch in done:
        assert holds(clones, arch), arch
        witness(instances=sum(len(clones.seeds(arch, r)) for r in regimes))


@pytest.mark.claim("P10", "training")
def test_clones_stay_under_momentum_and_adam():
    arches("P10", findings.STAY, findings.stay)
    clones = series.clones()
    for arch, regime in product(items.CLONING.configs(""), findings.STAY):
        witness(instances=0, residual=float(clones.over(arch, regime, "clone", "coset_residual")[:, -1].max()))
    for regime in findings.STAY:
        for metric in ("forward_score", "backward_score"):
            score = clones.over("mlp", regime, "clone", metric)
            assert score == pytest.approx(np.ones_like(score), abs=1e-12)


@pytest.mark.control("P10")
def test_clones_under_noise_do_not_count_as_staying():
    assert findings.stay(series.clones(), "mlp", findings.PART) is False


@pytest.mark.claim("P11", "training")
def test_clones_part_under_noise_and_dropout():
    arches("P11", findings.PART, findings.part)
    for regime in findings.PART:
        assert (series.clones().over("mlp", regime, "clone", "forward_score")[:, -1] < 1 - findings.APART).all()


@pytest.mark.control("P11")
def test_clones_under_momentum_do_not_count_as_parted():
    assert findings.part(series.clones(), "mlp", findings.STAY) is False


@pytest.mark.claim("P12", "counterexample")
def test_dropout_makes_use_of_the_added_width_too():
    gain = findings.gain(series.clones(), "mlp", "dropout")
    assert (gain < 0.5).all()
    witness(instances=len(gain))


@pytest.mark.claim("P12", "training")
def test_clones_that_part_use_their_width_and_others_do_not():
    found = findings.of("P12")
    assert found.contrary, found.words
    witness(instances=found.seeds)


@pytest.mark.control("P12")
def test_clones_that_stay_gain_nothing_in_every_seed():
    for regime in findings.STAY:
        assert not (findings.gain(series.clones(), "mlp", regime) < 1).all()


def test_published_cloning_losses_say_the_same_of_dropout():
    found = published.cloning()
    assert found["mlp", "dropout"].clone_loss < found["mlp", "dropout"].base_loss
    assert found["mlp", "dropout"].clone_loss > found["mlp", "momentum"].base_loss


@pytest.mark.parametrize("claim", ["P10", "P11", "P12"])
def test_clones_that_are_no_number_are_never_a_finding(monkeypatch, claim):
    lost = np.full((1, 3), np.nan)
    monkeypatch.setattr(Clones, "over", lambda self, *place: lost)
    found = findings.of(claim)
    assert found.shown is None
    assert not found.contrary
