import numpy as np
import pytest

from paper_figures import free_fraction
from paper_figures.support import style
from tests.paper_figures.finished_cases import mlp, told


def test_free_parameters_are_those_between_living_units():
    dead = np.zeros((5, 2))
    dead[0, 1] = 1.0
    whole, headless = free_fraction.alive(dead)
    assert whole == 1
    lost = 12_288 * 128 + 128 + 128 * 128  # into the first layer, its biases, and out of it
    assert headless == pytest.approx(1 - lost / (12_288 * 128 + 128 + 4 * (128 * 128 + 128) + 128 * 200 + 200))


def test_lines_on_zero_share_an_entry_of_the_legend():
    with style.context():
        (legend,) = free_fraction.draw(mlp()).legends
    entries = [text.get_text() for text in legend.get_texts()]
    assert free_fraction.near_zero(mlp()) == ["batch"]
    assert "batch" not in entries
    assert entries[-1] == "1 settings, near zero"
    assert "Grey lines, near zero: batch, where" in told(free_fraction, mlp())
