"""Settings of remedies are checked when a remedy is made, each against what it was declared with."""

import math
from dataclasses import fields

import pytest

from torch_experiments import remedies
from torch_experiments.remedies.settings import ALLOWED, OneOf, Range

WRONG = {
    "redo": [("every", 0), ("every", 2.5), ("threshold", -0.1), ("second_moments", "max")],
    "cbp": [("decay", 1.0), ("maturity", -1), ("rate", math.nan)],
    "snr": [("eta", 1.1), ("most", 0)],
    "escape": [
        ("size", 0),
        ("size", math.inf),
        ("tolerance", -1e-9),
        ("dead", "no"),
        ("direction", "steep"),
        ("second_moments", "none"),
    ],
    "noise": [("decay", 1.5), ("convention", "rowwise"), ("sigma", "0.1")],
    "l2": [("strength", -1.0), ("strength", True)],
    "rank": [("images", 0), ("strength", math.inf)],
    "recovery": [("rank", 1.0), ("every", 0)],
}


@pytest.mark.parametrize(("name", "setting", "value"), [(n, *wrong) for n, many in WRONG.items() for wrong in many])
def test_a_wrong_setting_is_named_with_what_is_allowed(name, setting, value):
    with pytest.raises(ValueError, match=f"{setting}: got {value!r}; it has to be (a |one of)"):
        remedies.make(name, **{setting: value})


def test_an_unknown_setting_is_named_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"settings of the remedy 'redo': got 'often'; allowed are .*'every'"):
        remedies.make("redo", often=10)
    with pytest.raises(ValueError, match=r"remedy 'none': got 'every'; it has none"):
        remedies.make("none", every=10)


@pytest.mark.parametrize("name", remedies.REMEDIES)
def test_every_setting_says_what_is_allowed_and_its_default_is(name):
    for declared in fields(remedies.REMEDIES[name]):
        assert declared.default in declared.metadata[ALLOWED]


def test_ends_count_where_the_bracket_is_square():
    assert [x in Range(0, 1) for x in (0, 0.5, 1)] == [True, True, False]
    assert [x in Range(0, 1, "(]") for x in (0, 0.5, 1)] == [False, True, True]
    assert [x in Range(1, whole=True) for x in (0, 1, 1.5, None, True)] == [False, True, False, False, False]
    assert None in Range(0, optional=True)


def test_what_is_allowed_is_said_in_words():
    assert str(Range(0)) == "a number in [0, ∞)"
    assert str(Range(1, 9, "[]", whole=True, optional=True)) == "a whole number in [1, 9], or None"
    assert str(OneOf(("zero", "mean"))) == "one of 'zero', 'mean'"
